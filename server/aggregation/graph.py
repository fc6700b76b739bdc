"""Who shares secrets with whom in secure aggregation: a sparse random graph instead of everybody with everybody.

Bell et al. 2020 (ia.cr/2020/704): each client needs only so many neighbours that, by chance, none has too many
colluders or drop-outs among its own. The server draws the graph, as in their semi-honest protocol: the numbers below
hold for a server that draws it at random. A malicious one could give a client colluders only for neighbours; their
protocol against that lets clients choose, and costs one more exchange.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clients.aggregation.secagg import check_threshold
from clients.aggregation.wire import ProtocolError

SECURITY, CORRECTNESS = 2.0**-40, 2.0**-20  # probabilities of a failure somewhere in a round
_ROUNDING = 1e-9  # so that two thirds of three are two


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How many neighbours a client has, and how many of them must stay.

    The threshold is t = floor(share of the k neighbours) + 1. `colluding` clients in league with the server, and
    `dropouts` as a share of all, are what the number of neighbours is made for where it is not given.
    """

    threshold: float = 2 / 3
    neighbours: int | None = None
    colluding: int = 0
    dropouts: float = 0.2


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """The k neighbours of every client, and the t of them that give back a secret."""

    neighbours: int
    threshold: int


def neighbourhood(clients: int, rules: Rules) -> Neighbourhood:
    """What the rules come to with so many clients.

    With neighbours for everybody, or a given number of them, the threshold must allow for all colluders among them;
    with a number found by `degree`, for as many as there are but once in 2^40 rounds.

    Raises:
        ValueError: not 2t > k + c, or fewer than two clients; the text says what would do.
    """
    if clients < 2:
        raise ValueError(f"{clients} clients: a sum over fewer than two hides nothing")
    k, colluding = clients - 1, rules.colluding
    if rules.neighbours is not None:
        k = _possible(clients, rules.neighbours)
    elif (found := degree(clients, rules.colluding / clients, rules.dropouts, rules.threshold)) < k:
        k, colluding = found, 0
    threshold = threshold_of(k, rules.threshold)
    try:
        check_threshold(threshold, k, min(colluding, k))
    except ProtocolError as error:
        raise ValueError(f"{clients} clients, {rules.colluding} of them colluding: {error}") from None
    return Neighbourhood(k, threshold)


def threshold_of(neighbours: int, share: float) -> int:
    """The smallest number above a share of the neighbours, or all of them."""
    return min(neighbours, math.floor(share * neighbours + _ROUNDING) + 1)


def degree(clients: int, colluding_share: float, dropout_share: float, threshold: float = 2 / 3) -> int:
    """The fewest neighbours with which a random graph is safe and rarely fails; `clients` - 1 if no sparse one is.

    Union bounds over the clients of hypergeometric tails, in the manner of Bell et al., for t = floor(threshold k) + 1:
    with probability 2^-40 at most some client has 2t - k colluders among its neighbours (stricter than their t, see
    clients.aggregation.secagg), or k/2 clients in a row are all colluders or dropped, which can cut the ring in two;
    with 2^-20 at most some client keeps fewer than t neighbours.
    """
    colluders, dropped = math.ceil(colluding_share * clients), math.ceil(dropout_share * clients)
    for k in range(2, clients - 1, 2):
        if _safe(clients, k, threshold_of(k, threshold), colluders, dropped):
            return k
    return clients - 1


def _safe(clients: int, k: int, threshold: int, colluders: int, dropped: int) -> bool:
    from scipy.stats import hypergeom

    others, gone = clients - 1, min(colluders + dropped, clients)
    exposed = clients * hypergeom.sf(2 * threshold - k - 1, others, colluders, k)
    cut = clients * hypergeom.pmf(k // 2, clients, gone, k // 2)
    starved = clients * hypergeom.sf(k - threshold, others, dropped, k)
    return bool(exposed <= SECURITY and cut <= SECURITY and starved <= CORRECTNESS)


def _possible(clients: int, wanted: int) -> int:
    """The number of neighbours that a regular graph can have: at most all others, and not odd among an odd number."""
    k = min(wanted, clients - 1)
    return k + (k % 2) * (clients % 2)


def harary(clients: Sequence[int], neighbours: int, rng: np.random.Generator) -> dict[int, frozenset[int]]:
    """Each client's neighbours in a random regular graph: on a ring in random order, those nearest on both sides.

    Harary 1962. Not connected only if `neighbours` / 2 in a row are missing in two places. With an odd number of
    neighbours (of an even number of clients) the last one is the client opposite.
    """
    ring = [clients[i] for i in rng.permutation(len(clients))]
    count, half = len(ring), neighbours // 2
    steps = [*range(1, half + 1), *range(-half, 0), *([count // 2] if neighbours % 2 else [])]
    return {client: frozenset(ring[(place + step) % count] for step in steps) for place, client in enumerate(ring)}
