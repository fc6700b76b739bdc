"""Rules that take a round's updates together so that a few tampering clients cannot decide the outcome.

Written here in NumPy and not taken from Flower's strategies (1.41), which give the same where the tests compare them:
those work on whole weights in float32, where the distance between two like models drowns in rounding; Multi-Krum there
trusts the weight that a client claims; and Bulyan chooses its candidates all at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from server.aggregation import RoundRefusedError
from server.received import Received

Rule = Literal["median", "trimmed-mean", "krum", "multi-krum", "bulyan"]
Updates = Float[np.ndarray, "clients params"]
Vector = Float[np.ndarray, " params"]


@dataclass(frozen=True, slots=True)
class RobustEntry:
    """One rule: `combine(updates, f)` withstands `f` tampering clients among `fewest(f)` or more."""

    title: str
    source: str
    fewest: Callable[[int], int]
    combine: Callable[[Updates, int], Vector]


@dataclass(frozen=True, slots=True)
class RobustMean:
    """What the server takes off the weights, by one of `RULES`. All clients count the same: what weight a client
    deserves, only the client itself could say. The clients' promises stay as they are, since this only works on what
    they sent.
    """

    rule: Rule
    tampering_allowed: int  # clients in a round that the rule is to withstand

    def __call__(self, server_round: int, received: Received) -> Vector:
        """The step of one round.

        Raises:
            RoundRefusedError: fewer updates came than the rule needs to withstand that many.
        """
        entry, came = RULES[self.rule], len(received.updates)
        if came < (needed := entry.fewest(self.tampering_allowed)):
            raise RoundRefusedError(
                f"{came} updates came in round {server_round}, and {self.rule} needs {needed} to withstand "
                f"{self.tampering_allowed} tampering clients"
            )
        updates = np.stack([received.updates[client] for client in received.clients]).astype(np.float64)
        return entry.combine(updates, self.tampering_allowed)


def median(updates: Updates, allowed: int = 0) -> Vector:  # noqa: ARG001  # as the others
    """The median of each coordinate (Yin et al. 2018, definition 1)."""
    middle: Vector = np.median(updates, axis=0)
    return middle


def trimmed_mean(updates: Updates, allowed: int) -> Vector:
    """Each coordinate's mean without its `allowed` largest and smallest values (Yin et al. 2018, definition 2)."""
    kept = np.sort(updates, axis=0)[allowed : len(updates) - allowed]
    mean: Vector = kept.mean(axis=0)
    return mean


def krum(updates: Updates, allowed: int) -> Vector:
    """The one update that is nearest to its n - f - 2 nearest others (Blanchard et al. 2017, section 3)."""
    chosen: Vector = updates[_krum_order(_distances(updates), allowed)[0]]
    return chosen


def multi_krum(updates: Updates, allowed: int) -> Vector:
    """The mean of the n - f updates that Krum likes best (Blanchard et al. 2017, section 4, with m = n - f)."""
    best = _krum_order(_distances(updates), allowed)[: len(updates) - allowed]
    mean: Vector = updates[best].mean(axis=0)
    return mean


def bulyan(updates: Updates, allowed: int) -> Vector:
    """El Mhamdi et al. 2018, section 4: Krum chooses n - 2f updates one after the other, each time among those left;
    of these, each coordinate is the mean of the n - 4f values nearest to their median.
    """
    chosen = updates[bulyan_choice(updates, allowed)]
    far = np.abs(chosen - np.median(chosen, axis=0))
    nearest = np.argsort(far, axis=0, kind="stable")[: len(chosen) - 2 * allowed]
    mean: Vector = np.take_along_axis(chosen, nearest, axis=0).mean(axis=0)
    return mean


def bulyan_choice(updates: Updates, allowed: int) -> list[int]:
    """The rows of `updates` that Bulyan goes on with, in the order in which they are chosen."""
    distances, left, chosen = _distances(updates), list(range(len(updates))), list[int]()
    for _ in range(len(updates) - 2 * allowed):
        best = int(_krum_order(distances[np.ix_(left, left)], allowed)[0])
        chosen.append(left.pop(best))
    return chosen


def _krum_order(distances: Float[np.ndarray, "clients clients"], allowed: int) -> Int[np.ndarray, " clients"]:
    """Row numbers, the smallest sum of squared distances to the n - f - 2 nearest others first; ties by number."""
    near = max(1, len(distances) - allowed - 2)
    scores = np.sort(distances, axis=1)[:, 1 : near + 1].sum(axis=1)  # the first is the row itself, at distance 0
    return np.argsort(scores, kind="stable")


def _distances(updates: Updates) -> Float[np.ndarray, "clients clients"]:
    """Squared L2 distances, from the differences themselves."""
    return np.stack([np.square(updates - update).sum(axis=1) for update in updates])


YIN = "Yin et al. 2018, arXiv 1803.01498"
BLANCHARD = "Blanchard et al. 2017, arXiv 1703.02757"

RULES: dict[Rule, RobustEntry] = {
    "median": RobustEntry("the median of each coordinate", YIN, lambda f: 2 * f + 1, median),
    "trimmed-mean": RobustEntry(
        "each coordinate's mean without its largest and smallest values", YIN, lambda f: 2 * f + 1, trimmed_mean
    ),
    "krum": RobustEntry("the one update nearest to its neighbours", BLANCHARD, lambda f: 2 * f + 3, krum),
    "multi-krum": RobustEntry(
        "the mean of the updates nearest to their neighbours", BLANCHARD, lambda f: 2 * f + 3, multi_krum
    ),
    "bulyan": RobustEntry(
        "of updates that Krum chooses, each coordinate's mean around the median",
        "El Mhamdi et al. 2018, arXiv 1802.07927",
        lambda f: 4 * f + 3,
        bulyan,
    ),
}
