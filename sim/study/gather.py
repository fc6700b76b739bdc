"""From the results of a study's runs to the study's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import overload

import numpy as np
import tomli_w

from attacks.malicious.making import MAKERS
from attacks.registry import ATTACKS
from sim.report import words
from sim.results import AttackResult, Refusal, Results, Vantage, Verdict
from sim.scenario import Scenario
from sim.study.evidence import Evidence, controls_failed
from sim.study.evidence import key as row_key
from sim.study.figures import Choice, change, chosen, differences, over_seeds
from sim.study.findings import findings
from sim.study.plan import Part
from sim.study.results import Cell, Column, Difference, Figure, Strongest, StudyResults, Variant
from sim.verdict import Adjusted, control_holds, grade

LOW = "0.01"
_ORACLE = "model to query"
Runs = Mapping[str, Sequence[Results]]  # variant -> its runs, in the order of the seeds
_Key = tuple[str, str, str, str | None]


def gather(scenario: Scenario, runs: list[tuple[Part, str, Results]], evidence: Evidence) -> StudyResults:
    """The study's document. `runs`: each part with its folder's name and its results."""
    by_variant: dict[str, list[Results]] = {}
    for part, _, results in runs:
        by_variant.setdefault(part.variant, []).append(results)
    first = runs[0][2]
    columns = list(_columns(by_variant))
    cells = list(_cells(by_variant, evidence))
    cells += _elsewhere(cells, columns)
    strongest = list(_strongest(cells, columns))
    study = StudyResults(
        scenario=scenario.name,
        title=scenario.title or scenario.name,
        synthetic=first.data.synthetic,
        crowd=words.crowd(first.data),
        seeds=[results.seed for results in by_variant[runs[0][0].variant]],
        variants=[_variant(scenario, name, runs, cells) for name in by_variant],
        columns=columns,
        attacks=[name for name in ATTACKS if any(cell.attack == name for cell in cells)],
        cells=cells,
        strongest=strongest,
        differences=[*_protections(cells, columns), *_newcomers(by_variant), *_formats(cells, columns)],
        findings=[],
    )
    return study.model_copy(update={"findings": findings(study)})


def _key(row: AttackResult | Refusal | Column) -> _Key:
    return row.vantage, row.target, row.precision, row.output


def _columns(runs: Runs) -> Iterator[Column]:
    """Who attacks what, in any run: by vantage in the order of the report, then as the runs have them."""
    rows: list[AttackResult | Refusal] = []
    for each in (each for results in runs.values() for each in results):
        rows += [*each.attacks, *each.refused]
    order = list(words.VANTAGES)
    keys = dict.fromkeys(_key(row) for row in rows)
    for vantage, target, precision, output in sorted(keys, key=lambda key: order.index(key[0])):
        yield Column.model_validate({"vantage": vantage, "target": target, "precision": precision, "output": output})


def _cells(runs: Runs, evidence: Evidence) -> Iterator[Cell]:
    for variant, results in runs.items():
        measured: dict[tuple[str, _Key], list[AttackResult]] = {}
        refused: dict[tuple[str, _Key], Refusal] = {}
        for each in results:
            for row in each.attacks:
                measured.setdefault((row.attack, _key(row)), []).append(row)
            refused |= {(row.attack, _key(row)): row for row in each.refused}
        for (attack, _), rows in measured.items():
            if len(rows) == len(results):
                yield _measured(variant, attack, rows, evidence[variant, row_key(rows[0])])
        for (attack, key), refusal in refused.items():
            some = len(measured.get((attack, key), []))
            yield _cannot(variant, refusal, f"measured with {some} of {len(results)} seeds; else: " if some else "")


def _elsewhere(cells: list[Cell], columns: list[Column]) -> list[Cell]:
    """Cells for what was not tried because who sees more can do what others can with less."""
    there = {(cell.variant, cell.attack, _key(cell)) for cell in cells}
    places = dict.fromkeys((cell.variant, _key(cell)) for cell in cells)
    found = []
    for variant, key in places:
        column = next(column for column in columns if _key(column) == key)
        attacks = dict.fromkeys(cell.attack for cell in cells if cell.variant == variant)
        found += [_like(variant, attack, column) for attack in attacks if (variant, attack, key) not in there]
    return found


def _like(variant: str, attack: str, column: Column) -> Cell:
    if ATTACKS[attack].labels_alone and column.output not in (None, "label"):
        return _cell(column, variant, attack, lacks="it reads nothing but labels: see the column of labels")
    other = attack in MAKERS  # of the two columns of a server that deviates it belongs in the other
    user: Vantage = "query" if column.target == "personal" else "global-user"
    with_less: Vantage = user if _ORACLE in ATTACKS[attack].needs else "server"
    lacks = "it is about the other model of the malicious server's" if other else ""
    like = None if other else with_less
    return _cell(column, variant, attack, lacks, like)


def _measured(variant: str, attack: str, rows: list[AttackResult], found: Adjusted) -> Cell:
    caught = [row.tpr_at_fpr[LOW] for row in rows]
    known = [cell for cell in caught if cell is not None]
    return Cell(
        **_column(rows[0]),
        variant=variant,
        attack=attack,
        auc=over_seeds([row.auc for row in rows], rows[0].auc_ci),
        auc_ci_adjusted=found.auc_ci,
        tpr=over_seeds([cell.tpr for cell in known], known[0].ci) if len(known) == len(rows) else None,
        tpr_low_adjusted=found.tpr_low,
        lacks="",
    )


def _cannot(variant: str, row: Refusal, but: str) -> Cell:
    if row.vantage in ("server", "aggregator") and row.lacks == _ORACLE:
        return _cell(row, variant, row.attack, like="global-user")  # it has the final model, and so all that a user has
    return _cell(row, variant, row.attack, but + (f"vantage lacks {row.lacks}" if row.lacks else row.reason))


def _cell(row: Refusal | Column, variant: str, attack: str, lacks: str = "", like: Vantage | None = None) -> Cell:
    return Cell(**_column(row), variant=variant, attack=attack, auc=None, tpr=None, lacks=lacks, like=like)


def _column(row: AttackResult | Refusal | Column) -> dict[str, str | None]:
    return dict(zip(("vantage", "target", "precision", "output"), _key(row), strict=True))


def _strongest(cells: list[Cell], columns: list[Column]) -> Iterator[Strongest]:
    for variant in dict.fromkeys(cell.variant for cell in cells):
        for column, here in _by_column(cells, columns, variant):
            yield _chosen(variant, column, here)


def _chosen(variant: str, column: Column, cells: list[Cell]) -> Strongest:
    choice, caught = _choice(cells), _choice(cells, rates=True)
    seeds = len(choice.by)
    picks = [cells[pick] for pick in choice.picks(np.arange(seeds))]
    only = picks[0]
    assert only.auc is not None
    if seeds == 1:
        auc, tpr = only.auc, only.tpr
    else:
        auc, tpr = chosen(choice), chosen(caught) if caught else None
    return Strongest(
        **_column(column),
        variant=variant,
        attacks=[cell.attack for cell in picks],
        chosen_blind=seeds > 1,
        auc=auc,
        tpr=tpr,
    )


@overload
def _choice(cells: Sequence[Cell]) -> Choice: ...
@overload
def _choice(cells: Sequence[Cell], *, rates: bool) -> Choice | None: ...
def _choice(cells: Sequence[Cell], *, rates: bool = False) -> Choice | None:
    """Attacks of one column, to be chosen by AUC; and their AUC, or their TPR at 1 % FPR where all have one."""
    areas = [cell.auc for cell in cells if cell.auc is not None]
    caught = [cell.tpr for cell in cells if cell.tpr is not None]
    if rates and len(caught) < len(areas):
        return None
    by = np.array([figure.by_seed for figure in areas]).T
    return Choice(by, np.array([figure.by_seed for figure in caught]).T if rates else by)


def _protections(cells: list[Cell], columns: list[Column]) -> Iterator[Difference]:
    """Each variant against the first one, with the attacks that both of them name.

    A server that sees sums alone is held against the one that sees updates.
    """
    first, *others = dict.fromkeys(cell.variant for cell in cells)
    for variant in others:
        shared = _named(cells, first) & _named(cells, variant)
        asked = [cell for cell in cells if cell.attack in shared]
        base = {_seat(column): here for column, here in _by_column(asked, columns, first)}
        for column, here in _by_column(asked, columns, variant):
            if before := base.get(_seat(column)):
                yield from _change("protection", column, variant, here, before)


def _formats(cells: list[Cell], columns: list[Column]) -> Iterator[Difference]:
    """Each form of a model, and its labels alone, against the float32 answers of the same model."""
    users = [column for column in columns if column.vantage in ("query", "global-user")]
    for variant in dict.fromkeys(cell.variant for cell in cells):
        here = {_key(column): found for column, found in _by_column(cells, users, variant)}
        for key, found in here.items():
            whole = (key[0], key[1], "float32", "logits")
            if key != whole and (before := here.get(whole)):
                yield from _change("format", found[0], variant, found, before)


def _by_column(cells: list[Cell], columns: list[Column], variant: str) -> Iterator[tuple[Column, list[Cell]]]:
    """What was measured in each column of a variant."""
    for column in columns:
        here = [c for c in cells if c.variant == variant and _key(c) == _key(column) and c.auc is not None]
        if here:
            yield column, here


def _change(question: str, column: Column, variant: str, here: list[Cell], before: list[Cell]) -> Iterator[Difference]:
    """The strongest attack's AUC here less that before, each chosen for every seed by the others."""
    after = _choice(here)
    if found := change(after, _choice(before)):
        attacks = [here[pick].attack for pick in after.picks(np.arange(len(after.by)))]
        yield _difference(question, column, variant, _common(attacks), found)


def _named(cells: list[Cell], variant: str) -> set[str]:
    return {cell.attack for cell in cells if cell.variant == variant}


def _seat(row: Column) -> _Key:
    vantage, *model = _key(row)
    return ("server" if vantage == "aggregator" else vantage, *model)  # type: ignore[return-value]  # three are left


def _common(attacks: list[str]) -> str:
    return max(dict.fromkeys(attacks), key=attacks.count)


def _newcomers(runs: Runs) -> Iterator[Difference]:
    for variant, results in runs.items():
        arms: dict[tuple[str, _Key], list[AttackResult]] = {}
        for each in results:
            for row in each.attacks:
                if row.arms:
                    arms.setdefault((row.attack, _key(row)), []).append(row)
        for (attack, _), rows in arms.items():
            sides = [{arm.who: arm.auc for arm in row.arms} for row in rows]
            found = differences([s["newcomers"] for s in sides], [s["participants"] for s in sides])
            if found is not None and len(rows) == len(results):
                yield _difference("newcomers", rows[0], variant, attack, found)


def _difference(question: str, row: AttackResult | Column, variant: str, attack: str, found: Figure) -> Difference:
    return Difference.model_validate(
        {**_column(row), "question": question, "variant": variant, "attack": attack, "difference": found}
    )


def _variant(scenario: Scenario, name: str, runs: list[tuple[Part, str, Results]], cells: list[Cell]) -> Variant:
    mine = [(folder, results) for part, folder, results in runs if part.variant == name]
    variants = len({part.variant for part, *_ in runs})
    first = mine[0][1]
    models = {"global": "global_", "personal": "personal", "device": "device"}
    accuracies = {
        model: ([getattr(results.utility, field) for _, results in mine]) for model, field in models.items()
    } | {form: [results.utility.beside[form] for _, results in mine] for form in first.utility.beside}
    return Variant.model_validate(
        {
            "name": name,
            "changes": tomli_w.dumps(scenario.study.variants.get(name, {})).strip(),
            "runs": [folder for folder, _ in mine],
            "accuracy": {
                model: over_seeds([utility.accuracy for utility in found], found[0].accuracy_ci)
                for model, found in accuracies.items()
            },
            "commonest_class": float(np.mean([results.utility.commonest_class for _, results in mine])),
            "verdict": _verdict([results for _, results in mine], [c for c in cells if c.variant == name], variants),
            "promises": list(_promises(first)),
            "controls_held": sum(
                control_holds(control)
                for _, results in mine
                for control in (results.controls.blind, results.controls.stranger)
            ),
        }
    )


def _verdict(results: Sequence[Results], cells: Sequence[Cell], variants: int) -> Verdict:
    """Not learnt where most runs have not; controls failed where more of them have than luck allows."""
    lazy = sum(bool(words.unlearnt(each)) for each in results)
    if 2 * lazy <= len(results) and controls_failed(results, variants):
        return "controls failed"
    return grade([cell for cell in cells if cell.auc is not None], (), learnt=2 * lazy <= len(results))


def _promises(results: Results) -> Iterator[str]:
    for budget in results.budgets:
        if budget.epsilon != "inf":
            noise = ", of noise from the printed seed" if budget.noise == "seed" else ""
            yield f"{budget.unit}, against {words.AGAINST[budget.vantage]}: epsilon {words.epsilon(budget)}{noise}"
