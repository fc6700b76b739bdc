"""Whole federations under each protection: the same models where nothing is lost, and nothing to find on the wire."""

import io

import numpy as np
import pytest
from rich.console import Console

from clients.accounting import epsilon, subsampled_gaussian
from clients.weights import to_vector
from sim import transcript
from sim.budgets import budgets
from sim.defences import DEFENCES
from sim.engines import ENGINES
from sim.engines.inprocess import InProcessGrid
from sim.federate import GLOBAL, federate
from sim.folder import RunFolder
from sim.given import stored_model
from sim.noise import Participation, distributed_epsilon
from sim.progress import Progress
from sim.scenario import load_scenario

PROTOCOLS = ("secagg", "secagg-plus-flower", "ckks")


class Federated:
    """What one federation left behind."""

    def __init__(self, scenario, folder, said):
        self.scenario, self.folder, self.said = scenario, folder, said
        self.rounds = transcript.ServerRounds(folder.transcript)
        self.summaries = transcript.summaries(folder.transcript)
        self.ledger = transcript.ledger(folder.transcript)
        self.weights = to_vector(stored_model(scenario, folder.models / GLOBAL))


@pytest.fixture
def run(tiny_file, tmp_path_factory):
    """Federates the small scenario with some settings changed."""

    def federated(*sets, engine="inprocess"):
        scenario = load_scenario(tiny_file, sets)
        folder, said = RunFolder(tmp_path_factory.mktemp("run")), io.StringIO()
        for part in (folder.transcript, folder.models):
            part.mkdir()
        federate(scenario, ENGINES[engine], folder, Progress(Console(file=said, width=200)))
        return Federated(scenario, folder, said.getvalue())

    return federated


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_protocol_changes_what_is_seen_and_nothing_else(run, protocol):
    plain, hidden = run(), run(f"aggregation.protocol={protocol}")
    np.testing.assert_allclose(hidden.weights, plain.weights, atol=2e-5)
    for open_, secret in zip(plain.rounds, hidden.rounds, strict=True):
        assert sorted(open_.updates) == [0, 1, 2, 3]
        assert not secret.updates
        assert secret.clients == open_.clients
        np.testing.assert_allclose(secret.mean, open_.mean, atol=2e-5)
    assert [s.accuracy for s in hidden.summaries] == pytest.approx([s.accuracy for s in plain.summaries], abs=0.02)


def test_masks_cancel_to_the_last_bit(run):
    """Keys are fresh in every run, and the model is the same: sums of whole numbers are exact."""
    first, second = (run("aggregation.protocol=secagg") for _ in range(2))
    assert np.array_equal(first.weights, second.weights)


@pytest.mark.parametrize("protocol", ["secagg", "ckks"])
def test_nothing_on_the_wire_gives_a_client_away(run, monkeypatch, protocol):
    """Every reply of a whole run, as bytes: no update, weight or metric of anybody, in any form it is held in."""
    replies = []
    deliver = InProcessGrid._deliver

    def tapped(grid, message):
        reply = deliver(grid, message)
        if message.metadata.message_type != "train.personalize":
            replies.append(reply.content)
        return reply

    plain = run()
    monkeypatch.setattr(InProcessGrid, "_deliver", tapped)
    run(f"aggregation.protocol={protocol}")
    wire = b"".join(_bytes_of(content) for content in replies)
    assert len(wire) > 4 * 3 * 4 * len(plain.weights)  # four clients, three rounds, at least four bytes a value
    for seen in plain.rounds:
        for update in seen.updates.values():
            for form in (update, -update, seen.weights - update, update.astype(np.float64)):
                pairs = (form[i : i + 2] for i in range(0, len(update) - 1, 40))
                assert not any(pair.tobytes() in wire for pair in pairs if pair.all())  # zeros are everywhere
    trained = [content for content in replies if "masked" in content or "ckks-ciphertexts" in content]
    assert len(trained) >= 12
    assert all(not content.metric_records for content in trained)


def _bytes_of(content):
    parts = [array.data for record in content.array_records.values() for array in record.values()]
    for record in content.config_records.values():
        for value in record.values():
            parts += [part for part in (value if isinstance(value, list) else [value]) if isinstance(part, bytes)]
    return b"".join(parts)


@pytest.mark.parametrize(
    "sets",
    [
        ["privacy.record.noise_multiplier=1"],
        ["privacy.client.where=central", "privacy.client.noise_multiplier=1"],
        ["privacy.client.where=central", "privacy.client.noise_multiplier=1", "privacy.client.clipping=adaptive"],
        ["privacy.client.where=local", "privacy.client.noise_multiplier=1"],
        ["privacy.client.where=distributed", "privacy.client.noise_multiplier=1", "aggregation.protocol=secagg"],
    ],
    ids=["record", "central", "adaptive", "local", "distributed"],
)
def test_noise_is_drawn_from_the_seed_alone(run, sets):
    first, again, plain = run(*sets), run(*sets), run()
    assert np.array_equal(first.weights, again.weights)
    assert np.abs(first.weights - plain.weights).max() > 1e-2
    assert run(*sets, "seed=8").weights.tolist() != first.weights.tolist()


def test_central_noise_looks_the_same_under_secure_aggregation(run):
    sets = ["privacy.client.where=central", "privacy.client.noise_multiplier=0.5", "privacy.client.clipping_norm=0.05"]
    plain, hidden = run(*sets), run(*sets, "aggregation.protocol=secagg")
    np.testing.assert_allclose(hidden.weights, plain.weights, atol=1e-5)


def test_clients_that_promise_something_report_nothing_else(run):
    lines = (run("privacy.record.noise_multiplier=1").folder.transcript / transcript.ROUNDS).read_text()
    assert '"loss"' not in lines
    assert '"num-examples": 1.0' in lines


def test_clients_stop_when_their_own_budget_is_spent(run):
    """A client counts its rounds itself, declines the third, and keeps enough for its personal model."""
    sets = ["privacy.record.noise_multiplier=1", "privacy.record.sampling_rate=0.5"]
    limit = epsilon(subsampled_gaussian(1, 0.5, 2 * 2 + 3 * 2), 1e-5)
    done = run(*sets, f"privacy.record.max_epsilon={limit + 1e-6}")
    assert len(done.summaries) == 2
    assert done.ledger.rounds == {0: 2, 1: 2, 2: 2, 3: 2}
    assert "have spent their budget" in done.ledger.stopped
    assert "training stopped in round 3" in done.said
    spent = budgets(done.scenario, Participation((4, 4), tuple(done.ledger.rounds.values())))
    assert max(row.epsilon for row in spent if row.epsilon != "inf") <= limit + 1e-6


def test_the_server_stops_before_the_release_that_would_pass_its_budget(run):
    limit = epsilon(subsampled_gaussian(2, 1.0, 2), 1e-5)
    sets = ["privacy.client.where=central", "privacy.client.noise_multiplier=2"]
    done = run(*sets, f"privacy.client.max_epsilon={limit + 1e-6}")
    assert [s.round for s in done.summaries] == [1, 2]
    assert done.ledger.stopped == "after round 2: one more would pass max_epsilon"


def test_a_sum_is_not_opened_once_it_would_pass_the_budget(run):
    sets = ["privacy.client.where=distributed", "privacy.client.noise_multiplier=2", "aggregation.protocol=secagg"]
    probe = run(*sets)
    limit = distributed_epsilon(probe.scenario, (4, 4), known=1)  # against a peer, which knows its own noise
    done = run(*sets, f"privacy.client.max_epsilon={limit + 1e-6}")
    assert [s.round for s in done.summaries] == [1, 2]
    assert "in round 3, before anything was released" in done.ledger.stopped


def test_too_few_clients_for_a_sum_leave_the_model_as_it_is(run):
    """Coins that leave one or two of four clients in a round: refused, said, and the next round goes on."""
    done = run(
        "aggregation.protocol=secagg",
        "federation.sampling=poisson",
        "federation.participation=0.7",
        "federation.rounds=12",
    )
    refused = [s for s in done.summaries if s.refused]
    assert refused
    assert len(refused) < 12
    assert all("a sum of so few" in s.refused for s in refused)
    for now, after in zip(done.summaries, done.summaries[1:], strict=False):
        same = np.array_equal(done.rounds[now.round - 1].weights, done.rounds[after.round - 1].weights)
        assert same == bool(now.refused)


@pytest.mark.slow
def test_secure_aggregation_with_noise_is_the_same_on_ray(run):
    sets = ["privacy.client.where=distributed", "privacy.client.noise_multiplier=1", "aggregation.protocol=secagg"]
    assert np.array_equal(run(*sets).weights, run(*sets, engine="ray").weights)


def test_every_defence_is_a_setting_that_exists(run):
    for defence in DEFENCES:
        assert defence.title
        assert defence.against
        assert defence.source
    assert {d.setting.split(" = ")[0] for d in DEFENCES} == {
        "privacy.record",
        "privacy.client.where",
        "aggregation.protocol",
        "federation.combine",
    }
