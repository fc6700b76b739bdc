"""Partitions: disjoint, of the sizes asked for, the same for the same seed, and as unlike as they say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.data import partition
from sim.data.dataset import DataError


@st.composite
def problems(draw):
    sizes = draw(st.lists(st.integers(0, 30), min_size=1, max_size=8))
    records = sum(sizes) + draw(st.integers(0, 40)) + 1
    classes = draw(st.integers(1, 6))
    y = np.random.default_rng(draw(st.integers(0, 99))).integers(0, classes, records)
    return y, sizes


def deal(how, y, sizes, seed, alpha=0.5, per_client=2):
    rng = np.random.default_rng(seed)
    if how == "iid":
        return partition.iid(len(y), sizes, rng)
    if how == "shards":
        return partition.shards(y, sizes, per_client, rng)
    return partition.dirichlet(y, sizes, alpha, rng)


@pytest.mark.parametrize("how", ["iid", "shards", "dirichlet"])
@settings(max_examples=60, deadline=None)
@given(
    problem=problems(),
    seed=st.integers(0, 2**32),
    alpha=st.sampled_from([1e-6, 1e-3, 0.1, 0.5, 5.0, 1e6]),
    per_client=st.integers(1, 5),
)
def test_disjoint_of_the_right_sizes_and_repeatable(how, problem, seed, alpha, per_client):
    y, sizes = problem
    parts = deal(how, y, sizes, seed, alpha, per_client)
    assert [len(part) for part in parts] == sizes
    everything = np.concatenate(parts)
    assert len(np.unique(everything)) == len(everything)
    assert all(0 <= i < len(y) for i in everything)
    again = deal(how, y, sizes, seed, alpha, per_client)
    assert all(np.array_equal(a, b) for a, b in zip(parts, again, strict=True))


@pytest.mark.parametrize("how", ["iid", "shards", "dirichlet"])
def test_more_than_there_is(how):
    with pytest.raises(DataError, match=r"2 clients .* ask for 12 records, but there are only 11"):
        deal(how, np.arange(11) % 3, [6, 6], 0)


def test_natural_is_the_data_s_own():
    parts = partition.natural(np.array([1, 0, 1, 1, 0]), 3)
    assert [part.tolist() for part in parts] == [[1, 4], [0, 2, 3], []]


def classes_held(y, parts):
    return np.mean([len(np.unique(y[part])) for part in parts])


def test_shards_hold_few_classes_and_iid_all():
    y = np.arange(1_000) % 10
    sizes = [100] * 10
    assert classes_held(y, deal("shards", y, sizes, 0)) <= 2
    assert classes_held(y, deal("iid", y, sizes, 0)) == 10


def test_a_smaller_alpha_makes_clients_more_unlike():
    y = np.arange(5_000) % 10
    spread = []
    for alpha in (0.05, 0.5, 5.0, 1e6):
        shares = [np.bincount(y[part], minlength=10) / 100 for part in deal("dirichlet", y, [100] * 20, 0, alpha)]
        spread.append(np.std(shares))
    assert spread == sorted(spread, reverse=True)
    assert spread[-1] < 0.04  # multinomial noise: sqrt(0.1 * 0.9 / 100) = 0.03


def test_dirichlet_shares_have_the_moments_of_the_law():
    y = np.arange(200_000) % 4
    parts = deal("dirichlet", y, [200] * 400, 1, alpha=0.5)
    share = np.array([np.bincount(y[part], minlength=4)[0] / 200 for part in parts])
    # Dirichlet(0.5 x 4): mean 1/4, variance (1/4)(3/4)/(2 + 1) = 1/16, and the multinomial's (1/4 - 1/8)/200 on top
    assert abs(share.mean() - 0.25) < 0.05
    assert abs(share.var() - (1 / 16 + 1 / 1600)) < 0.012
