"""What the owner of a model can see: one customer's queries, and whether they look like normal use.

This is the other side. No attack reads it; whoever carries an attack out can have the owner watch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

FALSE_ALARMS = 0.01  # of normal queries, for each of the two tests
NEIGHBOUR = 2  # which nearest earlier query counts: asking once again is normal
FAR_BELOW = 0.5  # of what is normal
STRETCH = 50  # queries whose distances are tested together
KEPT = 4_096  # latest queries that are remembered
EXAMINED, FEWEST = 256, 16  # of the first batch, ever fewer of the next, evenly spaced: the share is an estimate
_OUTLIER = 3.0  # standard deviations

Features = Float[np.ndarray, "queries ..."]
Points = Float[np.ndarray, "queries features"]
Labels = Int[np.ndarray, " queries"]
Values = Float[np.ndarray, " queries"]


@dataclass(frozen=True, slots=True)
class Normal:
    """What normal use looks like: queries below either threshold are flagged."""

    distance: float  # to the second nearest earlier query
    shape: float  # Shapiro-Wilk's W of a stretch of distances


def learn(x: Features, labels: Labels, false_alarms: float = FALSE_ALARMS) -> Normal:
    """Thresholds from normal queries in the order in which they came, with the labels that they were answered with.

    A share of `false_alarms` of these queries would be flagged as near-duplicates if "far below" were "below", and as
    many of their stretches as oddly shaped. Customers who ask more, or about others, can trip either more often.
    """
    memory = _Memory()
    second, same = memory.distances(_flat(x), labels, np.arange(len(x)))
    near = second[np.isfinite(second)]
    same = same[np.isfinite(same)]
    shapes = [normality(same[start : start + STRETCH]) for start in range(len(same) - STRETCH + 1)]
    return Normal(
        FAR_BELOW * float(np.quantile(near, false_alarms)) if len(near) else 0.0,
        float(np.quantile(shapes, false_alarms)) if shapes else 0.0,
    )


class Monitor:
    """Watches the queries of one customer, batch by batch, and flags those that do not look like normal use.

    Near-duplicates: the second nearest earlier query is far nearer than in normal use (stateful detection, Chen et al.
    2019, arXiv 1907.05587). Odd shapes: distances to the nearest earlier query with the same answer, over a stretch of
    50 queries, are not normally distributed (PRADA, Juuti et al. 2019, arXiv 1805.02628). Of a large batch it examines
    a part, against the latest 4,096 queries; a customer who spreads near-duplicates wider than that stays unseen.

    Queries for losses, LiRA or RMIA are records and look like normal use. On a personal int8 model of the quickstart,
    none of those for the loss is flagged, of those that feel for the boundary nine in ten, of noisy copies one in five:
    where a model bears much noise, its copies lie farther apart than records do.
    """

    def __init__(self, normal: Normal) -> None:
        self._normal = normal
        self._memory = _Memory()
        self._pending = np.empty((2, 0))  # distance, and weight, of queries whose stretch is not full
        self._flags = np.empty(0, dtype=bool)  # of those
        self._batches, self._seen, self._flagged = 0, 0.0, 0.0

    def see(self, x: Features, answers: Float[np.ndarray, "queries classes"]) -> None:
        """One batch of queries, and what they were answered."""
        self._batches += 1
        most = min(len(x), max(EXAMINED // self._batches, FEWEST))
        examined = np.unique(np.linspace(0, len(x) - 1, most).astype(int))
        second, same = self._memory.distances(_flat(x), answers.argmax(axis=1), examined)
        weight = np.full(len(examined), len(x) / len(examined))
        self._pending = np.concatenate([self._pending, [same, weight]], axis=1)
        self._flags = np.append(self._flags, second < self._normal.distance)
        while self._pending.shape[1] >= STRETCH:
            self._close(STRETCH)

    @property
    def flagged(self) -> float | None:
        """Share of the queries so far that are flagged; None where there were none."""
        open_weight = self._pending[1]
        seen = self._seen + open_weight.sum()
        return float((self._flagged + open_weight[self._flags].sum()) / seen) if seen else None

    def _close(self, count: int) -> None:
        distances, weight = self._pending[:, :count]
        odd = normality(distances[np.isfinite(distances)]) < self._normal.shape
        self._flagged += weight[self._flags[:count] | odd].sum()
        self._seen += weight.sum()
        self._pending, self._flags = self._pending[:, count:], self._flags[count:]


class _Memory:
    """The latest queries of one customer, and their answers."""

    def __init__(self) -> None:
        self._x: Points | None = None
        self._labels = np.empty(0, dtype=np.int64)

    def distances(self, x: Points, labels: Labels, examined: Int[np.ndarray, " examined"]) -> tuple[Values, Values]:
        """For each examined query of a batch: the distance to its second nearest earlier query, and to its nearest
        with the same label; infinite where there is none. The batch is remembered.
        """
        known = x[:0] if self._x is None else self._x
        everything, every_label = np.concatenate([known, x]), np.append(self._labels, labels)
        squares = _squares(x[examined], everything)
        squares[np.arange(len(everything)) >= (len(known) + examined)[:, None]] = np.inf
        alike = np.where(every_label == labels[examined][:, None], squares, np.inf)
        second = np.partition(squares, NEIGHBOUR - 1, axis=1)[:, NEIGHBOUR - 1] if len(everything) > 1 else alike[:, 0]
        self._x, self._labels = everything[-KEPT:], every_label[-KEPT:]
        return np.sqrt(second), np.sqrt(alike.min(axis=1))


def normality(distances: Values) -> float:
    """Shapiro-Wilk's W of distances, those beyond three deviations left out; 1 where there is nothing to test."""
    from scipy import stats  # takes half a second, and only a monitor needs it

    spread = distances.std() if len(distances) else 0.0
    kept = distances[np.abs(distances - distances.mean()) <= _OUTLIER * spread] if spread else distances[:0]
    return float(stats.shapiro(kept).statistic) if len(kept) >= STRETCH // 2 else 1.0


def _squares(x: Points, others: Points) -> Float[np.ndarray, "examined queries"]:
    near = (x**2).sum(axis=1)[:, None] + (others**2).sum(axis=1) - 2 * x @ others.T
    return np.asarray(np.maximum(near, 0.0))


def _flat(x: Features) -> Points:
    return x.reshape(len(x), -1).astype(np.float32)
