"""Shamir's secret sharing (1979, doi 10.1145/359168.359176): t shares give the secret, t - 1 say nothing about it.

Plain integers. python-flint was measured against this: the same speed with 20 clients, at most twice as fast with
150 neighbours (10 ms a secret here), which does not pay for one more dependency. Big-integer arithmetic in Python does
not take constant time: fine between people who do not share a processor with the attacker.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence

PRIME = 2**256 + 297  # the first one that every 32-byte secret is below
SHARE_BYTES = 33  # of a share as big-endian bytes


def split(secret: int, threshold: int, holders: Iterable[int], prime: int = PRIME) -> dict[int, int]:
    """One share for each holder (a number from 1 on); any `threshold` of them give the secret.

    Raises:
        ValueError: the secret is not in the field, a holder is not a non-zero element, or there are too few of them.
    """
    points = sorted(set(holders))
    if not 0 <= secret < prime:
        raise ValueError(f"the secret is not below the prime, {prime}")
    if not 1 <= threshold <= len(points):
        raise ValueError(f"threshold {threshold} for {len(points)} holders: allowed are 1 to {len(points)}")
    if points[0] < 1 or points[-1] >= prime:
        raise ValueError(f"holders are {points[0]} to {points[-1]}; allowed are 1 to {prime - 1}")
    coefficients = [secret, *(secrets.randbelow(prime) for _ in range(threshold - 1))]
    return {point: evaluate(coefficients, point, prime) for point in points}


def evaluate(coefficients: Sequence[int], point: int, prime: int = PRIME) -> int:
    """The polynomial's value, constant coefficient first (Horner)."""
    value = 0
    for coefficient in reversed(coefficients):
        value = (value * point + coefficient) % prime
    return value


def combine(shares: Mapping[int, int], prime: int = PRIME) -> int:
    """The secret from exactly as many shares as the threshold (Lagrange at zero). Too few give a random number."""
    secret = 0
    for point, share in shares.items():
        above = below = 1
        for other in shares:
            if other != point:
                above = above * other % prime
                below = below * (other - point) % prime
        secret += share * above * pow(below, -1, prime)
    return secret % prime
