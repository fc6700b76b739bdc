"""Means over seeds and their intervals, also of an attack that is chosen anew for every seed.

The strongest attack of a column is chosen for each seed by the other seeds. So choice and figure of one seed are
independent, but the figures of two seeds are not: each has a say in the choice for the other. Student's interval of
them is too narrow (of sixteen equally strong attacks it covers 83 % with five seeds and 73 % with ten). The jackknife
over whole seeds, choices and all, measures what that adds; it errs upwards (Efron and Stein 1981), and the variance
that is used is its own and Student's together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from sim.results import Interval
from sim.study.results import Figure

_FEWEST = 2  # seeds; with no more, leaving one out leaves no other to choose by

PerSeed = Float[np.ndarray, "seeds attacks"]
Seeds = Int[np.ndarray, " seeds"]


def over_seeds(values: Sequence[float], own: Interval | None = None, bounds: Interval = (0.0, 1.0)) -> Figure:
    """The mean of one figure per seed, with Student's 95 % interval, cut at `bounds`; of one seed its `own` interval.

    Raises ValueError without a value, or for one value without an interval.
    """
    mean = float(np.mean(values))
    if len(values) == 1:
        if own is None:
            raise ValueError("one value has no interval over seeds: give its own")
        return Figure(value=mean, ci=own, by_seed=list(values))
    half = float(stats.t.ppf(0.975, len(values) - 1)) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return Figure(value=mean, ci=(max(bounds[0], mean - half), min(bounds[1], mean + half)), by_seed=list(values))


def differences(after: Sequence[float], before: Sequence[float]) -> Figure | None:
    """The mean of paired differences; None for one pair, which tells nothing of its spread."""
    if len(after) < _FEWEST:
        return None
    return over_seeds([a - b for a, b in zip(after, before, strict=True)], bounds=(-1.0, 1.0))


@dataclass(frozen=True, slots=True)
class Choice:
    """What attacks are chosen by, and what is read off for those chosen; one row a seed, one column an attack."""

    by: PerSeed
    figures: PerSeed

    def picks(self, seeds: Seeds) -> Int[np.ndarray, " seeds"]:
        """For each of these seeds the attack that is largest over the others of them; of one seed its own largest."""
        by = self.by[seeds]
        picks: Int[np.ndarray, " seeds"] = (by.sum(axis=0) - by if len(by) > 1 else by).argmax(axis=1)
        return picks

    def read(self, seeds: Seeds) -> Float[np.ndarray, " seeds"]:
        """The figure of each seed's pick."""
        found: Float[np.ndarray, " seeds"] = self.figures[seeds, self.picks(seeds)]
        return found


def chosen(choice: Choice) -> Figure:
    """What the attack chosen for each of two seeds or more by the others reaches; of one attack, its plain mean."""
    seeds, attacks = choice.by.shape
    return over_seeds(choice.figures[:, 0].tolist()) if attacks == 1 else over_choices(choice.read, seeds)


def change(after: Choice, before: Choice) -> Figure | None:
    """The mean of paired differences of what each side's chosen attack reaches; None for one pair."""
    seeds = len(after.by)
    if after.by.shape[1] == before.by.shape[1] == 1:
        return differences(after.figures[:, 0].tolist(), before.figures[:, 0].tolist())
    if not _FEWEST <= seeds == len(before.by):
        return None
    return over_choices(lambda kept: after.read(kept) - before.read(kept), seeds, bounds=(-1.0, 1.0))


def over_choices(
    read: Callable[[Seeds], Float[np.ndarray, " seeds"]], seeds: int, bounds: Interval = (0.0, 1.0)
) -> Figure:
    """The mean over two seeds or more of figures whose attacks are chosen by the other seeds, with its 95 % interval.

    `read` chooses anew among the seeds it is given, and returns a figure for each.
    """
    everybody = np.arange(seeds)
    values = read(everybody)
    mean, own = float(values.mean()), float(values.var(ddof=1)) / seeds
    choosing = own
    if seeds > _FEWEST:
        left = np.array([read(np.delete(everybody, seed)).mean() for seed in everybody])
        choosing = float((seeds - 1) * left.var())
    half = float(stats.t.ppf(0.975, seeds - 1)) * math.sqrt(own + choosing)
    return Figure(value=mean, ci=(max(bounds[0], mean - half), min(bounds[1], mean + half)), by_seed=values.tolist())


def counted(figure: Figure, looks: int, bounds: Interval = (0.0, 1.0)) -> Interval:
    """A figure's interval, widened to hold for `looks` figures at once (Bonferroni, Student's quantiles)."""
    seeds, tails = len(figure.by_seed), [0.025 / max(looks, 1), 0.025]
    wide, usual = stats.t.isf(tails, seeds - 1) if seeds > 1 else stats.norm.isf(tails)
    low, high = (figure.value + wide / usual * (end - figure.value) for end in figure.ci)
    return max(bounds[0], low), min(bounds[1], high)
