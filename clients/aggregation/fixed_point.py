"""Payloads as integers modulo a power of two: what masks are added to, so that a sum over clients comes out exact."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float, UInt

Vector = Float[np.ndarray, " values"]
Encoded = UInt[np.ndarray, " encoded"]
_TYPES: dict[int, np.dtype[Any]] = {32: np.dtype("<u4"), 64: np.dtype("<u8")}


class SaturationError(ValueError):
    """A client's payload does not fit into the fixed-point range; the text names the range, and nothing private."""


class Encoding(Protocol):
    """How a client's payload becomes integers modulo 2**bits, and their sum over clients numbers again.

    Each value becomes one integer. Encodings are frozen and picklable.
    """

    @property
    def bits(self) -> int:
        """The modulus is 2**bits: 32 or 64."""

    def encode(self, payload: Vector, rng: np.random.Generator) -> Encoded:
        """A payload, float64, as uint32 or uint64. Raises ValueError, whose text the server reads: nothing private."""

    def decode(self, total: Encoded) -> Vector:
        """The sum of encoded payloads modulo 2**bits, as float64."""


def integer_type(bits: int) -> np.dtype[Any]:
    """The NumPy type whose arithmetic is modulo 2**bits. Raises ValueError for any but 32 and 64."""
    if bits not in _TYPES:
        raise ValueError(f"bits = {bits}: a modulus is 2**32 or 2**64")
    return _TYPES[bits]


@dataclass(frozen=True, slots=True)
class FixedPoint:
    """Rounding to the nearest multiple of 1/scale, negative numbers as their two's complement.

    The rounding error is uniform in +-1/(2 scale) per client and value. A value beyond `limit` is refused and never
    clipped: a clipped update would make the mean wrong without a word.
    """

    scale: float  # integer steps per unit
    limit: float  # largest absolute value of a payload, weight and weighted metrics included
    bits: int = 32

    def __post_init__(self) -> None:
        integer_type(self.bits)
        if not (self.scale > 0 and self.limit > 0):
            raise ValueError(f"scale = {self.scale:g} and limit = {self.limit:g} must both be above 0")
        if self.capacity < 1:
            raise ValueError(f"limit = {self.limit:g} at scale = {self.scale:g} does not fit into {self.bits} bits")

    @property
    def capacity(self) -> int:
        """How many clients at the limit can be added before the sum wraps round."""
        return ((1 << self.bits - 1) - 1) // math.ceil(self.limit * self.scale)

    def encode(self, payload: Vector, rng: np.random.Generator) -> Encoded:  # noqa: ARG002  # rounding to nearest
        """The payload in integer steps.

        Raises:
            SaturationError: a value is beyond the limit.
        """
        if not (np.abs(payload) <= self.limit).all():
            raise SaturationError(
                "an entry of the update, a metric or the weight, each times the weight, is beyond the limit of the "
                f"fixed point, {self.limit:g}: raise largest_update, largest_metric or largest_weight, or clip updates"
            )
        return np.rint(payload * self.scale).astype(np.int64).astype(integer_type(self.bits))

    def decode(self, total: Encoded) -> Vector:
        """The sum over at most `capacity` clients."""
        return total.view(f"<i{self.bits // 8}").astype(np.float64) / self.scale


def plan_fixed_point(
    clients: int, largest_update: float, largest_weight: float, *, largest_metric: float = 1.0, step: float = 1e-5
) -> FixedPoint:
    """The finest fixed point in which the payloads of `clients` clients cannot wrap round.

    A payload's limit is `largest_weight` times the largest entry of an update or shared metric (or 1, for the weight
    itself). The scale is a power of two, so that scaling adds no error of its own. The modulus is 2**32 if a step,
    1/scale, is then at most `step`, else 2**64, which doubles what travels. The mean of updates of weight w over n
    clients has an rms error of step / (w sqrt(12 n)).

    Raises:
        ValueError: an argument is not positive, or the range does not even fit into 64 bits.
    """
    if not all(value > 0 and math.isfinite(value) for value in (clients, largest_update, largest_weight, step)):
        raise ValueError(f"{clients=}, {largest_update=}, {largest_weight=}, {step=}: all must be above 0 and finite")
    limit = largest_weight * max(largest_update, largest_metric, 1.0)
    narrow = _finest(clients, limit, 32)
    return FixedPoint(narrow, limit, 32) if 1 / narrow <= step else FixedPoint(_finest(clients, limit, 64), limit, 64)


def _finest(clients: int, limit: float, bits: int) -> float:
    """The largest power of two at which `clients` times the limit stays below half the modulus."""
    scale = 2.0 ** math.floor(math.log2(((1 << bits - 1) - 1) / (clients * limit)))
    # Rounding up to a whole step can be one too many where limit * scale is small.
    return scale if clients * math.ceil(limit * scale) < 1 << bits - 1 else scale / 2
