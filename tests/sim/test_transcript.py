"""The transcript gives back what was put in, round by round."""

import json

import numpy as np
import pytest

from server.strategy import RoundRecord
from sim import transcript
from sim.transcript import Ledger, ServerRounds


def record(number, **changes):
    """Round `number`: clients 0 and 2 took part, 1 was lost."""
    rng = np.random.default_rng(number)
    fields = {
        "number": number,
        "weights": rng.normal(size=5).astype(np.float32),
        "clients": (0, 2),
        "mean": rng.normal(size=5).astype(np.float32),
        "updates": {c: rng.normal(size=5).astype(np.float32) for c in (0, 2)},
        "metrics": {0: {"num-examples": 10.0, "loss": 3.0}, 2: {"num-examples": 30.0, "loss": 1.0}},
        "dropped": {1: "no reply came"},
    }
    return RoundRecord(**fields | changes)


def under_secure_aggregation(number):
    return record(number, updates={}, metrics={})


def refused(number):
    zero = np.zeros(5, dtype=np.float32)
    return record(number, clients=(), mean=zero, updates={}, metrics={}, refused="too few are left")


@pytest.fixture
def written(tmp_path):
    for number in (1, 2, 10):
        transcript.append(tmp_path, record(number), 0.5)
    return tmp_path


def same(seen, expected):
    assert seen.number == expected.number and np.array_equal(seen.weights, expected.weights)
    assert seen.clients == expected.clients and np.array_equal(seen.mean, expected.mean)
    assert sorted(seen.updates) == sorted(expected.updates)
    assert all(np.array_equal(seen.updates[c], expected.updates[c]) for c in expected.updates)
    assert seen.weights.dtype == seen.mean.dtype == np.float32


def test_rounds_come_back_in_their_order(written):
    rounds = ServerRounds(written)
    assert [r.number for r in rounds] == [1, 2, 10] and len(rounds) == 3
    for seen in rounds:
        same(seen, record(seen.number))
    same(rounds[-1], record(10))
    assert [r.number for r in rounds[1:]] == [2, 10]
    with pytest.raises(IndexError):
        rounds[3]


@pytest.mark.parametrize("make", [under_secure_aggregation, refused])
def test_rounds_without_single_updates_come_back_too(make, tmp_path):
    transcript.append(tmp_path, make(4), 0.5)
    (seen,) = ServerRounds(tmp_path)
    same(seen, make(4))
    assert seen.updates == {}


def test_a_summary_says_who_took_part_who_was_lost_and_what_the_model_was_worth(tmp_path):
    summary = transcript.append(tmp_path, record(7), 0.75)
    assert (summary.round, summary.clients, summary.accuracy) == (7, [0, 2], 0.75)
    assert summary.dropped == {"1": "no reply came"} and summary.refused == ""
    other = transcript.append(tmp_path, refused(8), 0.7)
    assert (other.clients, other.refused) == ([], "too few are left")
    assert transcript.summaries(tmp_path) == [summary, other]


def test_the_ledger_says_how_training_ended(tmp_path):
    ledger = Ledger(rounds={0: 3, 10: 2, 2: 0}, stopped="after round 3: one more would pass max_epsilon")
    transcript.close(tmp_path, ledger)
    assert transcript.ledger(tmp_path) == ledger


def test_lines_are_only_ever_added(written):
    before = (written / transcript.ROUNDS).read_text()
    transcript.append(written, record(11), 0.5)
    after = (written / transcript.ROUNDS).read_text()
    assert after.startswith(before) and after.count("\n") == 4
    assert json.loads(after.splitlines()[-1])["metrics"]["2"]["num-examples"] == 30


def test_a_folder_without_rounds(tmp_path):
    assert len(ServerRounds(tmp_path)) == 0
