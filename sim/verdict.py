"""The statistics of a verdict: whether a leak is shown at all, once every attack that was tried has been counted.

One rule, for a run, a study and an audit. Membership was tossed by a coin for every record, so if nothing leaks, other
tosses would have served the scores as well: membership is dealt again at random, many times, and every attack is
measured each time, all against the same deal. The largest standardised figure of each deal says what the *strongest of
all these attacks* reaches by luck alone, whatever the attacks have in common (Westfall and Young 1993, single-step
maxT). That holds with few people and few records as well, and asks nothing of how scores are distributed.

Two families are judged: areas under the ROC curve, whose intervals hold at 95 % for all attacks at once, and
true-positive rates (TPR) at a false-positive rate (FPR) of 1 %, whose lower ends do at 97.5 %. Together a model that
gives nothing away is said to leak, or to let anybody be singled out, at most once in twenty times.

An adjusted interval is never narrower than the figure's own, widened alike: the deals say what luck does where nothing
leaks, the figure's own interval what it does where something does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import gammaln
from scipy.stats import norm, rankdata

from sim.results import Interval, TprAtFpr, Verdict
from sim.score import measurable

CHANCE = 0.5
LOW = 0.01  # the FPR at which somebody is called singled out
DEALS = 1999
FEWEST_DEALS = 40  # ways to deal membership: with fewer, no figure can be rarer than 2.5 %
LUCK_TAIL = 0.025  # share of 95 % intervals that lie wholly above the truth by luck alone
FEW_PEOPLE = 10  # with fewer, drawing people again says little of how others would fare
_LEVEL = 0.95
_USUAL = float(norm.ppf(0.975))
_SLIGHT = 0.05
_CONTROLS = 2  # of a run
_AT_ONCE = 4_000_000  # entries of a matrix of deals
_HAIR = 1e-9  # a figure that another deal equals is not above it

Scores = Float[np.ndarray, " records"]
Membership = Bool[np.ndarray, " records"]
Labels = Int[np.ndarray, " records"]
Deals = Int[np.ndarray, "deals records"]
Replicates = Float[np.ndarray, "figures deals"]


@dataclass(frozen=True, slots=True)
class Design:
    """How membership came about, for each record: within which group, and together with which other records.

    Membership is dealt again within each `stratum`, among its `block`s; the records of a block share one coin.
    """

    stratum: Labels
    block: Labels


@dataclass(frozen=True, slots=True)
class Tried:
    """One attack's score of each record in `rows` of a design, which are whole strata, and who of them was a member."""

    scores: Scores
    member: Membership
    rows: Membership


@dataclass(frozen=True, slots=True)
class Luck:
    """What each attack reaches by luck: its AUC, and its TPR at 1 % FPR, in each deal; NaN where not measured."""

    auc: Replicates
    tpr: Replicates
    decidable: bool  # whether membership could be dealt in so many ways that some of what comes out is rare


@dataclass(frozen=True, slots=True)
class Adjusted:
    """What holds for all attacks at once: an AUC's interval, and the lower end of a TPR at 1 % FPR."""

    auc_ci: Interval
    tpr_low: float | None  # None where it cannot be measured


class Measured(Protocol):
    """An attack's own figures, with the intervals that hold for it alone."""

    @property
    def auc(self) -> float:
        """Area under the ROC curve."""

    @property
    def auc_ci(self) -> Interval:
        """Its 95 % interval."""

    @property
    def tpr_at_fpr(self) -> dict[str, TprAtFpr | None]:
        """By FPR."""


class Row(Protocol):
    """An attack's row in a document."""

    @property
    def auc_ci_adjusted(self) -> Interval:
        """Of the AUC, for all attacks at once."""

    @property
    def tpr_low_adjusted(self) -> float | None:
        """Lower end of the TPR at 1 % FPR, for all attacks at once; None where it cannot be measured."""


class Controlled(Protocol):
    """A control's AUC."""

    @property
    def auc(self) -> float:
        """Area under the ROC curve."""

    @property
    def auc_ci(self) -> Interval:
        """Its 95 % interval."""


def leaks(row: Row) -> bool:
    """Whether an attack tells members from others, all attacks counted."""
    return row.auc_ci_adjusted[0] > CHANCE


def singles_out(row: Row) -> bool:
    """Whether an attack catches more members at 1 % FPR than guessing would, all attacks counted."""
    return row.tpr_low_adjusted is not None and row.tpr_low_adjusted > LOW


def below(row: Row) -> bool:
    """Whether an attack lies below chance, all attacks counted: as if members and non-members were swapped."""
    return row.auc_ci_adjusted[1] < CHANCE


def control_holds(control: Controlled) -> bool:
    """Whether a control does no better than chance: its interval, widened for a run's two controls, reaches 0.5.

    So an honest run is condemned in at most 5 % of cases, although the figure of a cross-fitted classifier is up to a
    seventh more spread than its interval says where records are much alike. A control that lies *below* 0.5 has not
    told members from others, and is no fault: such records, some members and some not, mislead it.
    """
    return counted(control.auc, control.auc_ci, _CONTROLS)[0] <= CHANCE


def control_below(control: Controlled) -> bool:
    """Whether a control's interval lies wholly below 0.5."""
    return control.auc_ci[1] < CHANCE


def grade(rows: Sequence[Row], controls: Sequence[Controlled], *, learnt: bool) -> Verdict:
    """The verdict. A model that has not learnt comes first, then controls that failed: no other figure counts then."""
    if not learnt:
        return "not learnt"
    if not all(map(control_holds, controls)):
        return "controls failed"
    if any(map(singles_out, rows)):
        return "singled out"
    if any(map(leaks, rows)):
        known = any(row.tpr_low_adjusted is not None for row in rows)
        return "some, nobody singled out" if known else "some, singling out not measurable"
    if all(row.auc_ci_adjusted == (0.0, 1.0) for row in rows):
        return "not measurable"
    return "none shown"


def learnt(accuracy: float, ci: Interval, commonest: float) -> bool:
    """Whether a model has learnt anything, judged by its held-out accuracy beside that of the commonest class alone.

    It has not where that accuracy is less than a twentieth of the way above the commonest class's share, towards 1,
    and its 95 % interval does not lie above that share.
    """
    return accuracy - commonest > _SLIGHT * (1 - commonest) or ci[0] > commonest


def counted(value: float, ci: Interval, looks: int) -> Interval:
    """A figure's 95 % interval, widened to hold for `looks` figures at once (Bonferroni, normal quantiles).

    For figures that no deal of membership can judge, such as differences between two models.
    """
    factor = float(norm.ppf(1 - (1 - _LEVEL) / 2 / max(looks, 1))) / _USUAL
    return value - factor * (value - ci[0]), value + factor * (ci[1] - value)


def by_record(stratum: Labels) -> Design:
    """Every record has a coin of its own, tossed within its stratum."""
    return Design(stratum, np.arange(len(stratum)))


def by_person(person: Labels, member: Membership) -> Design:
    """Who has records on both sides has a coin for each; of anybody else one coin decided about all records."""
    people, number = np.unique(person, return_inverse=True)
    share = np.bincount(number, member, minlength=len(people)) / np.bincount(number, minlength=len(people))
    whole = ((share == 0) | (share == 1))[number]
    first = np.unique(number, return_index=True)[1][number]
    return Design(np.where(whole, -1, number), np.where(whole, first, np.arange(len(person))))


def luck(tried: Sequence[Tried], design: Design, rng: np.random.Generator, deals: int = DEALS) -> Luck:
    """What every attack reaches when membership is dealt again at random, `deals` times, the same for all of them."""
    auc, tpr = (np.full((len(tried), deals), np.nan) for _ in range(2))
    groups = list(_alike(tried))
    start = 0
    for deal in _dealt(design, deals, rng):
        stop = start + len(deal)
        for numbers in groups:
            one = tried[numbers[0]]
            whole = np.zeros(len(design.stratum), dtype=bool)
            whole[one.rows] = one.member
            member = whole[deal][:, one.rows]
            ranks = np.stack([rankdata(tried[number].scores) for number in numbers])
            auc[numbers, start:stop] = _areas(ranks, member)
            if measurable(int((~one.member).sum()), LOW):
                for number in numbers:
                    tpr[number, start:stop] = _rates(tried[number].scores, member)
        start = stop
    return Luck(auc, tpr, any(_ways(design, tried[numbers[0]]) >= FEWEST_DEALS for numbers in groups))


def luck_by_client(scored: Sequence[tuple[Scores, Membership, Labels]], rng: np.random.Generator) -> Luck:
    """As `luck`, where every record has a coin of its own: each attack's scores, members and clients of its records.

    An attack is about all records of the clients that it is about.
    """
    client = max((each for *_, each in scored), key=len)
    tried = [Tried(scores, member, np.isin(client, clients)) for scores, member, clients in scored]
    return luck(tried, by_record(client), rng)


def _alike(tried: Sequence[Tried]) -> Iterator[list[int]]:
    """The numbers of those that are about the same records with the same members."""
    groups: dict[tuple[bytes, bytes], list[int]] = {}
    for number, each in enumerate(tried):
        groups.setdefault((each.rows.tobytes(), each.member.tobytes()), []).append(number)
    yield from groups.values()


def _ways(design: Design, one: Tried) -> float:
    """In how many ways membership can be dealt to these records."""
    stratum, block = design.stratum[one.rows], design.block[one.rows]
    first = np.unique(block, return_index=True)[1]
    ways = 0.0
    for each in np.unique(stratum):
        coins = one.member[first[stratum[first] == each]]
        ways += gammaln(len(coins) + 1) - gammaln(coins.sum() + 1) - gammaln((~coins).sum() + 1)
    return math.exp(min(ways, 100.0))


def _dealt(design: Design, deals: int, rng: np.random.Generator) -> Iterator[Deals]:
    """For each deal and record, the record whose membership it gets."""
    plain = np.arange(len(design.stratum))
    groups = [_Group(np.flatnonzero(design.stratum == each), design.block) for each in np.unique(design.stratum)]
    at_once = max(1, _AT_ONCE // len(plain))
    for start in range(0, deals, at_once):
        dealt = np.tile(plain, (min(at_once, deals - start), 1))
        for group in groups:
            dealt[:, group.records] = group.deal(len(dealt), rng)
        yield dealt


class _Group:
    """The records of one stratum, each with its place among the stratum's blocks."""

    def __init__(self, records: Labels, block: Labels) -> None:
        self.records = records
        _, first, self.place = np.unique(block[records], return_index=True, return_inverse=True)
        self.blocks = records[first]

    def deal(self, times: int, rng: np.random.Generator) -> Deals:
        """Block by block, the membership of another block, drawn without replacement."""
        drawn: Deals = rng.permuted(np.tile(self.blocks, (times, 1)), axis=1)[:, self.place]
        return drawn


def _areas(
    ranks: Float[np.ndarray, "figures records"], member: Bool[np.ndarray, "deals records"]
) -> Float[np.ndarray, "figures deals"]:
    """The AUC of each ranking (ties at their mean rank) under each deal; NaN where one side is empty."""
    members = member.sum(axis=1).astype(np.float64)
    others = member.shape[1] - members
    with np.errstate(divide="ignore", invalid="ignore"):
        areas: Float[np.ndarray, "figures deals"] = (
            ranks @ member.T.astype(np.float64) - members * (members + 1) / 2
        ) / (members * others)
    return np.where(members * others > 0, areas, np.nan)


def _rates(scores: Scores, member: Bool[np.ndarray, "deals records"]) -> Float[np.ndarray, " deals"]:
    """The TPR at the largest FPR of the ROC curve that does not pass 1 %, under each deal."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))  # the last record of each group of ties
    members = member.sum(axis=1)
    others = len(scores) - members
    allowed = np.floor(LOW * others * (1 + 1e-12)).astype(np.int64)
    top = min(len(scores), 8 * int(allowed.max(initial=0)) + 64)
    while True:  # until every deal has passed its number of false alarms
        false = np.cumsum(~member[:, order[:top]], axis=1)
        if top == len(scores) or bool((false[:, -1] > allowed).all()):
            break
        top = min(len(scores), 4 * top)
    ends = ends[ends < top]
    if not len(ends):
        return np.zeros(len(member))
    inside = (false[:, ends] <= allowed[:, None]).sum(axis=1)
    last = ends[np.maximum(inside - 1, 0)]
    caught = np.where(inside > 0, last + 1 - false[np.arange(len(member)), last], 0)
    return np.asarray(caught / np.maximum(members, 1), dtype=np.float64)


def adjusted(measured: Sequence[Measured], found: Luck) -> list[Adjusted]:
    """What holds for all of these attacks at once, given what luck does to each of them."""
    cells = [each.tpr_at_fpr.get(str(LOW)) for each in measured]
    if not found.decidable:
        return [Adjusted((0.0, 1.0), None if cell is None else 0.0) for cell in cells]
    return [
        Adjusted(ci, low)
        for ci, low in zip(_areas_adjusted(measured, found.auc), _rates_adjusted(cells, found.tpr), strict=True)
    ]


def _areas_adjusted(measured: Sequence[Measured], replicates: Replicates) -> Iterator[Interval]:
    if not measured:
        return
    centre, spread, most = _quantile(replicates, two_sided=True)
    for each, mid, sd in zip(measured, centre, spread, strict=True):
        low, high = (_stretched(each.auc, end, most) for end in each.auc_ci)
        by_luck = each.auc - (mid - CHANCE)
        yield max(0.0, min(low, by_luck - most * sd)), min(1.0, max(high, by_luck + most * sd))


def _rates_adjusted(cells: Sequence[TprAtFpr | None], replicates: Replicates) -> Iterator[float | None]:
    known = np.array([cell is not None for cell in cells], dtype=bool)
    centre, spread = np.zeros(len(cells)), np.zeros(len(cells))
    most = 0.0
    if known.any():
        centre[known], spread[known], most = _quantile(replicates[known], two_sided=False)
    for cell, mid, sd in zip(cells, centre, spread, strict=True):
        if cell is None:
            yield None
        else:
            yield max(0.0, min(_stretched(cell.tpr, cell.ci[0], most), cell.tpr - max(0.0, mid - LOW) - most * sd))


def _quantile(
    replicates: Replicates, *, two_sided: bool
) -> tuple[Float[np.ndarray, " figures"], Float[np.ndarray, " figures"], float]:
    """Each figure's mean and standard deviation over the deals, and how many of these the largest may be by luck."""
    centre, spread = np.nanmean(replicates, axis=1), np.nanstd(replicates, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        standard = np.where(spread[:, None] > 0, (replicates - centre[:, None]) / spread[:, None], 0.0)
    largest = np.sort(np.nanmax(np.abs(standard) if two_sided else standard, axis=0))
    share = _LEVEL if two_sided else (1 + _LEVEL) / 2
    place = min(len(largest), math.ceil(share * (len(largest) + 1)))
    return centre, spread, float(largest[place - 1]) * (1 + _HAIR)


def _stretched(value: float, end: float, most: float) -> float:
    return value + max(1.0, most / _USUAL) * (end - value)
