"""The owner's limits, and the share of queries that it flags over several models."""

from dataclasses import replace

import numpy as np
import pytest

from attacks.observation import Guess, Observation, Oracle, QueriesRefusedError
from sim.given import federation_of
from sim.observe import candidates
from sim.owner import flagged, launch_watched
from sim.references import population
from sim.scenario import Scenario

SCENARIO = Scenario.model_validate(
    {
        "name": "owner",
        "data": {"source": "digits", "partition": "iid", "clients": 3},
        "model": {"name": "mlp"},
        "attacks": {"names": ["loss"], "queries": 20},
    }
)


def observation():
    classes = len(federation_of(SCENARIO).classes)
    return Observation(
        vantage="query",
        candidates=candidates(federation_of(SCENARIO).clients),
        population=population(SCENARIO),
        oracle=Oracle(lambda x: x.reshape(len(x), -1)[:, 20 : 20 + classes]),
    )


def test_flagged_is_a_share_of_queries():
    few, many = (Guess(np.zeros(n), queries_per_record=q) for n, q in ((10, 1.0), (30, 3.0)))
    assert flagged([replace(few, flagged=0.8), replace(many, flagged=0.1)]) == pytest.approx((8 + 9) / 100)
    assert flagged([few, replace(many, flagged=0.1)]) == pytest.approx(0.1)
    assert flagged([few, many]) is None


def test_an_attack_keeps_to_what_is_answered():
    guess = launch_watched(SCENARIO, "label-noise", observation(), np.random.default_rng(0))
    assert 10 < guess.queries_per_record <= 20


def test_each_attack_has_all_of_the_queries():
    seen = observation()
    guesses = [launch_watched(SCENARIO, "loss", seen, np.random.default_rng(0)) for _ in range(25)]
    assert len({guess.queries_per_record for guess in guesses}) == 1
    assert seen.oracle.queries == 0
    assert 0 <= guesses[0].flagged <= 1


def test_more_than_is_answered_is_refused():
    none = SCENARIO.model_copy(update={"attacks": SCENARIO.attacks.model_copy(update={"queries": 1})})
    with pytest.raises(QueriesRefusedError, match=r"Raise attacks\.queries, or name an attack that asks less"):
        launch_watched(none, "loss", observation(), np.random.default_rng(0))
