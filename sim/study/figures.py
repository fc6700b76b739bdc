"""Means over seeds and their intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from sim.results import Interval
from sim.study.results import Figure


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
    if len(after) < 2:
        return None
    return over_seeds([a - b for a, b in zip(after, before, strict=True)], bounds=(-1.0, 1.0))
