"""How well a guess tells members from non-members, and how sure that figure is.

Ties are never broken in an attacker's favour: the area under the ROC curve counts them half, and a rate at a fixed
false-positive rate takes a whole group of equal scores or none of it.

What the intervals cover: which people, and which of their records, happened to be in the study. Records of one person
share a model and a device, so people are resampled first, then records within each. What they do not cover: another
run of the training or of the attack: for that, run other seeds. With a handful of people no resampling of people tells
how others would fare. Clopper-Pearson intervals take records as independent.

Two sets of scores of the same records are compared by `auc_difference`, which draws the same people and records for
both: that the two intervals overlap says little, since an easy person or record makes both figures larger.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import beta

from sim.results import Interval, OwnThreshold, TprAtFpr

TARGETS = (0.01, 0.001)
OWN_TARGET = 0.01
_ROUNDING = 1e-12  # 0.07 * 100 is a little more than 7

Scores = Float[np.ndarray, " records"]
Membership = Bool[np.ndarray, " records"]
Labels = Int[np.ndarray, " records"] | np.ndarray
Population = Float[np.ndarray, " population"]
Drawn = Int[np.ndarray, " drawn"]  # record numbers, as often as each was drawn


@dataclass(frozen=True, slots=True)
class Score:
    """One attack's success on a set of records; intervals hold at 95 %. Fields as in `sim.results.AttackResult`."""

    auc: float
    auc_ci: Interval
    tpr_at_fpr: dict[str, TprAtFpr | None]  # None: too few non-members to measure this rate
    own_threshold: OwnThreshold | None  # None: the attacker's own records are too few to set one
    members: int
    nonmembers: int


@dataclass(frozen=True, slots=True)
class Difference:
    """How much larger one area under the ROC curve is than another, both over the same records."""

    difference: float
    ci: Interval


def score(
    scores: Scores,
    member: Membership,
    person: Labels,
    client: Labels,
    rng: np.random.Generator,
    population_scores: Population | Mapping[int, Population] | None = None,
    bootstrap: int = 1000,
) -> Score:
    """Score one attack on records of known membership; a larger score says member.

    `person` and `client` name each record's person and client. Where every client has a personal model,
    `population_scores` maps each client to the attacker's own scores under that model, and the threshold is set per
    client; intervals of what it achieves are Clopper-Pearson's. The other intervals are percentiles of a bootstrap over
    people, then records within a person (members and non-members apart), with `bootstrap` replicates; with one person
    that is a bootstrap over records. Those of rates are never narrower than Clopper-Pearson's. Raises ValueError for
    scores that are not finite, arrays of unequal length, or no member or no non-member among the records.
    """
    _check(scores, member, person, client)
    group = _tie_groups(scores)
    counts = _tie_counts(group, member)
    measured = [target for target in TARGETS if measurable(int((~member).sum()), target)]
    replicates = _replicates(group, member, person, measured, bootstrap, rng)
    return Score(
        auc=_auc(*counts),
        auc_ci=_auc_interval(_auc(*counts), replicates[:, 0], member),
        tpr_at_fpr=dict.fromkeys(map(str, TARGETS), None)
        | {
            str(target): _with_interval(*_tpr_at_fpr(*counts, target), replicates[:, 1 + i], int(member.sum()))
            for i, target in enumerate(measured)
        },
        own_threshold=_own_threshold(scores, member, client, population_scores),
        members=int(member.sum()),
        nonmembers=int((~member).sum()),
    )


def auc(scores: Scores, member: Membership, weights: Scores | None = None) -> float:
    """Area under the ROC curve: P(member's score > non-member's) + P(equal) / 2 (Mann-Whitney), records weighted."""
    _check(scores, member)
    return _auc(*_tie_counts(_tie_groups(scores), member, weights))


def auc_difference(
    before: Scores,
    after: Scores,
    member: Membership,
    person: Labels,
    rng: np.random.Generator,
    bootstrap: int = 1000,
) -> Difference:
    """The area under the ROC curve of `after` less that of `before`: paired, two scores for each record.

    The 95 % interval holds percentiles over the bootstrap of `score`, with the same people and records drawn for both.
    It covers the luck of which people and records were in the study, so it answers: would another draw of them show a
    difference too? It does not cover another training. Scores that order all records alike give 0 [0, 0]: these
    records show no difference, which is no proof that others would not. Where one of the areas is 0 or 1 no replicate
    moves it, so there the interval runs between the far ends of both areas' own. Raises ValueError as `score` does.
    """
    _check(before, member, person)
    _check(after, member)
    groups = _tie_groups(before), _tie_groups(after)
    if np.array_equal(*groups):
        return Difference(0.0, (0.0, 0.0))
    areas = [_auc(*_tie_counts(group, member)) for group in groups]
    figures = np.full((bootstrap, 2), np.nan)
    for row, drawn in zip(figures, _resamples(member, person, bootstrap, rng), strict=False):
        row[:] = [_auc(*_drawn_counts(group, *drawn)) for group in groups]
    return Difference(areas[1] - areas[0], _difference_interval(areas, figures, member))


def auc_apart(
    scores: Scores,
    member: Membership,
    person: Labels,
    apart: Membership,
    rng: np.random.Generator,
    bootstrap: int = 1000,
) -> Difference:
    """The area under the ROC curve of the records in `apart` less that of the others, all of the same people.

    The 95 % interval holds percentiles of a bootstrap that draws people, then records of each; members and non-members
    in `apart` and not are four groups, each drawn from alone. Raises ValueError as `score` does, for either part.
    """
    areas = [auc(scores[part], member[part]) for part in (apart, ~apart)]
    people, number = np.unique(person, return_inverse=True)
    group, cells = _tie_groups(scores), [side & part for part in (apart, ~apart) for side in (member, ~member)]
    sides = [_Side(np.flatnonzero(cell), number[cell], len(people)) for cell in cells]
    replicates = np.full((bootstrap, 2), np.nan)
    for row in replicates:
        copies = np.bincount(rng.integers(len(people), size=len(people)), minlength=len(people))
        drawn = [side.resample(copies, rng) for side in sides]
        if all(map(len, drawn)):
            row[:] = _auc(*_drawn_counts(group, *drawn[:2])), _auc(*_drawn_counts(group, *drawn[2:]))
    fewer = apart if apart.sum() < len(apart) / 2 else ~apart
    return Difference(areas[0] - areas[1], _difference_interval(areas[::-1], replicates[:, ::-1], member[fewer]))


def accuracy_difference(
    before: Membership, after: Membership, person: Labels, rng: np.random.Generator, bootstrap: int = 1000
) -> Difference:
    """The accuracy of `after` less that of `before`, paired: for each record, whether each of two models is right.

    The 95 % interval holds percentiles of a bootstrap that draws people, then records of each. Like `auc_difference` it
    covers who and what was in the study, not another training.
    """
    change = after.astype(np.float64) - before
    groups = [change[person == each] for each in np.unique(person)]
    replicates = np.empty(bootstrap)
    for i in range(bootstrap):
        people = [groups[k] for k in rng.integers(len(groups), size=len(groups))]
        replicates[i] = np.concatenate([rng.choice(records, len(records)) for records in people]).mean()
    return Difference(float(change.mean()), _percentiles(replicates))


def roc(scores: Scores, member: Membership) -> tuple[Scores, Scores, Scores]:
    """False-positive rate, true-positive rate and threshold, one point per distinct score, from (0, 0) to (1, 1).

    A record is called a member where its score is at or above the threshold; the first threshold is infinity.
    """
    _check(scores, member)
    members, others = _tie_counts(_tie_groups(scores), member)
    tpr, fpr = (np.concatenate([[0.0], np.cumsum(n) / n.sum()]) for n in (members, others))
    return fpr, tpr, np.concatenate([[np.inf], np.unique(scores)[::-1]])


def tpr_at_fpr(scores: Scores, member: Membership, target: float) -> tuple[float, float]:
    """The true-positive rate at the largest false-positive rate that does not pass `target`, and that rate.

    A point of the ROC curve itself: nothing between two points is made up, records with equal scores stay together.
    """
    _check(scores, member)
    return _tpr_at_fpr(*_tie_counts(_tie_groups(scores), member), target)


def measurable(nonmembers: int, target: float) -> bool:
    """Whether a false-positive rate can be measured: ten false positives or more are expected at it."""
    return nonmembers * target >= 10 * (1 - _ROUNDING)


def clopper_pearson(k: int, n: int, confidence: float = 0.95) -> Interval:
    """Exact interval of a binomial probability after `k` hits in `n` independent trials (Clopper & Pearson 1934).

    Raises ValueError unless 0 <= k <= n and n > 0.
    """
    if not 0 <= k <= n or n == 0:
        raise ValueError(f"{k} hits in {n} trials: trials must be 1 or more, hits between 0 and trials")
    tail = (1 - confidence) / 2
    low = float(beta.ppf(tail, k, n - k + 1)) if k else 0.0
    high = float(beta.ppf(1 - tail, k + 1, n - k)) if k < n else 1.0
    return low, high


def accuracy_interval(correct: int, records: int, confidence: float = 0.95) -> Interval:
    """Clopper-Pearson interval of an accuracy: `correct` of `records`, taken as independent given the model."""
    return clopper_pearson(correct, records, confidence)


def own_cut(population_scores: Population, target: float) -> float | None:
    """The score *above* which the attacker calls a record a member, aiming at the false-positive rate `target`.

    The k-th largest of its own n finite scores with k = floor(target * (n + 1)): a further non-member of the same
    distribution passes it with probability k / (n + 1) <= target (split conformal quantile). None where
    n < 1 / target.
    """
    finite = np.sort(population_scores[np.isfinite(population_scores)])
    if len(finite) * target < 1 - _ROUNDING:
        return None
    return float(finite[-int(target * (len(finite) + 1) + _ROUNDING)])


def _tie_groups(scores: Scores) -> Labels:
    """For each record, the rank of its score among the distinct scores: 0 is the largest."""
    distinct, rank = np.unique(scores, return_inverse=True)
    return np.asarray(len(distinct) - 1 - rank)


def _tie_counts(group: Labels, member: Membership, weights: Scores | None = None) -> tuple[Scores, Scores]:
    """Members and non-members (their weights) in each group of equal scores, largest score first."""
    size = int(group.max()) + 1
    weights = np.ones(len(group)) if weights is None else weights
    members = np.bincount(group[member], weights[member], minlength=size)
    return members, np.bincount(group[~member], weights[~member], minlength=size)


def _auc(members: Scores, others: Scores) -> float:
    below = others.sum() - np.cumsum(others) + others / 2
    return float(members @ below / (members.sum() * others.sum()))


def _tpr_at_fpr(members: Scores, others: Scores, target: float) -> tuple[float, float]:
    false_positives, total = np.cumsum(others), others.sum()
    taken = int(np.searchsorted(false_positives, target * total * (1 + _ROUNDING), side="right"))
    return float(members[:taken].sum() / members.sum()), float(others[:taken].sum() / total)


def _replicates(
    group: Labels,
    member: Membership,
    person: Labels,
    targets: list[float],
    count: int,
    rng: np.random.Generator,
) -> Float[np.ndarray, "replicates figures"]:
    """AUC and true-positive rates of each bootstrap replicate; rows of NaN for those that `_resamples` leaves out."""
    figures = np.full((count, 1 + len(targets)), np.nan)
    for row, drawn in zip(figures, _resamples(member, person, count, rng), strict=False):
        counts = _drawn_counts(group, *drawn)
        row[:] = [_auc(*counts), *(_tpr_at_fpr(*counts, target)[0] for target in targets)]
    return figures


def _resamples(
    member: Membership, person: Labels, count: int, rng: np.random.Generator
) -> Iterator[tuple[Drawn, Drawn]]:
    """The members and the non-members of `count` bootstrap replicates, but for those that lack either.

    People are drawn first, then as many records of each as it has.
    """
    people, number = np.unique(person, return_inverse=True)
    sides = [_Side(np.flatnonzero(side), number[side], len(people)) for side in (member, ~member)]
    for _ in range(count):
        copies = np.bincount(rng.integers(len(people), size=len(people)), minlength=len(people))
        members, others = (side.resample(copies, rng) for side in sides)
        if len(members) and len(others):
            yield members, others


class _Side:
    """The members, or the non-members, sorted by person so that a person's records can be drawn from a range."""

    def __init__(self, record: Drawn, person: Labels, people: int) -> None:
        self.record = record[np.argsort(person, kind="stable")]
        self.sizes = np.bincount(person, minlength=people)
        self.starts = np.cumsum(self.sizes) - self.sizes

    def resample(self, copies: Labels, rng: np.random.Generator) -> Drawn:
        """Records, when person p came up `copies[p]` times and each time gave as many as it has."""
        draws = copies * self.sizes
        start, size = np.repeat(self.starts, draws), np.repeat(self.sizes, draws)
        drawn: Drawn = self.record[start + (rng.random(len(size)) * size).astype(np.int64)]
        return drawn


def _drawn_counts(group: Labels, members: Drawn, others: Drawn) -> tuple[Scores, Scores]:
    """As `_tie_counts`, of drawn records."""
    size = int(group.max()) + 1
    first, second = (np.bincount(group[drawn], minlength=size).astype(np.float64) for drawn in (members, others))
    return first, second


def _percentiles(values: Scores) -> Interval:
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)


def _auc_interval(value: float, replicates: Scores, member: Membership) -> Interval:
    """Bootstrap interval. Perfect separation repeats itself in every replicate, so there independent pairs decide."""
    low, high = _percentiles(replicates)
    if value in (0.0, 1.0):
        pairs = int(min(member.sum(), (~member).sum()))
        return clopper_pearson(round(value * pairs), pairs)
    return min(low, value), max(high, value)


def _difference_interval(
    areas: list[float], replicates: Float[np.ndarray, "replicates 2"], member: Membership
) -> Interval:
    if any(area in (0.0, 1.0) for area in areas):
        before, after = (_auc_interval(area, replicates[:, i], member) for i, area in enumerate(areas))
        return after[0] - before[1], after[1] - before[0]
    low, high = _percentiles(replicates[:, 1] - replicates[:, 0])
    return min(low, areas[1] - areas[0]), max(high, areas[1] - areas[0])


def _with_interval(tpr: float, realised: float, replicates: Scores, members: int) -> TprAtFpr:
    exact, drawn = clopper_pearson(round(tpr * members), members), _percentiles(replicates)
    ci = (min(exact[0], drawn[0]), max(exact[1], drawn[1]))
    return TprAtFpr(tpr=tpr, ci=ci, realised_fpr=realised)


def _own_threshold(
    scores: Scores,
    member: Membership,
    client: Labels,
    population_scores: Population | Mapping[int, Population] | None,
) -> OwnThreshold | None:
    if population_scores is None:
        return None
    cut = np.empty(len(scores))
    for one in np.unique(client):
        own = population_scores[int(one)] if isinstance(population_scores, Mapping) else population_scores
        found = own_cut(own, OWN_TARGET)
        if found is None:
            return None
        cut[client == one] = found
    hits = [int((scores > cut)[side].sum()) for side in (member, ~member)]
    totals = [int(side.sum()) for side in (member, ~member)]
    return OwnThreshold(
        target_fpr=OWN_TARGET,
        tpr=hits[0] / totals[0],
        tpr_ci=clopper_pearson(hits[0], totals[0]),
        realised_fpr=hits[1] / totals[1],
        realised_fpr_ci=clopper_pearson(hits[1], totals[1]),
    )


def _check(scores: Scores, member: Membership, *labels: Labels) -> None:
    if member.dtype != np.bool_ or any(len(other) != len(scores) for other in (member, *labels)):
        raise ValueError(
            f"{len(scores)} scores with {[len(other) for other in (member, *labels)]} entries of {member.dtype} "
            "membership and labels: one each, please, and membership as booleans"
        )
    if not np.isfinite(scores).all():
        raise ValueError(f"{int((~np.isfinite(scores)).sum())} of {len(scores)} scores are not finite")
    if not member.any() or member.all():
        raise ValueError(f"{int(member.sum())} members among {len(member)} records: both kinds are needed")
