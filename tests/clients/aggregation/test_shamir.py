"""Shamir's scheme: by hand, any t shares give the secret, and fewer say nothing at all."""

from collections import Counter
from itertools import combinations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.aggregation.shamir import PRIME, SHARE_BYTES, combine, evaluate, split


def test_by_hand():
    # 3 + 2x + 5x^2 modulo 7
    shares = {x: evaluate([3, 2, 5], x, 7) for x in (1, 2, 3, 4)}
    assert shares == {1: 3, 2: 6, 3: 5, 4: 0}
    # Lagrange at zero from 1, 2 and 4: 3 (2*4)/(1*3) + 6 (1*4)/(-1*2) + 0 = 8 - 12 = -4, which is 3 modulo 7
    assert combine({1: 3, 2: 6, 4: 0}, 7) == 3


def test_the_prime_is_one_and_every_32_byte_secret_is_below_it():
    assert PRIME > 2**256 and PRIME - 1 < 2 ** (8 * SHARE_BYTES)
    # Proth-like witness test of Miller and Rabin to the first 40 primes: a composite passes with 2^-80 at most.
    odd, twos = PRIME - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for base in (p for p in range(2, 180) if all(p % q for q in range(2, p))):
        x = pow(base, odd, PRIME)
        assert x in (1, PRIME - 1) or any(pow(x, 2**i, PRIME) == PRIME - 1 for i in range(1, twos))


@given(st.data(), st.integers(0, 2**256 - 1), st.sets(st.integers(1, 10**6), min_size=1, max_size=12))
def test_any_t_shares_give_the_secret(data, secret, holders):
    threshold = data.draw(st.integers(1, len(holders)))
    shares = split(secret, threshold, holders)
    assert shares.keys() == holders
    chosen = data.draw(st.permutations(sorted(holders)))[:threshold]
    assert combine({x: shares[x] for x in chosen}) == secret


@pytest.mark.parametrize("threshold", [2, 3])
def test_fewer_shares_are_consistent_with_every_secret_equally(threshold):
    prime, holders = 7, range(1, 5)
    for seen in combinations(holders, threshold - 1):
        views = []
        for secret in range(prime):
            polynomials = product(range(prime), repeat=threshold - 1)
            views.append(Counter(tuple(evaluate([secret, *p], x, prime) for x in seen) for p in polynomials))
        assert all(view == views[0] for view in views)
        assert set(views[0].values()) == {1} and len(views[0]) == prime ** (threshold - 1)


def test_coefficients_cover_the_field():
    """What `split` draws has the law that the enumeration above assumes, leading coefficient zero included."""
    seen = Counter(tuple(split(3, 2, (1, 2), 5).values()) for _ in range(2000))
    assert len(seen) == 5 and min(seen.values()) > 300


def test_too_few_shares_give_something_else():
    shares = split(12345, 3, range(1, 6))
    assert combine({x: shares[x] for x in (1, 2)}) != 12345


@pytest.mark.parametrize(
    ("secret", "threshold", "holders", "fault"),
    [
        (7, 1, [1], "not below the prime"),
        (-1, 1, [1], "not below the prime"),
        (3, 3, [1, 2, 2], "allowed are 1 to 2"),
        (3, 0, [1], "threshold 0"),
        (3, 1, [0, 1], "holders are 0"),
        (3, 1, [7], "holders are 7"),
    ],
)
def test_what_cannot_be_shared_is_refused(secret, threshold, holders, fault):
    with pytest.raises(ValueError, match=fault):
        split(secret, threshold, holders, 7)
