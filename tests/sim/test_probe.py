"""A server that deviates, through real Flower messages: what comes back, what it costs, and what stays as it was."""

from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from attacks.malicious import suppression
from attacks.registry import launch
from clients.randomness import generator
from clients.training import train
from clients.weights import load_vector, to_vector
from sim import transcript
from sim.budgets import budgets
from sim.engines import ENGINES
from sim.federate import federate
from sim.folder import create
from sim.given import federation_of, fresh_model
from sim.judge import judge, truth_of
from sim.noise import Participation, planned, record_epsilon, rounds_of_a_client
from sim.observe import Target
from sim.probe import observation, probes, probing
from sim.progress import Progress
from sim.results import ProbeResult
from sim.scenario import changed
from sim.vigil import DIGESTS, watch

EVERYTHING = ["loss", "gradient-ascent", "privacy-backdoor", "gradient-suppression", "detector-neuron"]
SMALL = {"isolated": 2, "detector_rounds": 2, "backdoor_steps": 5}


@pytest.fixture(scope="module")
def deviating(tiny):
    return changed(
        tiny, {"federation": {"rounds": 2}, "attacks": {"names": EVERYTHING, "probes": SMALL, "references": 1}}
    )


def federated(scenario, quiet, place, probed=True):
    folder = create(scenario, place)
    afterwards = probing(scenario, folder, quiet) if probed else None
    federate(scenario, ENGINES["inprocess"], folder, quiet, afterwards)
    return folder


@pytest.fixture(scope="module")
def plain(deviating, quiet, tmp_path_factory):
    return federated(deviating, quiet, tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def summed(deviating):
    return changed(deviating, {"aggregation": {"protocol": "ckks"}})


@pytest.fixture(scope="module")
def masked(summed, quiet, tmp_path_factory):
    return federated(summed, quiet, tmp_path_factory.mktemp("masked"))


def with_noise(scenario, **record):
    return changed(scenario, {"privacy": {"record": {"sampling_rate": 1.0, **record}}})


def test_clients_that_compare_what_they_were_sent_unmask_no_sum_of_different_models(deviating, quiet, tmp_path):
    """Masks alone do not prevent suppression, which the next test shows in encrypted sums."""
    one = {"names": ["gradient-suppression", "gradient-ascent"], "probes": {**SMALL, "isolated": 1}}
    scenario = changed(deviating, {"aggregation": {"protocol": "secagg"}, "attacks": one})
    found = {probe.attack: probe for probe in probes(scenario, federated(scenario, quiet, tmp_path), "train")}
    assert "did not sign that it was sent what client" in found["gradient-suppression"].refused
    assert found["gradient-suppression"].mean is None and found["gradient-ascent"].mean is not None


def test_suppression_through_real_encrypted_sums_gives_the_victims_update_up_to_rounding(summed, masked):
    found = [p for p in probes(summed, masked, "train") if p.attack == suppression.NAME]
    assert len(found) == 2
    clients = federation_of(summed).clients
    for position, probe in enumerate(found):
        assert not probe.updates
        victim, update = suppression.isolated(fresh_model(summed), probe)
        model, number = load_vector(fresh_model(summed), probe.weights), 2 + 2 + 1 + 1 + position
        train(model, *clients[victim].members, summed.training, generator(summed.seed, "train", number, victim))
        share = len(clients[victim].members[1]) / sum(len(c.members[1]) for c in clients)
        truth = share * (probe.weights - to_vector(model))
        told = update != 0
        assert told.mean() > 0.5
        np.testing.assert_allclose(update[told], truth[told], atol=1e-6)
        assert np.abs(truth[~told]).max() > 1e-3  # the last biases: those move at everybody, and are not told


def test_honest_models_and_rounds_are_what_they_are_without_probes(deviating, plain, quiet, tmp_path):
    honest = federated(deviating, quiet, tmp_path, probed=False)
    files = [f.relative_to(honest.path) for part in ("models", "transcript") for f in (honest.path / part).glob("*.s*")]
    assert len(files) > 5
    for file in files:
        assert (honest.path / file).read_bytes() == (plain.path / file).read_bytes()


@pytest.mark.parametrize("name", EVERYTHING[1:])
def test_every_attack_scores_every_record_from_what_came_back(deviating, plain, summed, masked, name):
    kind = "personalize" if name == "privacy-backdoor" else "train"
    for scenario, folder in ((deviating, plain), (summed, masked)):
        seen = observation(scenario, kind)
        found = [probe for probe in probes(scenario, folder, kind) if probe.attack == name]
        assert found
        assert [probe.part for probe in found] == list(range(len(found)))
        guess = launch(name, replace(seen, probes=tuple(found)), np.random.default_rng(0))
        assert np.isfinite(guess.scores).all()


def test_the_digests_of_what_clients_were_sent_catch_whatever_is_not_the_same_for_all(deviating, plain, summed, masked):
    apart = {"gradient-ascent", "privacy-backdoor", "gradient-suppression", "detector-neuron"}
    for scenario, folder, expected in (
        (deviating, plain, apart),
        (summed, masked, {"privacy-backdoor", "gradient-suppression"}),
    ):
        results = watch(scenario, folder, judged(scenario, folder))
        caught = {each.attack for each in results if by_check(each)[DIGESTS].noticed}
        assert caught == expected
        assert all(by_check(each)[DIGESTS].noticed in (0, each.clients) for each in results)


def test_dead_units_are_seen_by_those_who_got_them(deviating, plain):
    found = next(each for each in watch(deviating, plain, judged(deviating, plain)) if each.attack == suppression.NAME)
    assert by_check(found)["dead units"].noticed == 4  # each of the two victims in the other one's round


def judged(scenario, folder):
    """What the judge makes of the deviating attacks alone."""
    kinds = ("train", "personalize")
    own = {kind: replace(observation(scenario, kind), probes=tuple(probes(scenario, folder, kind))) for kind in kinds}
    targets = [
        Target("malicious-server", attacked, "float32", None, 4, (0, 1, 2, 3), (own[kind],))
        for kind, attacked in (("train", "global"), ("personalize", "personal"))
    ]
    return judge(scenario, targets, truth_of(federation_of(scenario)), Progress(Console(quiet=True)))[0]


def test_records_that_nothing_was_left_for_are_told_apart(summed, masked):
    found = {each.attack: each for each in watch(summed, masked, judged(summed, masked))}
    everyone = [len(client.y) for client in federation_of(summed).clients]
    assert found["gradient-ascent"].covered == found["privacy-backdoor"].covered == sum(everyone)
    assert found["gradient-suppression"].covered == everyone[0] + everyone[3]
    assert 0 < found["detector-neuron"].covered <= 2 * 8  # two rounds of a model with eight units


def by_check(result: ProbeResult):
    return {each.check: each for each in result.detections}


def test_what_clients_trained_in_counts_the_probes(deviating, plain, tiny):
    ledger = transcript.ledger(plain.transcript)
    trains = len(probes(deviating, plain, "train"))
    assert trains == 1 + 2 + 2
    assert set(ledger.rounds.values()) == {2 + trains}
    assert ledger.probed == (4,) * trains
    assert ledger.personal == 2
    assert planned(deviating).trained == (2 + trains,) * 4
    assert planned(tiny).trained == (3,) * 4


def test_budgets_count_the_probes(deviating):
    noisy = with_noise(deviating, noise_multiplier=2.0)
    honest = changed(noisy, {"attacks": {"names": ["loss"]}})
    rows = {row.vantage: row for row in budgets(noisy, planned(noisy)) if row.unit == "record"}
    seven = Participation(arrived=(4,) * 2, trained=(2 + 5,) * 4)
    assert rows["server"].epsilon == record_epsilon(noisy, seven, personal=0)
    assert rows["malicious-server"].epsilon == record_epsilon(noisy, seven, personal=2)
    without = {row.vantage: row for row in budgets(honest, planned(honest)) if row.unit == "record"}
    assert rows["server"].epsilon > without["server"].epsilon
    assert "malicious-server" not in without


def test_noise_that_is_solved_for_covers_the_probes(deviating):
    noisy = with_noise(deviating, epsilon=4.0)
    worst = max(row.epsilon for row in budgets(noisy, planned(noisy)) if row.unit == "record")
    assert worst == pytest.approx(4.0, rel=1e-2)
    assert worst <= 4.0


def test_clients_refuse_probes_that_their_budgets_have_no_room_for(deviating, quiet, tmp_path):
    """A budget of exactly the honest rounds and one personal model."""
    noisy = with_noise(deviating, noise_multiplier=2.0)
    two = Participation(arrived=(4,) * 2, trained=(2,) * 4)
    limit = record_epsilon(noisy, two, personal=planned(noisy).personal) * 1.0001
    noisy = with_noise(deviating, noise_multiplier=2.0, max_epsilon=limit)
    assert rounds_of_a_client(noisy) == 2
    folder = federated(noisy, quiet, tmp_path)
    refused = {probe.attack: probe.refused for probe in probes(noisy, folder, "train")}
    assert refused.keys() == {"gradient-ascent", "gradient-suppression", "detector-neuron"}
    assert all("budgets have no room" in why for why in refused.values())
    ledger = transcript.ledger(folder.transcript)
    assert set(ledger.rounds.values()) == {2}
    assert ledger.probed == ()
