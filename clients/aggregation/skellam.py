"""Distributed differential privacy inside a secure sum: every client adds a share of integer noise to its update."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from clients.aggregation.fixed_point import Encoded, Vector, integer_type

BETA = 2.0**-40  # how often rounding is repeated, at most: so rarely that it leaves no bias
WRAP = 2.0**-40  # probability that a value of the sum wraps round, at most
COARSEST_NORM = 1.002  # rounding may enlarge the sensitivity, and with it the noise, by this factor
COARSEST_NOISE = 1e-3  # and the Renyi divergence may be above the Gaussian's by this share
LARGEST_MEAN = (
    2.0**32
)  # of NumPy's Poisson numbers: beyond 2**45 they visibly have the wrong law, from 2**54 all are even
LARGEST_SQUARE = 2**53  # squared norms up to here are exact in float64


class SkellamPlanError(ValueError):
    """No encoding keeps the promise; the text says what to change."""


@dataclass(frozen=True, slots=True)
class SkellamEncoding:
    """Updates clipped, rounded to integers, with Skellam noise (Agarwal, Kairouz & Liu 2021, arXiv 2110.04995).

    A Skellam number is the difference of two Poisson numbers of equal mean, and a sum of Skellam numbers is one again:
    the sum over clients has exactly the noise that is accounted. Unit: client; neighbours: one client's update
    replaced by zero; holds against whoever sees the sum, less the shares of noise that colluding clients know.

    `encode` draws from the generator it is handed, so that a simulated run can be repeated: a deployment must draw
    from the operating system's randomness.
    """

    clipping_norm: float  # L2, of an update
    noise_multiplier: float  # standard deviation in the planned sum over the L2 sensitivity
    clients_planned: int  # so many together add that noise
    dimension: int  # values of an update
    scale: float  # integer steps per unit, a power of two
    bits: int  # the modulus is 2**bits: 32 or 64
    tail: int = 1  # entries after the update that get no noise: public constants, all 1 (the weight)

    @property
    def squared_norm(self) -> int:
        """Largest squared L2 norm of a rounded update (Kairouz, Liu & Steinke 2021, arXiv 2102.06387)."""
        c, root = self.clipping_norm * self.scale, math.sqrt(self.dimension)
        probable = c**2 + self.dimension / 4 + math.sqrt(2 * math.log(1 / BETA)) * (c + root / 2)
        return math.floor(min(probable, (c + root) ** 2))

    @property
    def share(self) -> float:
        """Variance of one client's noise on one value, in integer steps squared."""
        return self.noise_multiplier**2 * self.squared_norm / self.clients_planned

    def sensitivities(self) -> tuple[float, float]:
        """L1 and L2 sensitivity of the sum, in integer steps; of an integer vector, |x|_1 <= |x|_2^2."""
        l2 = math.sqrt(self.squared_norm)
        return min(math.sqrt(self.dimension) * l2, float(self.squared_norm)), l2

    def variance(self, clients: int) -> float:
        """Variance of the noise in a sum to which so many clients contributed, in integer steps squared.

        Count only those whose noise the adversary does not know.
        """
        return clients * self.share

    def encode(self, payload: Vector, rng: np.random.Generator) -> Encoded:
        """An update with the tail behind it, as uint32 or uint64 modulo 2**bits.

        Raises:
            ValueError: the payload has another length, is not finite, or its tail is not all ones.
        """
        update, tail = payload[: self.dimension], payload[self.dimension :]
        norm = float(np.linalg.norm(update))
        if len(payload) != self.dimension + self.tail or not math.isfinite(norm):
            raise ValueError(f"a payload must be {self.dimension} + {self.tail} finite values, and this one is not")
        if not (tail == 1).all():
            raise ValueError("entries without noise must be 1: with differential privacy every client weighs the same")
        factor = self.scale * min(1.0, self.clipping_norm / norm) if norm else self.scale
        rounded = self._rounded(update * factor, rng)
        noise = rng.poisson(self.share / 2, self.dimension) - rng.poisson(self.share / 2, self.dimension)
        return np.concatenate([rounded + noise, np.ones(self.tail, np.int64)]).astype(integer_type(self.bits))

    def decode(self, total: Encoded) -> Vector:
        """The sum of the updates and of the tails, from the sum of the encoded payloads modulo 2**bits."""
        centred = total.astype(integer_type(self.bits), casting="equiv").view(f"<i{self.bits // 8}").astype(np.float64)
        return np.concatenate([centred[: self.dimension] / self.scale, centred[self.dimension :]])

    def _rounded(self, values: Float[np.ndarray, " params"], rng: np.random.Generator) -> Int[np.ndarray, " params"]:
        """Up or down at random, so that the mean is the value, again and again until the norm is within its bound."""
        while True:
            candidate = np.floor(values + rng.random(len(values)))
            if candidate @ candidate <= self.squared_norm:
                return candidate.astype(np.int64)


def plan_skellam(
    clipping_norm: float,
    noise_multiplier: float,
    dimension: int,
    clients_planned: int,
    *,
    clients_at_most: int | None = None,
    tail: int = 1,
) -> SkellamEncoding:
    """The coarsest encoding whose integers cost next to nothing, in 32 bits if they hold the sum.

    The scale is the smallest power of two at which rounding enlarges the noise by at most 0.2 % and, in the planned
    sum, the Renyi divergence by at most 0.1 % over a Gaussian's. The sum of `clients_at_most` clients (default: those
    planned, whose noise is counted on) wraps round with probability at most 2**-40.

    Raises:
        SkellamPlanError: a parameter is out of range, 64 bits do not hold the sum, or the noise is too much or too
            little to be drawn exactly.
    """
    most = clients_planned if clients_at_most is None else clients_at_most
    if not (0 < clipping_norm < math.inf and 0 < noise_multiplier < math.inf and dimension >= 1 and tail >= 0):
        raise SkellamPlanError(f"{clipping_norm=}, {noise_multiplier=}, {dimension=}, {tail=}: must be above 0, finite")
    if not 1 <= clients_planned <= most:
        raise SkellamPlanError(
            f"{clients_planned=}, {clients_at_most=}: plan with one client at least, and at most all"
        )

    def at(exponent: int, bits: int = 64) -> SkellamEncoding:
        scale = 2.0**exponent
        return SkellamEncoding(clipping_norm, noise_multiplier, clients_planned, dimension, scale, bits, tail)

    exponent = math.ceil(-math.log2(clipping_norm))
    while not _fine_enough(at(exponent)):
        exponent += 1
    found = at(exponent)
    _check_exact(found)
    bits = next((bits for bits in (32, 64) if _largest_sum(found, most) < 2 ** (bits - 1)), None)
    if bits is None:
        raise SkellamPlanError(
            f"a sum over {most} clients does not fit into 64 bits: plan with fewer, or with a larger noise_multiplier"
        )
    return at(exponent, bits)


def _fine_enough(encoding: SkellamEncoding) -> bool:
    """Whether noise and divergence stay within their limits.

    `skellam_rdp` is above a Gaussian's divergence by a share of (1 + 1.5 l1 / l2^2) / variance at most, at any order.
    """
    l1, l2 = encoding.sensitivities()
    norm = l2 <= COARSEST_NORM * encoding.clipping_norm * encoding.scale
    return norm and 1 + 1.5 * l1 / l2**2 <= COARSEST_NOISE * encoding.variance(encoding.clients_planned)


def _check_exact(encoding: SkellamEncoding) -> None:
    if encoding.squared_norm > LARGEST_SQUARE:
        raise SkellamPlanError(
            f"noise_multiplier = {encoding.noise_multiplier:g} with {encoding.dimension} values needs steps too fine "
            "for float64; choose a larger noise_multiplier"
        )
    if encoding.share / 2 > LARGEST_MEAN:
        raise SkellamPlanError(
            f"noise_multiplier = {encoding.noise_multiplier:g} shared by {encoding.clients_planned} clients needs "
            f"Poisson means of {encoding.share / 2:.2g}, and above {LARGEST_MEAN:.2g} they are not drawn exactly; "
            "choose a smaller noise_multiplier or more clients"
        )


def _largest_sum(encoding: SkellamEncoding, clients: int) -> float:
    """No value of the sum is larger but with probability WRAP: Bernstein's bound on the noise, over all values.

    Skellam noise is compound Poisson with jumps of one, so P(|noise| >= t) <= 2 exp(-t^2 / (2 (variance + t / 3))).
    """
    log_odds = math.log(2 * encoding.dimension / WRAP)
    noise = log_odds / 3 + math.sqrt(log_odds**2 / 9 + 2 * encoding.variance(clients) * log_odds)
    return clients * math.isqrt(encoding.squared_norm) + noise + 1
