"""The primitives against hand-computed values and against plain Python's unbounded integers and fractions."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edge.arithmetic.fixed_point import (
    Multiplier,
    divided,
    exponential,
    high_product,
    reciprocal_of_one_plus,
    scaled,
    scaled_wide,
)
from edge.arithmetic.rescale import Rescale

INT32 = st.integers(-(2**31) + 1, 2**31 - 1)
MANTISSAS = st.one_of(st.integers(2**30, 2**31 - 1), st.sampled_from([2**30, 2**31 - 1, 3 << 29, 2**30 + 2**20]))


def whole(value):
    return torch.tensor([value])


def halves_up(x: Fraction) -> int:
    return math.floor(x + Fraction(1, 2))


def halves_away(x: Fraction) -> int:
    return int(math.copysign(math.floor(abs(x) + Fraction(1, 2)), x))


def twice_rounded(x: int, by: Multiplier) -> int:
    """As gemmlowp defines it."""
    product = halves_up(Fraction((x << by.left) * by.mantissa, 2**31))
    return halves_away(Fraction(product, 2**by.right))


@pytest.mark.parametrize(
    ("real", "mantissa", "exponent"),
    [
        (0.0, 0, 0),
        (1.0, 1 << 30, 1),
        (0.5, 1 << 30, 0),
        (0.75, 3 << 29, 0),
        (0.003, 1649267442, -8),  # 0.003 * 2 ** 8 = 0.768; 0.768 * 2 ** 31 = 1649267441.66
        (6.0, 3 << 29, 3),
        (1 - 2.0**-40, 1 << 30, 1),  # the mantissa rounds up to a whole
        (2.0**-33, 0, 0),
        (2.0**-32, 1 << 30, -31),
    ],
)
def test_a_factor_as_mantissa_and_power_of_two(real, mantissa, exponent):
    assert Multiplier.of(real) == Multiplier(mantissa, exponent)


def test_rounding_goldens():
    assert divided(whole(5), 1).item() == 3  # 2.5: away from zero
    assert divided(whole(-5), 1).item() == -3
    assert divided(whole(-7), 2).item() == -2  # -1.75
    assert divided(whole(6), 2).item() == 2  # 1.5
    assert divided(whole(-9), 0).item() == -9
    assert high_product(whole(3), 1 << 30).item() == 2  # 1.5: up
    assert high_product(whole(-3), 1 << 30).item() == -1  # -1.5: up
    # 2.5 and -2.5 become 3 and -2, and their halves 1.5 and -1 become 2 and -1
    assert scaled(whole(5), Multiplier(1 << 30, -1)).item() == 2
    assert scaled(whole(-5), Multiplier(1 << 30, -1)).item() == -1


@given(a=INT32, b=INT32)
def test_high_product_is_a_product_rounded_halves_up(a, b):
    assert high_product(whole(a), b).item() == halves_up(Fraction(a * b, 2**31))


@given(x=INT32, places=st.integers(0, 31))
def test_division_rounds_halves_away_from_zero(x, places):
    assert divided(whole(x), places).item() == halves_away(Fraction(x, 2**places))


@given(x=st.integers(-(2**23), 2**23), mantissa=MANTISSAS, exponent=st.integers(-31, 7))
def test_scaling_rounds_twice(x, mantissa, exponent):
    by = Multiplier(mantissa, exponent)
    assert scaled(whole(x), by).item() == twice_rounded(x, by)


@given(x=st.integers(-(2**40), 2**40), mantissa=MANTISSAS, exponent=st.integers(-31, 7))
def test_wide_scaling_rounds_once_with_fifteen_bits(x, mantissa, exponent):
    by = Multiplier(mantissa, exponent)
    factor = min((mantissa + 2**15) >> 16, 2**15 - 1)
    assert scaled_wide(whole(x), by).item() == halves_up(Fraction(x * factor, 2 ** (15 - exponent)))


@given(
    sums=st.lists(st.integers(-(2**24) + 1, 2**24 - 1), min_size=1, max_size=20),
    mantissa=MANTISSAS,
    exponent=st.integers(-24, 6),
    relu=st.booleans(),
    zero_point=st.integers(-128, 127),
)
def test_a_layer_is_rescaled_as_by_the_definition(sums, mantissa, exponent, relu, zero_point):
    by, low, high = Multiplier(mantissa, exponent), 0 if relu else -128 - zero_point, 127 - zero_point
    rule = Rescale([by], max(map(abs, sums)), low, high)
    if rule.overflows:
        return
    found = rule.compiled()(torch.tensor(sums, dtype=torch.float32).view(-1, 1))
    assert found.view(-1).tolist() == [min(max(twice_rounded(x, by), low), high) for x in sums]


@given(right=st.integers(0, 12), mantissa=MANTISSAS, level=st.integers(-255, 255), relu=st.booleans())
def test_sums_beside_every_step_between_two_levels(right, mantissa, level, relu):
    by, low = Multiplier(mantissa, -right), 0 if relu else -255
    step = (2 * level - 1) * 2 ** (31 + right - 1) // mantissa  # where the result goes from level - 1 to level
    sums = [x for x in range(step - 3, step + 4) if abs(x) < 2**24]
    found = Rescale([by], 2**24, low, 255).compiled()(torch.tensor(sums, dtype=torch.float32).view(-1, 1))
    assert found.view(-1).tolist() == [min(max(twice_rounded(x, by), low), 255) for x in sums]


@given(
    sums=st.lists(st.integers(-(2**37), 2**37), min_size=1, max_size=20),
    mantissa=MANTISSAS,
    exponent=st.integers(-31, 7),
)
def test_a_wide_layer_is_rescaled_as_by_the_definition(sums, mantissa, exponent):
    by = Multiplier(mantissa, exponent)
    found = Rescale([by], 2**37, -32768, 32767, wide=True).compiled()(torch.tensor(sums).double().view(-1, 1))
    wanted = scaled_wide(torch.tensor(sums), by).clamp(-32768, 32767)
    assert found.view(-1).tolist() == wanted.tolist()


def test_channels_have_factors_of_their_own():
    rule = Rescale([Multiplier.of(0.5), Multiplier.of(0.25)], 1000, -128, 127)
    sums = torch.tensor([[10.0, 10.0], [-3.0, -3.0], [1000.0, -1000.0]])
    assert rule.compiled()(sums).tolist() == [[5, 3], [-1, -1], [127, -128]]  # -1.5 rounds up, -0.75 down


def test_a_sum_that_may_not_fit_into_32_bits_is_known():
    assert Rescale([Multiplier.of(3.0)], 2**30, -128, 127).overflows
    assert not Rescale([Multiplier.of(0.3)], 2**30, -128, 127).overflows


def test_the_exponential_is_right_to_six_digits():
    x = torch.linspace(-(31 << 26), 0, 5001).to(torch.int64).clamp(max=0)
    real = torch.exp(x.double() / 2**26)
    assert (exponential(x).double() / 2**31 - real).abs().max() < 3e-7


def test_the_reciprocal_is_right_to_eight_digits():
    x = torch.linspace(0, 2**31 - 1, 5001, dtype=torch.float64).to(torch.int64)
    real = 1 / (1 + x.double() / 2**31)
    assert (reciprocal_of_one_plus(x).double() / 2**31 - real).abs().max() < 1e-8
