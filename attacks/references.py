"""What reference models train on, and what they say of records they did not: the attacker's own people, halved."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Int

from attacks.observation import Observation

Groups = Int[np.ndarray, " population"]
Values = Float[np.ndarray, " records"]

_LEAST_TAIL = 1e-200  # scipy inverts no smaller one


def halves(
    count: int, population_size: int, rng: np.random.Generator, groups: Groups | None = None
) -> Bool[np.ndarray, "count population"]:
    """Which records each of `count` references trains on: row r is reference r's half.

    References come in complementary pairs (rows 0 and 1, 2 and 3, ...), so an even number of them leaves every record
    out of exactly half. An odd one at the end is a plain half. With `groups` each group is halved separately; a group
    of odd size gives its extra record to one side by a coin. Raises ValueError for less than one reference.
    """
    if count < 1:
        raise ValueError(f"{count} references asked for: at least 1")
    groups = np.zeros(population_size, dtype=np.int64) if groups is None else groups
    if len(groups) != population_size:
        raise ValueError(f"{len(groups)} groups for {population_size} population records: one each, please")
    rows: list[Bool[np.ndarray, " population"]] = []
    while len(rows) < count:
        half = _half(groups, rng)
        rows += [half, ~half]
    return np.array(rows[:count])


def _half(groups: Groups, rng: np.random.Generator) -> Bool[np.ndarray, " population"]:
    half = np.zeros(len(groups), dtype=bool)
    for group in np.unique(groups):
        members = rng.permutation(np.flatnonzero(groups == group))
        half[members[: (len(members) + rng.integers(2)) // 2]] = True
    return half


def answered(
    observation: Observation, signal: Callable[..., Values]
) -> tuple[Values, Float[np.ndarray, "references records"]]:
    """One of `attacks.signals`, of the target's answers and of the references'; candidates, then the population."""
    oracle = observation.oracle
    assert oracle is not None
    both = observation.candidates.joined(observation.population)
    answers = [oracle(both.x), *(reference.predict(both.x) for reference in observation.references)]
    target, *others = (signal(each, both.y, oracle.output, oracle.resolution) for each in answers)
    return target, np.stack(others)


def left_out(observation: Observation) -> Bool[np.ndarray, "references records"]:
    """Which references did not train on each record; columns are the candidates, then the population.

    No reference trained on a candidate: the attacker has no candidate among its own records.
    """
    trained_on = np.stack([reference.trained_on for reference in observation.references])
    unseen = np.ones((len(trained_on), len(observation.candidates)), dtype=bool)
    return np.concatenate([unseen, ~trained_on], axis=1)


def mean_left_out(
    signal: Float[np.ndarray, "references records"], out: Bool[np.ndarray, "references records"]
) -> tuple[Float[np.ndarray, " records"], Int[np.ndarray, " records"]]:
    """Mean of `signal` over the references in `out`, per record, and how many those are; NaN where there are none."""
    count = out.sum(axis=0)
    total = np.where(out, signal, 0.0).sum(axis=0)
    return np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0), count


def wider(count: Int[np.ndarray, " records"]) -> Values:
    """How much wider than its deviation a value minus the mean of `count` others spreads, by chance alone."""
    return np.asarray(np.sqrt(1 + 1 / np.maximum(count, 1)))


def same_tail(t: Values, freedom: Values, wanted: float) -> Values:
    """What a Student t with `freedom` degrees would be with `wanted` degrees, at the same tail probability.

    With fewer references a record's statistic has heavier tails: this makes it one to compare with the others'.
    """
    from scipy import stats  # takes half a second, and few attacks need it

    changed = freedom != wanted
    tail = np.maximum(stats.t.sf(np.abs(t[changed]), freedom[changed]), _LEAST_TAIL)
    out = t.astype(np.float64)
    out[changed] = np.sign(t[changed]) * stats.t.isf(tail, wanted)
    return out
