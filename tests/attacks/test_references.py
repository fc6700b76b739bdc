import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attacks.references import halves


@settings(deadline=None)
@given(st.integers(1, 4), st.integers(2, 50), st.integers(0, 99))
def test_an_even_number_of_references_leaves_each_record_out_of_half(pairs, size, seed):
    trained_on = halves(2 * pairs, size, np.random.default_rng(seed))
    np.testing.assert_array_equal(trained_on.sum(axis=0), pairs)
    assert (abs(2 * trained_on.sum(axis=1) - size) <= 1).all()


def test_one_reference_is_a_plain_half():
    assert halves(1, 100, np.random.default_rng(0)).sum() == 50


@settings(deadline=None)
@given(st.integers(0, 99))
def test_each_group_is_halved_separately(seed):
    groups = np.repeat([5, 1, 9], [10, 7, 1])
    for half in halves(3, 18, np.random.default_rng(seed), groups):
        for group in (5, 1, 9):
            assert abs(2 * half[groups == group].sum() - (groups == group).sum()) <= 1


def test_impossible_requests_are_refused():
    with pytest.raises(ValueError, match="at least 1"):
        halves(0, 10, np.random.default_rng(0))
    with pytest.raises(ValueError, match="3 groups for 10"):
        halves(2, 10, np.random.default_rng(0), np.arange(3))
