"""From the whole-number sum of a layer to its output levels: exactly what TFLite Micro rounds to, at memory speed.

TFLite Micro multiplies a sum by a mantissa (rounding to the nearest, halves up) and divides by 2 ** right (halves away
from zero). For a sum a, with s = mantissa * 2 ** (exponent - 31), the two roundings together are

    floor(a * s + 1/2 + h)  for a >= 0,      floor(a * s + 1/2 - h)  for a < 0,      h = 2 ** -(right + 1)

with h = 0 where right = 0: a floor within a floor is one floor, floor((floor(u) + n) / 2 ** r) =
floor((u + n) / 2 ** r) for a whole n, and the sign is that of the half that the second rounding adds. All terms are
multiples of 2 ** (exponent - 31), so float64 with its 53 bits holds them exactly while their sum is at most
2 ** 53 of these; a larger one is mostly far outside the levels there are, and rounding, being monotone, does not bring
it back. `Rescale.fits` checks this channel by channel; int64 is used where it does not hold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from edge.arithmetic.fixed_point import Multiplier, divided, high_product

Rounding = Callable[[Tensor], Tensor]
PIECE = 1 << 15  # numbers: a quarter of a megabyte in float64
MOST_RIGHT = 22  # up to here float32 holds 1/2 + h


@dataclass(frozen=True)
class Rescale:
    """Scales sums, (..., channels) in floating point, and clips them to [low, high]; levels less the zero point.

    `multipliers` has one for each channel, or one for all. `largest` bounds the sums' size.
    """

    multipliers: Sequence[Multiplier]
    largest: int
    low: int
    high: int
    wide: bool = False  # sums of 64 bits: one rounding with a 15-bit mantissa

    def compiled(self) -> Rounding:
        """The quickest way that is exact."""
        if self.wide:
            return _once(self)
        if not self.fits:
            return _in_whole_numbers(self)
        return _without_negatives(self) if self.low >= 0 else _with_negatives(self)

    @property
    def overflows(self) -> bool:
        """Whether TFLite Micro's 32 bits might not hold a sum: what it then answers is not defined."""
        left = max(each.left for each in self.multipliers)
        return not self.wide and self.largest << left >= (1 << 31) - (1 << 16)

    @property
    def fits(self) -> bool:
        """Whether float64 is exact, by the argument above."""
        return all(self._exact(each) or self._clipped(each) for each in self.multipliers)

    def _exact(self, by: Multiplier) -> bool:
        """Whether the sum of all terms has no more than 53 bits."""
        return self.largest * by.mantissa + (1 << 31 + by.right) <= 1 << 53 and by.right <= MOST_RIGHT

    def _clipped(self, by: Multiplier) -> bool:
        """Whether whatever has more than 53 bits is clipped anyway."""
        return 2.0 ** (22 + by.exponent) > max(abs(self.low), abs(self.high)) + 3

    @property
    def factors(self) -> Tensor:
        """The factors s above."""
        factors = [each.mantissa * 2.0 ** (each.exponent - 31) for each in self.multipliers]
        return torch.tensor(factors, dtype=torch.float64)

    @property
    def shifts(self) -> Tensor:
        """The shifts h above, in float32."""
        return torch.tensor([2.0 ** -(each.right + 1) if each.right else 0.0 for each in self.multipliers])


def _without_negatives(rule: Rescale) -> Rounding:
    """Nothing below zero survives the clipping (a ReLU): a product, a sum and a cut to whole numbers."""
    factors, offsets = rule.factors, 0.5 + rule.shifts.double()

    def work(sums: Tensor, exact: Tensor, out: Tensor) -> None:
        torch.addcmul(offsets, exact.copy_(sums), factors, out=exact)
        out.copy_(exact.to(torch.int32)).clamp_(rule.low, rule.high)  # above zero a cut is a floor

    return _in_pieces(work)


def _with_negatives(rule: Rescale) -> Rounding:
    factors, half, shifts = rule.factors, torch.tensor(0.5), rule.shifts

    def work(sums: Tensor, exact: Tensor, out: Tensor) -> None:
        offsets = torch.addcmul(half, sums.sign().float(), shifts).double()
        torch.addcmul(offsets, exact.copy_(sums), factors, out=exact)
        out.copy_(exact.floor_()).clamp_(rule.low, rule.high)

    return _in_pieces(work)


def _once(rule: Rescale) -> Rounding:
    """Sums below 2 ** 38 times 15 bits: always exact."""
    pairs = [each.wide for each in rule.multipliers]
    factors = torch.tensor([mantissa * 2.0**-places for mantissa, places in pairs], dtype=torch.float64)
    half = torch.tensor(0.5, dtype=torch.float64)

    def work(sums: Tensor, exact: Tensor, out: Tensor) -> None:
        torch.addcmul(half, exact.copy_(sums), factors, out=exact)
        out.copy_(exact.floor_()).clamp_(rule.low, rule.high)

    return _in_pieces(work)


def _in_whole_numbers(rule: Rescale) -> Rounding:
    mantissas, lefts, rights = (
        torch.tensor(values)
        for values in zip(*((each.mantissa, each.left, each.right) for each in rule.multipliers), strict=True)
    )

    def levels(sums: Tensor) -> Tensor:
        scaled = divided(high_product(sums.to(torch.int64) << lefts, mantissas), rights)
        return scaled.clamp_(rule.low, rule.high).float()

    return levels


def _in_pieces(work: Callable[[Tensor, Tensor, Tensor], None]) -> Rounding:
    """`work(sums, scratch in float64, result in float32)` on pieces small enough to stay in the processor's cache.

    Sums in float32 are overwritten with the result.
    """

    def levels(sums: Tensor) -> Tensor:
        out = sums if sums.dtype == torch.float32 else torch.empty(sums.shape)
        channels = sums.shape[-1]
        rows = max(1, PIECE // channels)
        scratch = torch.empty(min(rows, sums.numel() // channels), channels, dtype=torch.float64)
        given, made = sums.view(-1, channels), out.view(-1, channels)
        for start in range(0, len(given), rows):
            piece = given[start : start + rows]
            work(piece, scratch[: len(piece)], made[start : start + rows])
        return out

    return levels
