"""What a study's figures say, in plain words."""

from __future__ import annotations

from collections.abc import Iterator

from sim.report import words
from sim.study.figures import counted
from sim.study.results import Column, Difference, Figure, Strongest, StudyResults
from sim.verdict import CHANCE, LUCK_TAIL, leaks, singles_out

TRAINING = ("server", "aggregator", "malicious-server")  # who sees the training, and not a model alone


def findings(study: StudyResults) -> list[str]:
    """One sentence each, the most important first."""
    parts = (_not_learnt, _controls, _strongest, _formats, _protections, _newcomers, _luck)
    return [sentence for part in parts for sentence in part(study)]


def model(column: Column) -> str:
    """The attacked model in words, such as "personal int8 labels"; for whoever aggregates, the training."""
    if column.vantage in TRAINING:
        return "models that it had made" if column.target == "personal" else "the training"
    return f"{column.target} {column.precision}{' labels' if column.output == 'label' else ''}"


def where(column: Column) -> str:
    """A column in words, such as "query, personal int8"."""
    return f"{column.vantage}, {model(column)}"


def auc(figure: Figure) -> str:
    """An AUC with its interval, to two places."""
    return f"{figure.value:.2f} {words.interval(figure.ci)}"


def change(figure: Figure) -> str:
    """A difference of AUCs with its interval."""
    value, low, high = (f"{each:+z.3f}" for each in (figure.value, *figure.ci))
    return f"{value} [{low}, {high}]"


def settled(figure: Figure, looks: int = 1) -> bool:
    """Whether the interval of a difference leaves 0 out, when it holds for `looks` differences at once."""
    low, high = counted(figure, looks, bounds=(-1.0, 1.0))
    return low > 0 or high < 0


def chosen(row: Strongest) -> str:
    """The attacks that were chosen, the most frequent first, each with how often if there are several."""
    counts = sorted({attack: row.attacks.count(attack) for attack in row.attacks}.items(), key=lambda item: -item[1])
    if len(counts) == 1:
        return counts[0][0]
    return ", ".join(f"{attack} ({count} of {len(row.attacks)})" for attack, count in counts)


def _not_learnt(study: StudyResults) -> Iterator[str]:
    for variant in study.variants:
        if variant.verdict == "not learnt":
            found = variant.accuracy
            yield (
                f"Variant {variant.name}: the models have not learnt in most runs. Accuracy on held-out records is"
                f" {auc(found['global'])} with the global model, {auc(found['personal'])} with each client's own;"
                f" always naming the commonest class gets {variant.commonest_class:.2f}. What attacks reach says"
                " nothing about a model that works."
            )


def _controls(study: StudyResults) -> Iterator[str]:
    for variant in study.variants:
        total = 2 * len(variant.runs)
        if failed := total - variant.controls_held:
            most = (
                "That is more than luck: do not trust this variant's figures until it is explained."
                if variant.verdict == "controls failed"
                else f"Luck alone would give about {total * LUCK_TAIL:.1f}."
            )
            yield f"{failed} of {total} controls of variant {variant.name} lie above 0.5. {most}"


def _strongest(study: StudyResults) -> Iterator[str]:
    tried = sum(cell.auc is not None for cell in study.cells)
    for variant in study.variants:
        rows = [row for row in study.strongest if row.variant == variant.name]
        if not rows:
            continue
        above = [cell for cell in study.cells if cell.variant == variant.name and leaks(cell)]
        places = {row.key for row in rows} & {cell.key for cell in above}
        top = max(rows, key=lambda row: (row.key in places, row.auc.value))
        wide = counted(top.auc, len(rows))
        rest = f" (wide, with {len(study.seeds)} seeds; the verdict rests on the coins within each run)"
        hedge = rest if places and wide[0] <= CHANCE else ""
        figure = (
            f"The most exposed place is {where(top)}, where the strongest attack ({chosen(top)}; {_blind(top)}) has AUC"
            f" {top.auc.value:.2f} {words.interval(wide)}, with all {len(rows)} places counted"
            f"{hedge}"
        )
        if not places:
            yield f"Variant {variant.name}: no leak is shown, counting all {tried} figures of the study. {figure}."
            continue
        who = any(cell.variant == variant.name and singles_out(cell) for cell in study.cells)
        yield (
            f"Variant {variant.name} leaks: with all {tried} figures of the study counted, some attack is above a coin"
            f" toss at {len(places)} of {len(rows)} places{_singled(study, variant.name, who=who)}. {figure}."
        )


def _singled(study: StudyResults, variant: str, *, who: bool) -> str:
    if who:
        return ", and some records are singled out at 1 % false alarms"
    measured = any(cell.variant == variant and cell.tpr for cell in study.cells)
    return "; nobody is singled out at 1 % false alarms" if measured else ""


def _blind(row: Strongest) -> str:
    return "chosen for each seed by the other seeds" if row.chosen_blind else "the largest of all, which flatters it"


def _protections(study: StudyResults) -> Iterator[str]:
    for name in dict.fromkeys(row.variant for row in study.differences if row.question == "protection"):
        rows = [row for row in study.differences if row.question == "protection" and row.variant == name]
        moved = [row for row in rows if settled(row.difference, len(rows))]
        base, many = study.variants[0].name, f", all {len(rows)} places counted" if len(rows) > 1 else ""
        if not moved:
            yield (
                f"Against {base}, {name} changes the strongest attack's AUC nowhere by more than the luck of seeds"
                f"{many}."
            )
        else:
            yield f"Against {base}, {name} changes the strongest attack's AUC{many}: {'; '.join(map(_moved, moved))}."


def _moved(row: Difference) -> str:
    return f"{where(row)} {change(row.difference)}"


def _newcomers(study: StudyResults) -> Iterator[str]:
    rows = [row for row in study.differences if row.question == "newcomers"]
    for name in dict.fromkeys(row.variant for row in rows):
        here = [row for row in rows if row.variant == name and row.precision == "float32" and row.output != "label"]
        moved = [row for row in here if settled(row.difference, len(here))]
        parts = "; ".join(f"{row.attack} {change(row.difference)}" for row in moved)
        found = f"it differs for {len(moved)} of {len(here)} attacks ({parts})" if moved else "none beyond luck"
        yield (
            f"Variant {name}, AUC on personal float models of people who only fine-tuned less that of people who also"
            f" helped to train: {found}."
        )


def _formats(study: StudyResults) -> Iterator[str]:
    rows = [row for row in study.differences if row.question == "format" and row.target == "personal"]
    for name in dict.fromkeys(row.variant for row in rows):
        here = [row for row in rows if row.variant == name]
        before = {model(row): row.difference for row in here}
        parts = "; ".join(f"{what} {change(figure)}" for what, figure in before.items())
        yield (
            f"Variant {name}, the strongest attack's AUC on personal models in other forms less that on their float32"
            f" answers, paired by seed: {parts}."
        )


def _luck(study: StudyResults) -> Iterator[str]:
    if len(study.seeds) > 1:
        yield (
            f"Intervals are over {len(study.seeds)} seeds: each seed tosses its own coins, draws its own"
            " attacker's people, trains and attacks anew. They say nothing about other data sets."
        )
    else:
        yield "One seed: intervals cover which people and records were measured, not the luck of training."
