import numpy as np

from attacks.observation import Oracle, Records


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
