"""What a study's runs show together: every attack of every variant at once, as `sim.verdict` judges those of one run.

The coins of different seeds are independent, so the mean over seeds of what attacks reach is held against the mean of
what they reach when each run's memberships are dealt again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from scipy.stats import binom

from clients.randomness import generator
from sim.report.roc import scores_of
from sim.results import AttackResult, Interval, Results, TprAtFpr
from sim.verdict import Adjusted, Luck, adjusted, control_holds, luck_by_client

Key = tuple[str, str, str, str, str | None]  # attack, vantage, target, precision, output
Runs = Mapping[str, Sequence[tuple[Results, pa.Table]]]  # variant -> its runs, each with its scores
Evidence = Mapping[tuple[str, Key], Adjusted]  # by variant and attack
_LOW = "0.01"
_MISS = 0.025  # how often an honest control lies above 0.5


@dataclass(frozen=True, slots=True)
class _Mean:
    """An attack's mean figures over seeds, with no interval: the deals alone judge them."""

    auc: float
    auc_ci: Interval
    tpr_at_fpr: dict[str, TprAtFpr | None]


def key(row: AttackResult) -> Key:
    """Which attack on what."""
    return row.attack, row.vantage, row.target, row.precision, row.output


def shown(runs: Runs) -> Evidence:
    """For each variant and each attack measured with every seed, what holds for all of them at once."""
    names: list[tuple[str, Key]] = []
    means: list[_Mean] = []
    lucks: list[Luck] = []
    for variant, each in runs.items():
        rows = [{key(row): row for row in results.attacks} for results, _ in each]
        common = [name for name in rows[0] if all(name in found for found in rows)]
        names += [(variant, name) for name in common]
        means += [_mean([found[name] for found in rows]) for name in common]
        if common:
            lucks.append(_together([_luck(results, table, common) for results, table in each]))
    found = Luck(
        auc=np.concatenate([one.auc for one in lucks]) if lucks else np.empty((0, 0)),
        tpr=np.concatenate([one.tpr for one in lucks]) if lucks else np.empty((0, 0)),
        decidable=any(one.decidable for one in lucks),
    )
    return dict(zip(names, adjusted(means, found), strict=True))


def controls_failed(results: Sequence[Results], variants: int) -> bool:
    """Whether more controls lie above 0.5 than luck allows: more than in one honest study of twenty."""
    controls = [control for each in results for control in (each.controls.blind, each.controls.stranger)]
    failed = sum(not control_holds(control) for control in controls)
    return failed > 0 and bool(binom.sf(failed - 1, len(controls), _MISS) <= 0.05 / variants)


def _mean(rows: Sequence[AttackResult]) -> _Mean:
    auc = float(np.mean([row.auc for row in rows]))
    cells = [row.tpr_at_fpr.get(_LOW) for row in rows]
    known = [cell.tpr for cell in cells if cell is not None]
    tpr = float(np.mean(known)) if len(known) == len(cells) else None
    cell = None if tpr is None else TprAtFpr(tpr=tpr, ci=(tpr, tpr), realised_fpr=0.01)
    return _Mean(auc, (auc, auc), {_LOW: cell})


def _luck(results: Results, table: pa.Table, names: Sequence[Key]) -> Luck:
    rows = {key(row): row for row in results.attacks}
    parts = [scores_of(table, rows[name]) for name in names]
    scored = [
        tuple(part[column].to_numpy(zero_copy_only=False) for column in ("score", "member", "client")) for part in parts
    ]
    return luck_by_client(scored, generator(results.seed, "deals"))


def _together(each: Sequence[Luck]) -> Luck:
    return Luck(
        auc=np.mean([one.auc for one in each], axis=0),
        tpr=np.mean([one.tpr for one in each], axis=0),
        decidable=any(one.decidable for one in each),
    )
