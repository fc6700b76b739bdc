"""Generators that follow from seed and purpose, and from nothing else."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from clients.randomness import generator, torch_generator

purposes = st.lists(st.one_of(st.integers(0, 10_000), st.sampled_from(["train", "coin", "sample"])), max_size=4)


def draws(rng):
    return rng.integers(2**63, size=4).tolist()


@given(st.integers(0, 2**63 - 1), purposes, purposes)
def test_streams_agree_exactly_where_the_purposes_do(seed, one, other):
    assert draws(generator(seed, *one)) == draws(generator(seed, *one))
    assert (draws(generator(seed, *one)) == draws(generator(seed, *other))) == (one == other)
    assert draws(generator(seed, *one)) != draws(generator(seed + 1, *one))


def test_global_state_plays_no_part():
    first = draws(generator(1, "a"))
    np.random.default_rng().random(5)
    torch.rand(5)
    assert draws(generator(1, "a")) == first


def test_values_stay_what_they_are():
    """Old runs are repeatable only as long as this holds."""
    assert generator(7, "train", 3, 12).integers(1_000_000, size=3).tolist() == [683699, 904073, 924158]
    assert int(torch_generator(generator(7, "train", 3, 12)).initial_seed()) == 8338604770290004893


def test_a_torch_generator_takes_one_draw():
    rng = generator(7, "train")
    one, two = torch_generator(rng), torch_generator(rng)
    assert one.initial_seed() != two.initial_seed()
    before = torch.get_rng_state()
    assert not torch.equal(torch.rand(4, generator=one), torch.rand(4, generator=two))
    assert torch.equal(torch.get_rng_state(), before)
