"""Fixed point: by hand, no wrap at the limit, saturation is an error, and the mean keeps seven digits."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.aggregation.fixed_point import FixedPoint, SaturationError, integer_type, plan_fixed_point

RNG = np.random.default_rng(0)


def test_by_hand():
    encoded = FixedPoint(4.0, 10.0).encode(np.array([0.0, 1.0, -0.25, 0.3, -10.0]), RNG)
    assert encoded.dtype == np.uint32
    assert encoded.tolist() == [0, 4, 2**32 - 1, 1, 2**32 - 40]
    np.testing.assert_array_equal(FixedPoint(4.0, 10.0).decode(encoded), [0, 1, -0.25, 0.25, -10])
    assert FixedPoint(4.0, 10.0, 64).encode(np.array([-0.5]), RNG).tolist() == [2**64 - 2]


@given(
    st.integers(1, 2000),
    st.floats(1e-3, 1e6),
    st.floats(1e-3, 1e6),
    st.floats(1e-9, 1.0),
    st.lists(st.floats(-1, 1), min_size=1, max_size=5),
)
def test_the_planned_clients_at_the_limit_do_not_wrap_round(clients, update, weight, step, share):
    plan = plan_fixed_point(clients, update, weight, step=step)
    assert clients <= plan.capacity and plan.limit == weight * max(update, 1.0)
    assert 1 / plan.scale <= step or plan.bits == 64
    payload = np.array([plan.limit, -plan.limit, *(s * plan.limit for s in share)])
    total = plan.encode(payload, RNG) * integer_type(plan.bits).type(clients)
    np.testing.assert_allclose(plan.decode(total), clients * payload, rtol=1e-12, atol=0.5001 * clients / plan.scale)


@given(st.integers(1, 500), st.floats(1e-2, 1e4), st.sampled_from([1e-30, 1.0]))
def test_the_scale_is_the_finest_power_of_two_that_fits(clients, largest, step):
    plan = plan_fixed_point(clients, largest, 1.0, step=step)
    assert clients * math.ceil(plan.limit * plan.scale) < 2 ** (plan.bits - 1)
    assert clients * math.ceil(plan.limit * plan.scale * 2) >= 2 ** (plan.bits - 1)
    assert plan.bits == (64 if step < 1e-20 else 32) and np.log2(plan.scale) % 1 == 0


@pytest.mark.parametrize("clients", [5, 20])
@pytest.mark.parametrize("largest", [1.0, 16.0])
def test_the_mean_keeps_seven_digits(clients, largest):
    rng = np.random.default_rng(clients)
    updates = rng.normal(0, 0.05, (clients, 100_000)).astype(np.float32)
    weights = rng.integers(100, 141, clients)
    plan = plan_fixed_point(clients, largest, 140)
    total = sum(plan.encode(w * u.astype(np.float64), rng) for u, w in zip(updates, weights, strict=True))
    error = plan.decode(total) / weights.sum() - weights @ updates.astype(np.float64) / weights.sum()
    expected = 1 / (plan.scale * weights.mean() * np.sqrt(12 * clients))
    rms = np.sqrt(np.mean(error**2))
    assert rms < 1e-7
    assert rms == pytest.approx(expected, rel=0.03) or plan.bits == 64  # there float64 itself is the coarser one


@pytest.mark.parametrize("value", [10.001, -1e300, np.inf, np.nan])
def test_what_does_not_fit_is_refused_without_naming_it(value):
    with pytest.raises(SaturationError, match="beyond the limit of the fixed point, 10: raise largest_update") as error:
        FixedPoint(4.0, 10.0).encode(np.array([1.0, value]), RNG)
    assert str(value) not in str(error.value)


@pytest.mark.parametrize("settings", [(0.0, 1.0, 32), (1.0, -1.0, 32), (1.0, 1.0, 16), (2.0**31, 1.0, 32)])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ValueError, match=r"bits|above 0|fit into"):
        FixedPoint(*settings)


@pytest.mark.parametrize("arguments", [(0, 1.0, 1.0), (3, np.inf, 1.0), (3, 1.0, -1.0)])
def test_impossible_plans_are_refused(arguments):
    with pytest.raises(ValueError, match="above 0"):
        plan_fixed_point(*arguments)


def test_finer_than_float64_only_where_asked_for():
    assert plan_fixed_point(5, 1.0, 140).bits == 32 and plan_fixed_point(50, 16.0, 10_000).bits == 64
