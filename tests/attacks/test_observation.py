import numpy as np
import pytest

from attacks import observation
from attacks.observation import Oracle, QueriesRefusedError, Records


def test_an_oracle_counts_each_distinct_record_once():
    asked = []

    def answer(x):
        asked.append(len(x))
        return x * 2

    oracle = Oracle(answer)
    x = np.array([[1.0, 2], [3, 4], [1, 2]])
    np.testing.assert_array_equal(oracle(x), x * 2)
    np.testing.assert_array_equal(oracle(x[:1]), x[:1] * 2)
    assert oracle.queries == 2
    assert asked == [2]


def test_changing_an_answer_does_not_change_the_notes():
    oracle = Oracle(lambda x: x * 2)
    oracle(np.ones((1, 2)))[:] = 0
    np.testing.assert_array_equal(oracle(np.ones((1, 2))), 2)


def test_records_join_in_order():
    first, second = Records(np.zeros((2, 3)), np.array([0, 1])), Records(np.ones((1, 3)), np.array([2]))
    both = first.joined(second)
    np.testing.assert_array_equal(both.y, [0, 1, 2])
    np.testing.assert_array_equal(both.x[2], 1)
    assert len(both[2:]) == 1


def test_a_budget_is_for_distinct_records():
    oracle = Oracle(lambda x: x * 2, budget=3)
    oracle(np.array([[1.0], [2], [1]]))
    assert oracle.left == 1
    oracle(np.array([[2.0], [3]]))
    assert oracle.left == 0
    np.testing.assert_array_equal(oracle(np.array([[3.0]])), [[6]])
    with pytest.raises(
        QueriesRefusedError, match=r"asked about 3 records and wanted 1 more, the model's owner answers 3"
    ):
        oracle(np.array([[4.0]]))
    assert oracle.queries == 3


def test_notes_end_and_answers_do_not(monkeypatch):
    monkeypatch.setattr(observation, "_MOST_NOTES", 2)
    oracle = Oracle(lambda x: x * 2)
    for _ in range(2):
        np.testing.assert_array_equal(oracle(np.array([[1.0], [2], [3]])), [[2], [4], [6]])
    assert oracle.queries == 4  # the third was asked again
