"""Who shares secrets with whom in secure aggregation, worked out alike by the server and by every client.

A Harary graph on a ring (Bell et al. 2020, ia.cr/2020/704): each client needs only k neighbours, so that a round costs
k and not all other clients. The order of the ring is a hash of round and client number, so nobody draws it: a client
that is told who takes part works out its own neighbours.

Why 2t > k + c, for a threshold t, k neighbours and c colluding clients, wherever on the ring the colluders are:

1. Of the k shares of a secret honest holders give out those of one kind only, colluders both: k + c < 2t shares are
   not enough for t of both kinds.
2. Every survivor has t surviving neighbours at least. If the honest survivors fell into two parts that share no mask,
   the ring would have two gaps, each of k/2 clients or more that dropped out or collude (k is even, or the graph is
   complete). The survivor at the edge of a gap has k/2 neighbours on its own side at most, so more than c/2 of those in
   the gap are colluders; and the same at the other gap: more than c in all. So they hang together, and what the server
   learns is one sum over all honest survivors.

The server cannot do better by choosing who takes part, or by what it tells whom, than to lose the round: clients agree
by signatures on everything that is used here (clients.aggregation.secagg).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256

FEWEST_IN_A_SUM = 3  # honest clients; with two, each of them learns the other's update from the sum
CORRECTNESS = 2.0**-20  # probability that some client keeps fewer than t neighbours, where k is chosen
_ROUNDING = 1e-9  # so that two thirds of three are two


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a client insists on, and the server goes by.

    The threshold is t = floor(share of the k neighbours) + 1. `colluding` clients may be in league with the server, and
    `dropouts` is the share of all that k is made for where it is not given. Clients take these from the scenario, never
    from a message.
    """

    threshold: float = 2 / 3
    neighbours: int | None = None
    colluding: int = 0
    dropouts: float = 0.2
    fewest_honest: int = FEWEST_IN_A_SUM

    @property
    def fewest(self) -> int:
        """The fewest clients in a sum, those counted that may collude."""
        return self.fewest_honest + self.colluding


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """The k neighbours of every client, the t of them that give back a secret, and how many must sign one list.

    Two lists of survivors would need 2 * quorum > n + c signatures, and so one honest client that signed both.
    """

    neighbours: int
    threshold: int
    quorum: int


@lru_cache(maxsize=64)
def neighbourhood(clients: int, rules: Rules) -> Neighbourhood:
    """What the rules come to with so many clients.

    Raises:
        ValueError: not 2t > k + c, or fewer clients than a sum needs; the text says what would do.
    """
    if clients < rules.fewest:
        raise ValueError(
            f"{clients} clients, {rules.colluding} of them colluding: a sum over fewer than {rules.fewest_honest} "
            f"honest clients tells about each of them; it takes {rules.fewest}"
        )
    k = degree(clients, rules) if rules.neighbours is None else _possible(clients, rules.neighbours)
    threshold = threshold_of(k, rules.threshold)
    if 2 * threshold <= k + rules.colluding:
        raise ValueError(
            f"{clients} clients, {rules.colluding} of them colluding: threshold {threshold} for {k} neighbours must be "
            f"more than half of neighbours and colluders together, {(k + rules.colluding) // 2 + 1} or more, or the "
            "server could unmask a single client. Raise aggregation.threshold or aggregation.neighbours"
        )
    return Neighbourhood(k, threshold, (clients + rules.colluding) // 2 + 1)


def threshold_of(neighbours: int, share: float) -> int:
    """The smallest number above a share of the neighbours, or all of them."""
    return min(neighbours, math.floor(share * neighbours + _ROUNDING) + 1)


def degree(clients: int, rules: Rules) -> int:
    """The fewest neighbours with which a round is safe and rarely fails; `clients` - 1 if no sparse graph is.

    Safe: 2t > k + c, which holds for every graph and every set of colluders. Rarely fails: by a union bound over the
    clients' hypergeometric tails, drop-outs leave some client fewer than t neighbours with probability 2^-20 at most.
    """
    from scipy.stats import hypergeom

    dropped = math.ceil(rules.dropouts * clients)
    for k in range(2, clients - 1, 2):
        threshold = threshold_of(k, rules.threshold)
        if 2 * threshold <= k + rules.colluding:
            continue
        if clients * hypergeom.sf(k - threshold, clients - 1, dropped, k) <= CORRECTNESS:
            return k
    return clients - 1


def _possible(clients: int, wanted: int) -> int:
    """The number of neighbours that the graph can have: an even number, or all others."""
    return min(wanted + wanted % 2, clients - 1)


def ring(clients: Iterable[int], server_round: int) -> list[int]:
    """The clients in this round's order, which is a hash's and nobody's choice."""
    return sorted(clients, key=lambda client: sha256(f"seepage ring/{server_round}/{client}".encode()).digest())


def harary(ordered: Sequence[int], neighbours: int) -> dict[int, frozenset[int]]:
    """Each client's neighbours: those nearest to it on the ring, half on either side (Harary 1962); or all others."""
    if neighbours >= len(ordered) - 1:
        return {client: frozenset(ordered) - {client} for client in ordered}
    half = neighbours // 2
    steps = [*range(1, half + 1), *range(-half, 0)]
    return {
        client: frozenset(ordered[(at + step) % len(ordered)] for step in steps) for at, client in enumerate(ordered)
    }


def graph(clients: Iterable[int], server_round: int, neighbours: int) -> dict[int, frozenset[int]]:
    """Everybody's neighbours in a round: it follows from who takes part."""
    return harary(ring(clients, server_round), neighbours)
