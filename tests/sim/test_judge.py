"""Launching and scoring: the right attacks on the right targets, and the truth in the right order."""

import dataclasses

import numpy as np
import pyarrow.parquet as pq
import pytest

from attacks.attack import lacks
from attacks.observation import Guess
from attacks.registry import ATTACKS
from clients.randomness import generator
from sim.given import federation_of
from sim.judge import SCHEMA, guess_all, judge, score_guesses, table, truth_of
from sim.observe import observe
from sim.prepare import prepare
from sim.results import Refusal


@pytest.fixture(scope="module")
def truth(tiny):
    return truth_of(federation_of(tiny))


@pytest.fixture(scope="module")
def targets(tiny, finished, quiet):
    return observe(tiny, finished[0], prepare(tiny, finished[0], quiet))


def only(scenario, *names):
    return scenario.model_copy(update={"attacks": scenario.attacks.model_copy(update={"names": names})})


def per_client(truth, scores, population=None):
    return [Guess(scores[truth.client == c], population) for c in np.unique(truth.client)]


def test_the_truth_is_in_client_order(tiny, truth):
    start = 0
    for client in federation_of(tiny).clients:
        rows = slice(start, start + len(client))
        assert np.array_equal(truth.member[rows], client.member) and np.array_equal(truth.label[rows], client.y)
        assert set(truth.client[rows]) == {client.client} and set(truth.person[rows]) == {client.person}
        start += len(client)
    assert start == len(truth.member)
    part = truth.of(truth.client == 2)
    assert np.array_equal(part.member, federation_of(tiny).clients[2].member) and len(part.label) == 50


def test_attacks_are_launched_where_they_apply(targets):
    applied = {(a, t.vantage) for t in targets for a in ATTACKS if not lacks(ATTACKS[a], t.observations[0])}
    assert {(a, who) for a, who in applied if a in ("cosine", "loss-series", "loss", "lira", "rmia")} == {
        *((attack, "server") for attack in ("cosine", "loss-series")),
        *((attack, who) for attack in ("loss", "lira", "rmia") for who in ("global-user", "query")),
    }


def test_judging_again_gives_what_was_stored(tiny, targets, truth, finished, quiet):
    folder, results = finished
    judged, refused = judge(only(tiny, "loss"), targets, truth, quiet)
    assert {refusal.vantage for refusal in refused} == {"server"}
    # What holds for all attacks at once depends on how many there are; time is never the same twice.
    apart = {"cpu_seconds": 0, "auc_ci_adjusted": (0.0, 1.0), "tpr_low_adjusted": None}
    stored = {(a.target, a.precision): a.model_copy(update=apart) for a in results.attacks if a.attack == "loss"}
    assert {(j.result.target, j.result.precision): j.result.model_copy(update=apart) for j in judged} == stored
    again = table(judged)
    assert again.schema == SCHEMA
    assert again.equals(pq.read_table(folder.scores, filters=[("attack", "=", "loss")]).replace_schema_metadata(None))


def test_an_attack_that_a_vantage_lacks_something_for_is_refused_with_the_reason(tiny, targets, truth, quiet):
    """Under secure aggregation there are no single updates to hold against: the other attacks go on."""
    (server,) = [target for target in targets if target.vantage == "server"]
    (seen,) = server.observations
    blind = [dataclasses.replace(each, updates={}) for each in seen.rounds]
    sums = dataclasses.replace(server, observations=(dataclasses.replace(seen, rounds=blind),))
    judged, refused = judge(only(tiny, "cosine", "loss-series"), [sums], truth, quiet)
    assert [each.result.attack for each in judged] == ["loss-series"]
    (refusal,) = refused
    assert refusal == Refusal(
        attack="cosine",
        vantage="server",
        target="global",
        precision="float32",
        output=None,
        lacks="updates of single clients",
        reason="attack 'cosine' needs updates of single clients, vantage 'server' has no updates of single clients",
    )


def test_each_observation_has_a_generator_of_its_own(tiny, targets, monkeypatch):
    draws = []

    def listen(scenario, name, observation, rng):
        draws.append(rng.integers(2**60))
        return Guess(np.zeros(len(observation.candidates)))

    monkeypatch.setattr("sim.judge.launch_watched", listen)
    observations = next(t for t in targets if t.target == "personal").observations
    guess_all(tiny, "loss", observations, "here")
    guess_all(tiny, "lira", observations, "here")
    guess_all(tiny, "loss", observations, "there")
    assert len(set(draws)) == len(draws) == 12
    assert draws[1] == generator(tiny.seed, "attack", "here", "loss", 1).integers(2**60)


def test_scores_meet_the_truth_of_their_own_record(tiny, truth):
    perfect = score_guesses(tiny, per_client(truth, truth.member.astype(float)), truth, "a")
    assert perfect.auc == 1 and perfect.auc_ci[1] == 1
    assert score_guesses(tiny, per_client(truth, -truth.member.astype(float)), truth, "a").auc == 0
    assert score_guesses(tiny, [Guess(truth.member.astype(float))], truth, "a").auc == 1


def test_thresholds_are_per_client_where_models_are(tiny, truth):
    """Clients on scales of their own: only a threshold per client keeps to its false-positive rate."""
    rng = np.random.default_rng(0)
    scale = 1000.0 * truth.client
    scores = scale + rng.normal(size=len(scale)) + 50 * truth.member
    guesses = [Guess(scores[truth.client == c], 1000.0 * c + rng.normal(size=400)) for c in range(4)]
    own = score_guesses(tiny, guesses, truth, "a").own_threshold
    assert own.tpr == 1 and own.realised_fpr < 0.1


def test_intervals_follow_from_seed_and_purpose(tiny, truth):
    guesses = per_client(truth, np.random.default_rng(0).normal(size=len(truth.member)))
    one, same, other = (score_guesses(tiny, guesses, truth, purpose) for purpose in ("a", "a", "b"))
    assert one == same and one.auc == other.auc and one.auc_ci != other.auc_ci
