"""One rule for what is said to leak: false at most once in twenty where nothing does, and no weaker than it must be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from scipy.stats import binom

from sim import verdict
from sim.results import TprAtFpr
from sim.score import auc, score
from sim.verdict import Tried, adjusted, by_person, by_record, counted, grade, luck


@dataclass(frozen=True)
class Figures:
    """What `adjusted` asks for, and a row that the predicates can read."""

    auc: float
    auc_ci: tuple[float, float]
    tpr_at_fpr: dict
    auc_ci_adjusted: tuple[float, float] = (0.0, 1.0)
    tpr_low_adjusted: float | None = None


def world(rng, clients, each, lift=0.0, attacks=16):
    """Sixteen attacks that have half of their luck in common, on clients that are not alike."""
    client = np.repeat(np.arange(clients), each)
    member = rng.random(len(client)) < 0.5
    shared = rng.normal(size=len(client)) + rng.normal(size=clients)[client] + lift * member
    return client, member, [shared + rng.normal(size=len(client)) for _ in range(attacks)]


def judged(design, member, columns, rng, deals=199):
    """The rows with their adjusted figures. Their own intervals are points: the rule must hold without them."""
    rows = []
    for scores in columns:
        area, caught = auc(scores, member), float(verdict._rates(scores, member[None])[0])
        known = (~member).sum() >= 1000
        cell = TprAtFpr(tpr=caught, ci=(caught, caught), realised_fpr=0.01) if known else None
        rows.append(Figures(area, (area, area), {"0.01": cell}))
    everybody = np.ones(len(member), dtype=bool)
    found = adjusted(rows, luck([Tried(scores, member, everybody) for scores in columns], design, rng, deals))
    return [Figures(r.auc, r.auc_ci, r.tpr_at_fpr, one.auc_ci, one.tpr_low) for r, one in zip(rows, found, strict=True)]


def false_verdicts(runs, clients, each, **options):
    said = []
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        client, member, columns = world(rng, clients, each, **options)
        said.append(grade(judged(by_record(client), member, columns, rng), (), learnt=True))
    return said


def most_by_luck(runs, share=0.05):
    """More than this many of `runs` happen once in a thousand where each happens with probability `share`."""
    return int(binom.ppf(0.999, runs, share))


@pytest.mark.parametrize(("runs", "clients", "each"), [(120, 5, 40), (12, 8, 270)])
def test_where_nothing_leaks_sixteen_attacks_say_so(runs, clients, each):
    """Areas alone; then areas and rates at 1 %, which the verdict can come from as well."""
    said = false_verdicts(runs, clients, each)
    assert sum(each != "none shown" for each in said) <= most_by_luck(runs)


@pytest.mark.slow
@pytest.mark.parametrize(("runs", "clients", "each"), [(600, 5, 40), (150, 8, 270), (600, 2, 20)])
def test_where_nothing_leaks_sixteen_attacks_say_so_at_length(runs, clients, each):
    said = false_verdicts(runs, clients, each)
    assert sum(each != "none shown" for each in said) <= most_by_luck(runs)


def test_a_leak_is_still_seen():
    rng = np.random.default_rng(1)
    client, member, columns = world(rng, 8, 270, lift=0.4)
    rows = judged(by_record(client), member, columns, rng)
    assert grade(rows, (), learnt=True) in ("some, nobody singled out", "singled out")
    assert all(map(verdict.leaks, rows))


def test_what_attacks_have_in_common_is_not_counted_twice():
    """Sixteen copies of one attack need no more than one does."""
    rng = np.random.default_rng(4)
    client, member, columns = world(rng, 6, 60, attacks=1)
    alone = judged(by_record(client), member, columns, np.random.default_rng(0))[0].auc_ci_adjusted
    many = judged(by_record(client), member, columns * 16, np.random.default_rng(0))[0].auc_ci_adjusted
    assert many == pytest.approx(alone)
    apart = [columns[0], *(rng.normal(size=360) for _ in range(15))]
    assert judged(by_record(client), member, apart, np.random.default_rng(0))[0].auc_ci_adjusted[0] < alone[0]


def test_deals_reach_what_a_score_of_dealt_members_reaches():
    """Areas and rates of the deals are those of `score`, ties and all."""
    rng = np.random.default_rng(2)
    scores, member = np.round(rng.normal(size=2600), 1), rng.random((3, 2600)) < 0.5
    for row, rate in zip(member, verdict._rates(scores, member), strict=True):
        cell = score(scores, row, np.zeros(2600), np.zeros(2600), rng, bootstrap=2).tpr_at_fpr["0.01"]
        assert rate == cell.tpr
    ranks = verdict.rankdata(scores)[None]
    assert verdict._areas(ranks, member)[0] == pytest.approx([auc(scores, row) for row in member])


def test_deals_keep_every_client_s_number_of_members_and_one_coin_for_all_of_a_person():
    person = np.array([0, 0, 0, 1, 1, 2, 2, 2, 3, 3])
    member = np.array([1, 0, 1, 1, 1, 0, 0, 0, 0, 0], dtype=bool)  # only person 0 is on both sides
    deals = np.concatenate(list(verdict._dealt(by_person(person, member), 300, np.random.default_rng(0))))
    dealt = member[deals]
    assert (dealt[:, :3].sum(axis=1) == 2).all()
    whole = [dealt[:, person == each] for each in (1, 2, 3)]
    assert all((part == part[:, :1]).all() for part in whole)
    assert (sum(part[:, 0] for part in whole) == 1).all()
    assert all(0.2 < part[:, 0].mean() < 0.5 for part in whole)


def test_three_people_on_either_side_settle_nothing():
    """Twenty ways to deal six people: even the best of them is no rarer than one in twenty."""
    person = np.repeat(np.arange(6), 50)
    member = person < 3
    rows = judged(by_person(person, member), member, [member + 0.01 * np.arange(300)], np.random.default_rng(0))
    assert grade(rows, (), learnt=True) == "not measurable"


@pytest.mark.parametrize(
    ("accuracy", "ci", "commonest", "expected"),
    [
        (0.11, (0.09, 0.13), 0.105, False),
        (0.10, (0.02, 0.30), 0.105, False),
        (0.80, (0.44, 0.97), 0.50, True),  # few records are no proof that nothing was learnt
        (0.91, (0.90, 0.92), 0.89, True),
        (0.90, (0.88, 0.92), 0.90, False),
    ],
)
def test_what_counts_as_learnt(accuracy, ci, commonest, expected):
    assert verdict.learnt(accuracy, ci, commonest) is expected


def test_an_interval_counted_once_is_itself_and_wider_for_more():
    assert counted(0.6, (0.5, 0.8), 1) == pytest.approx((0.5, 0.8))
    low, high = counted(0.6, (0.5, 0.8), 20)
    assert low < 0.45 and high > 0.9
