"""Membership from labels alone: how far is a record from the decision boundary?"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from attacks.label_only import affordable, alike, answers, calibrated, scored
from attacks.observation import Guess, Observation, Predictor, Records, VantageLacksError

QUERIES = 120  # for each record, at most
HALVINGS = 8  # of a segment: the boundary is found to 1/256 of it
PAIR = 2  # references that calibrate: one complementary pair leaves every own record out once
_JUMPS = 4  # each half as long as the one before, until one lands beyond the boundary
_PER_STEP = 40  # queries that make a step worth taking: about half of them find the direction
_FARTHEST = 0.2  # radius that a direction is sought in, as a share of the distance

Values = Float[np.ndarray, " records"]
Points = Float[np.ndarray, "records features"]
Rows = Int[np.ndarray, " asked"]
Beyond = Callable[[Points, Rows], Bool[np.ndarray, " asked"]]  # whether points have another label than their records


def run(observation: Observation, rng: np.random.Generator, queries: int = QUERIES) -> Guess:
    """Score: l2 distance to a near point that is answered with another label; 0 for a wrong answer. Unit: record.

    The boundary attack of Li and Zhang 2021 (arXiv 2007.15528) and Choquette-Choo et al. 2021 (arXiv 2007.14321), with
    distances by HopSkipJump, see `distance`. Where there are references, the mean distance for those that left the
    record out is taken off, see `label_only.calibrated`; two at most, as each is asked as often as the target.

    `queries` per record, or as many as the budget leaves, and one for each own record. Vantage: whoever can query the
    model, for labels too. Raises VantageLacksError where all own records are answered alike: nowhere to start from.
    """
    oracle, seeds = observation.oracle, observation.population.x
    assert oracle is not None
    own, references = scored(observation, rng), alike(observation)[:PAIR]
    records = observation.candidates.joined(observation.population[own])
    oracle(seeds)  # the budget is planned with what these leave
    plan = planned(affordable(oracle, len(records), queries))
    robust = distance(oracle, records, seeds, plan, rng)
    others = [distance(each.predict, records, seeds, plan, rng) for each in references]
    return calibrated(observation, own, robust, references, others)


def planned(queries: int) -> tuple[int, ...]:
    """Directions to ask for in each step, growing with its square root, so that `queries` suffice for one record."""
    steps = queries // _PER_STEP
    roots = np.sqrt(np.arange(1, steps + 1))
    spare = queries - 1 - HALVINGS - steps * (HALVINGS + _JUMPS)
    return tuple(int(spare / roots.sum() * root) for root in roots)


def distance(
    predict: Predictor,
    records: Records,
    seeds: Float[np.ndarray, "own ..."],
    plan: Sequence[int],
    rng: np.random.Generator,
) -> Values:
    """Distance of each record from the decision boundary by HopSkipJump, l2, from labels alone; 0 where answered wrong.

    Chen et al. 2020 (arXiv 1904.02144), algorithm 2, for all records at once: from the nearest of `seeds` with another
    answer, halve the segment down to the boundary; then in each step of `plan` feel for the boundary's direction with
    so many queries (equations 9 and 16), jump along it, and halve again. Steps that come no nearer are not taken. The
    boundary is found to theta = 1/256 of a segment, coarser than the paper's d^(-3/2), and so the radius sqrt(d) *
    theta felt in is wider: next to an int8 model's input steps the paper's would move nothing. An upper bound.

    Raises VantageLacksError where no seed has another answer than some rightly answered record.
    """
    out, right = np.zeros(len(records)), np.flatnonzero(answers(predict, records.x, records.y))
    if not len(right):
        return out
    shape = records.x.shape[1:]
    inside, labels = records.x[right].reshape(len(right), -1).astype(np.float64), records.y[right]

    def beyond(points: Points, rows: Rows) -> Bool[np.ndarray, " asked"]:
        return ~answers(predict, points.reshape(-1, *shape), labels[rows])

    found = predict(seeds).argmax(axis=1)
    at = halved(beyond, inside, nearest(inside, labels, seeds.reshape(len(seeds), -1).astype(np.float64), found))
    for step, count in enumerate(plan, start=1):
        gap = np.linalg.norm(at - inside, axis=1)
        towards = direction(beyond, at, gap, count, rng)
        jumped = halved(beyond, inside, jump(beyond, at, towards, gap / np.sqrt(step)))
        nearer = np.linalg.norm(jumped - inside, axis=1) < gap
        at = np.where(nearer[:, None], jumped, at)
    out[right] = np.linalg.norm(at - inside, axis=1)
    return out


def nearest(inside: Points, labels: Rows, seeds: Points, found: Rows) -> Points:
    """For each record the nearest seed that is answered (`found`) with another label."""
    squares = (inside**2).sum(axis=1)[:, None] + (seeds**2).sum(axis=1) - 2 * inside @ seeds.T
    squares[labels[:, None] == found] = np.inf
    if np.isinf(squares.min(axis=1)).any():
        raise VantageLacksError(
            "attack 'label-boundary' needs own records that the model answers with another label than a candidate's, "
            "there are none",
            "own records with other answers",
        )
    return np.asarray(seeds[squares.argmin(axis=1)])


def halved(beyond: Beyond, inside: Points, outside: Points) -> Points:
    """A point just beyond the boundary on the segment from `inside` to `outside`."""
    rows = np.arange(len(inside))
    for _ in range(HALVINGS):
        middle = (inside + outside) / 2
        far = beyond(middle, rows)[:, None]
        inside, outside = np.where(far, inside, middle), np.where(far, middle, outside)
    return outside


def direction(beyond: Beyond, at: Points, gap: Values, count: int, rng: np.random.Generator) -> Points:
    """Unit vectors away from each record's own side: which of `count` random directions lead beyond the boundary."""
    features = at.shape[1]
    tried = rng.normal(size=(count, features))
    tried /= np.linalg.norm(tried, axis=1, keepdims=True)
    radius, rows = gap[:, None] * min(np.sqrt(features) / 2**HALVINGS, _FARTHEST), np.arange(len(at))
    sides = np.stack([np.where(beyond(at + radius * each, rows), 1.0, -1.0) for each in tried], axis=1)
    mean = sides.mean(axis=1, keepdims=True)
    weighed = np.where(np.abs(mean) == 1, sides, sides - mean) @ tried
    return np.asarray(weighed / np.maximum(np.linalg.norm(weighed, axis=1, keepdims=True), np.finfo(np.float64).tiny))


def jump(beyond: Beyond, at: Points, towards: Points, length: Values) -> Points:
    """Where a jump lands beyond the boundary, halved in length until it does; `at` where it never does."""
    landed, rows = at.copy(), np.arange(len(at))
    for shorter in range(_JUMPS):
        if not len(rows):
            break
        tried = at[rows] + (length[rows] / 2**shorter)[:, None] * towards[rows]
        far = beyond(tried, rows)
        landed[rows[far]] = tried[far]
        rows = rows[~far]
    return landed
