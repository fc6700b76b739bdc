"""The transcript gives back what was put in, round by round."""

import json

import numpy as np
import pytest

from server.strategy import RoundRecord
from sim import transcript
from sim.transcript import ServerRounds


def record(number):
    """Round `number`: clients 2 and 0, in an order that is not theirs."""
    rng = np.random.default_rng(number)
    report = {"held-out": 10.0, "num-examples": 30.0, "correct": 4.0, "loss": 1.0}
    other = {"held-out": 30.0, "num-examples": 10.0, "correct": 27.0, "loss": 3.0}
    updates = {c: rng.normal(size=5).astype(np.float32) for c in (2, 0)}
    return RoundRecord(number, rng.normal(size=5).astype(np.float32), updates, {2: report, 0: other})


@pytest.fixture
def written(tmp_path):
    for number in (1, 2, 10):
        transcript.append(tmp_path, record(number))
    return tmp_path


def same(seen, expected):
    assert seen.number == expected.number and np.array_equal(seen.weights, expected.weights)
    assert sorted(seen.updates) == sorted(expected.updates)
    assert all(np.array_equal(seen.updates[c], expected.updates[c]) for c in expected.updates)
    assert seen.weights.dtype == np.float32


def test_rounds_come_back_in_their_order(written):
    rounds = ServerRounds(written)
    assert [r.number for r in rounds] == [1, 2, 10] and len(rounds) == 3
    for seen in rounds:
        same(seen, record(seen.number))
    same(rounds[-1], record(10))
    assert [r.number for r in rounds[1:]] == [2, 10]
    with pytest.raises(IndexError):
        rounds[3]


def test_a_summary_is_pooled_over_clients(tmp_path):
    summary = transcript.append(tmp_path, record(7))
    assert (summary.round, summary.clients) == (7, 2)
    assert summary.accuracy == 31 / 40 and summary.loss == (30 * 1 + 10 * 3) / 40
    assert transcript.summaries(tmp_path) == [summary]


def test_lines_are_only_ever_added(written):
    before = (written / transcript.ROUNDS).read_text()
    transcript.append(written, record(11))
    after = (written / transcript.ROUNDS).read_text()
    assert after.startswith(before) and after.count("\n") == 4
    assert json.loads(after.splitlines()[-1])["metrics"]["2"]["num-examples"] == 30


def test_a_folder_without_rounds(tmp_path):
    assert len(ServerRounds(tmp_path)) == 0
