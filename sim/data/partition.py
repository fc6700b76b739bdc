"""Ways to spread records over clients. Every function returns disjoint arrays of record numbers, one a client."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from sim.data.dataset import DataError

Index = Int[np.ndarray, " picked"]


def natural(client: Int[np.ndarray, " records"], clients: int) -> list[Index]:
    """The records of each of the data's own clients, which `client` numbers from 0."""
    return [np.flatnonzero(client == c) for c in range(clients)]


def iid(records: int, sizes: Sequence[int], rng: np.random.Generator) -> list[Index]:
    """`sizes[i]` of the `records` records for client i, drawn alike for all.

    Raises:
        DataError: the sizes add up to more than there is.
    """
    _enough(records, sizes)
    drawn = rng.permutation(records)[: sum(sizes)]
    return np.split(drawn, np.cumsum(sizes)[:-1])


def shards(
    y: Int[np.ndarray, " records"], sizes: Sequence[int], per_client: int, rng: np.random.Generator
) -> list[Index]:
    """`sizes[i]` records for client i, in `per_client` runs cut from the records sorted by class.

    McMahan et al. 2017 (arXiv:1602.05629), section 3, with shards as large as their client asks for.

    Raises:
        DataError: the sizes add up to more than there is.
    """
    _enough(len(y), sizes)
    drawn = rng.permutation(len(y))[: sum(sizes)]
    drawn = drawn[np.argsort(y[drawn], kind="stable")]
    lengths = [size // per_client + (k < size % per_client) for size in sizes for k in range(per_client)]
    order = rng.permutation(len(lengths))
    runs = np.split(drawn, np.cumsum([lengths[i] for i in order])[:-1])
    dealt = dict(zip(order.tolist(), runs, strict=True))
    return [np.concatenate([dealt[c * per_client + k] for k in range(per_client)]) for c in range(len(sizes))]


def dirichlet(
    y: Int[np.ndarray, " records"], sizes: Sequence[int], alpha: float, rng: np.random.Generator
) -> list[Index]:
    """`sizes[i]` records for client i, whose class shares are drawn from a symmetric Dirichlet(alpha).

    After Hsu et al. 2019 (arXiv:1909.06335): nothing is drawn twice, and a class that has run out leaves its share
    to the others. Clients choose in random order, so that what is left over falls on none of them by rule.

    Raises:
        DataError: the sizes add up to more than there is.
    """
    _enough(len(y), sizes)
    pools = [rng.permutation(np.flatnonzero(y == k)) for k in range(int(y.max()) + 1)]
    picked: list[Index] = [np.empty(0, dtype=np.int64)] * len(sizes)
    for client in rng.permutation(len(sizes)):
        shares = rng.dirichlet(np.full(len(pools), alpha))
        take = _draw(np.array([len(pool) for pool in pools]), shares, sizes[client], rng)
        picked[client] = np.concatenate([pool[:n] for pool, n in zip(pools, take, strict=True)])
        pools = [pool[n:] for pool, n in zip(pools, take, strict=True)]
    return picked


def _draw(
    left: Int[np.ndarray, " classes"], shares: np.ndarray, size: int, rng: np.random.Generator
) -> Int[np.ndarray, " classes"]:
    """How many records of each class: multinomial in `shares`, never more than are `left`, `size` in all."""
    taken = np.zeros_like(left)
    while (missing := size - int(taken.sum())) > 0:
        open_shares = np.where(taken < left, shares, 0.0)
        if not open_shares.sum() > 0:  # every class with a share has run out
            open_shares = (left - taken).astype(float)
        wanted = rng.multinomial(missing, open_shares / open_shares.sum())
        taken = np.minimum(taken + wanted, left)
    return taken


def _enough(records: int, sizes: Sequence[int]) -> None:
    if sum(sizes) > records:
        raise DataError(
            f"{len(sizes)} clients (the attacker's included) ask for {sum(sizes):,} records, but there are only "
            f"{records:,}. Lower `records_per_client`, `clients`, `population.people` or `population.records`."
        )
