"""The fixed-point primitives of TFLite Micro and gemmlowp, on batches: int64 tensors that hold 32-bit values.

A real factor is kept as a 31-bit mantissa and a power of two. Scaling by it rounds twice: once when the mantissa is
multiplied in (to the nearest, halves up), once when the power of two is divided out (halves away from zero).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

HIGHEST = (1 << 31) - 1


@dataclass(frozen=True)
class Multiplier:
    """A non-negative real factor, mantissa * 2 ** (exponent - 31), with a mantissa below 2 ** 31."""

    mantissa: int
    exponent: int

    @staticmethod
    def of(real: float) -> Multiplier:
        """The nearest one to `real`; factors below 2 ** -32 become zero."""
        if real == 0:
            return Multiplier(0, 0)
        fraction, exponent = math.frexp(real)
        mantissa = math.floor(fraction * 2.0**31 + 0.5)
        if mantissa == 1 << 31:
            mantissa, exponent = mantissa >> 1, exponent + 1
        return Multiplier(0, 0) if exponent < -31 else Multiplier(mantissa, exponent)

    @property
    def left(self) -> int:
        """Places that a value is shifted left before the product."""
        return max(self.exponent, 0)

    @property
    def right(self) -> int:
        """Places that the product is shifted right."""
        return max(-self.exponent, 0)

    @property
    def wide(self) -> tuple[int, int]:
        """A 15-bit mantissa and the places to shift right: what sums of 64 bits are scaled by."""
        mantissa = (self.mantissa + (1 << 15)) >> 16 if self.mantissa < 0x7FFF0000 else 0x7FFF
        return mantissa, 15 - self.exponent


def high_product(a: Tensor, b: Tensor | int) -> Tensor:
    """The upper half of twice the product, a * b / 2 ** 31 to the nearest, halves up.

    gemmlowp's SaturatingRoundingDoublingHighMul; it saturates in one case only, both at -2 ** 31, which cannot occur
    here.
    """
    return (a * b + (1 << 30)) >> 31


def divided(x: Tensor, places: Tensor | int) -> Tensor:
    """A number over 2 ** places to the nearest, halves away from zero (gemmlowp's RoundingDivideByPOT)."""
    places = torch.as_tensor(places)
    half = (torch.ones_like(places) << places) >> 1
    return (x + half - ((x < 0) & (places > 0)).to(torch.int64)) >> places


def scaled(x: Tensor, by: Multiplier) -> Tensor:
    """A number times a factor, rounded twice: what TFLite Micro does with sums of 32 bits."""
    return divided(high_product(x << by.left, by.mantissa), by.right)


def scaled_wide(x: Tensor, by: Multiplier) -> Tensor:
    """A number times a factor of 15 bits, rounded once, halves up: what TFLite Micro does with sums of 64 bits."""
    mantissa, places = by.wide
    return (x * mantissa + (1 << (places - 1))) >> places


def exponential(x: Tensor) -> Tensor:
    """exp(x) for x <= 0: x with 26 fractional bits, the answer with 31 (gemmlowp's exp_on_negative_values).

    A polynomial around -1/8 for what is left after whole quarters, times a constant for each power of two of quarters.
    """
    quarter = 1 << 24
    rest = (x & (quarter - 1)) - quarter
    result = _exponential_near_zero(rest << 5)
    quarters = rest - x
    for place, factor in enumerate(_EXPONENTIALS):
        used = (quarters >> (24 + place)) & 1
        result = torch.where(used > 0, high_product(result, factor), result)
    return torch.where(x == 0, HIGHEST, result)


# exp(-1/4), exp(-1/2), exp(-1), ... exp(-16), with 31 fractional bits
_EXPONENTIALS = [math.floor(math.exp(-(2.0**power)) * 2**31 + 0.5) for power in range(-2, 5)]


def _exponential_near_zero(x: Tensor) -> Tensor:
    """exp(x) for -1/4 <= x < 0, both with 31 fractional bits: four terms of the series around -1/8."""
    at_centre = math.floor(math.exp(-0.125) * 2**31 + 0.5)
    third = math.floor(2**31 / 3 + 0.5)
    x = x + (1 << 28)
    squared = high_product(x, x)
    cubed, fourth = high_product(squared, x), high_product(squared, squared)
    higher = divided(high_product(divided(fourth, 2) + cubed, third) + squared, 1)
    return at_centre + high_product(x + higher, at_centre)


def reciprocal_of_one_plus(x: Tensor) -> Tensor:
    """1 / (1 + x) for 0 <= x < 1, both with 31 fractional bits: three of Newton's steps, as gemmlowp takes them."""
    half_denominator = (x + HIGHEST + 1) >> 1
    guess = 1515870810 + high_product(half_denominator, -1010580540)  # 48/17 - 32/17 * d, with 29 fractional bits
    for _ in range(3):
        missing = (1 << 29) - high_product(half_denominator, guess)
        guess = guess + (high_product(guess, missing) << 2).clamp(-HIGHEST - 1, HIGHEST)
    return (guess << 1).clamp(max=HIGHEST)
