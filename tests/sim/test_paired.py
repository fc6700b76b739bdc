"""Which attacks are compared with which, and that both sides of a comparison are of the same records."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from edge.config import EdgeConfig
from sim.judge import Judged, Truth
from sim.paired import comparisons
from sim.results import AttackResult
from sim.score import auc

SCENARIO = SimpleNamespace(seed=5, edge=EdgeConfig())  # all that is asked of a scenario here
MODELS = {
    "training": ("server", "global", "float32"),
    "global float32": ("global-user", "global", "float32"),
    "global int8": ("global-user", "global", "int8"),
    "personal float32": ("query", "personal", "float32"),
    "personal int8": ("query", "personal", "int8"),
}


@pytest.fixture(scope="module")
def truth():
    count = np.arange(240)
    return Truth(
        member=count % 2 == 0,
        trained=count >= 0,
        client=count // 40,
        person=count // 80,
        label=count % 3,
        row=count,
        classes=("a", "b", "c"),
    )


@pytest.fixture(scope="module")
def judged(truth):
    rng = np.random.default_rng(2)
    tried = [("cosine", "training"), *((a, m) for m in MODELS if m != "training" for a in ("loss", "rmia"))]
    return [one(attack, model, rng.normal(size=240) + 0.5 * truth.member, truth) for attack, model in tried]


def one(attack, model, scores, truth):
    vantage, target, precision = MODELS[model]
    result = AttackResult.model_construct(
        attack=attack,
        vantage=vantage,
        target=target,
        precision=precision,
        output="logits",
        auc=auc(scores, truth.member),
        auc_ci_adjusted=(0.0, 1.0),
    )
    return Judged(result, scores, truth)


def test_each_attack_is_compared_with_itself_on_another_model(judged):
    found = [(c.question, c.attack, c.before, c.after) for c in comparisons(SCENARIO, judged)]
    sides = [
        ("personalising", "global float32", "personal float32"),
        ("rounding", "global float32", "global int8"),
        ("rounding", "personal float32", "personal int8"),
    ]
    same = [(question, attack, *models) for question, *models in sides for attack in ("loss", "rmia")]
    assert found == [*same, ("server", "cosine", "global float32", "the training")]


def test_the_server_is_held_against_the_strongest_user_on_the_same_records(judged, truth):
    lead = comparisons(SCENARIO, judged)[-1]
    scores = {(j.result.attack, j.result.vantage, j.result.precision): j.scores for j in judged}
    areas = {attack: auc(scores[attack, "global-user", "float32"], truth.member) for attack in ("loss", "rmia")}
    assert lead.attack_before == max(areas, key=areas.get)
    inside = auc(scores["cosine", "server", "float32"], truth.member)
    assert lead.auc_difference == pytest.approx(inside - max(areas.values()))
    assert lead.ci[0] < lead.auc_difference < lead.ci[1]


def test_a_difference_is_after_less_before_and_the_same_every_time(judged, truth):
    first = comparisons(SCENARIO, judged)
    scores = {(j.result.attack, j.result.vantage, j.result.precision): j.scores for j in judged}
    before, after = scores["loss", "global-user", "float32"], scores["loss", "query", "float32"]
    assert first[0].auc_difference == pytest.approx(auc(after, truth.member) - auc(before, truth.member))
    assert comparisons(SCENARIO, judged) == first


def test_an_attack_on_one_model_only_is_not_compared(judged):
    assert [each.question for each in comparisons(SCENARIO, judged[:3])] == ["server"]
    assert comparisons(SCENARIO, judged[1:3]) == []


def test_models_are_compared_on_the_records_of_clients_that_trained_both(judged, truth):
    """The global model knows nothing of clients 2 to 5; their personal models do: a pair has one truth, or is none."""
    one_of_them = next(j for j in judged if j.result.target == "personal" and j.result.precision == "float32")
    shared = next(j for j in judged if (j.result.vantage, j.result.precision) == ("global-user", "float32"))
    part = truth.of_model((0, 1))
    assert part.member.sum() == 40 and part.trained.sum() == 80
    (found,) = comparisons(SCENARIO, [Judged(shared.result, shared.scores, part), one_of_them])
    rows = truth.client < 2
    before, after = auc(shared.scores[rows], truth.member[rows]), auc(one_of_them.scores[rows], truth.member[rows])
    assert found.auc_difference == pytest.approx(after - before)
    assert comparisons(SCENARIO, [Judged(shared.result, shared.scores, truth.of_model(())), one_of_them]) == []
