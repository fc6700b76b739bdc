"""What a study's figures say, in plain words."""

from __future__ import annotations

from collections.abc import Iterator

from sim.report import words
from sim.study.results import Column, Difference, Figure, Strongest, StudyResults
from sim.verdict import CHANCE

TRAINING = ("server", "aggregator", "malicious-server")  # who sees the training, and not a model alone


def findings(study: StudyResults) -> list[str]:
    """One sentence each, the most important first."""
    parts = (_controls, _strongest, _formats, _protections, _newcomers, _luck)
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


def settled(figure: Figure) -> bool:
    """Whether the interval of a difference leaves 0 out."""
    return figure.ci[0] > 0 or figure.ci[1] < 0


def chosen(row: Strongest) -> str:
    """The attacks that were chosen, the most frequent first, each with how often if there are several."""
    counts = sorted({attack: row.attacks.count(attack) for attack in row.attacks}.items(), key=lambda item: -item[1])
    if len(counts) == 1:
        return counts[0][0]
    return ", ".join(f"{attack} ({count} of {len(row.attacks)})" for attack, count in counts)


def _controls(study: StudyResults) -> Iterator[str]:
    for variant in study.variants:
        total = 2 * len(variant.runs)
        if variant.controls_held < total:
            yield (
                f"{total - variant.controls_held} of {total} controls of variant {variant.name} do not hold 0.5. At"
                " 95 % one in twenty may miss by chance; more means that the data or the tool leaks the answer."
            )


def _strongest(study: StudyResults) -> Iterator[str]:
    for variant in study.variants:
        rows = [row for row in study.strongest if row.variant == variant.name]
        if not rows:
            continue
        top = max(rows, key=lambda row: row.auc.ci[0])
        blind = (
            "chosen for each seed by the other seeds" if top.chosen_blind else "the largest of all, which flatters it"
        )
        verdict = "is above a coin toss" if top.auc.ci[0] > CHANCE else "is not shown to beat a coin toss"
        yield (
            f"Variant {variant.name}: the most exposed place is {where(top)}, where the strongest attack"
            f" ({chosen(top)}; {blind}) has AUC {auc(top.auc)} and {verdict}."
        )


def _protections(study: StudyResults) -> Iterator[str]:
    for name in dict.fromkeys(row.variant for row in study.differences if row.question == "protection"):
        rows = [row for row in study.differences if row.question == "protection" and row.variant == name]
        moved = [row for row in rows if settled(row.difference)]
        base = study.variants[0].name
        if not moved:
            yield f"Against {base}, {name} changes the strongest attack's AUC nowhere by more than the luck of seeds."
        else:
            yield f"Against {base}, {name} changes the strongest attack's AUC: {'; '.join(map(_moved, moved))}."


def _moved(row: Difference) -> str:
    return f"{where(row)} {change(row.difference)}"


def _newcomers(study: StudyResults) -> Iterator[str]:
    rows = [row for row in study.differences if row.question == "newcomers"]
    for name in dict.fromkeys(row.variant for row in rows):
        here = [row for row in rows if row.variant == name and row.precision == "float32" and row.output != "label"]
        moved = [row for row in here if settled(row.difference)]
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
            f"Intervals are Student's over {len(study.seeds)} seeds: each seed tosses its own coins, draws its own"
            " attacker's people, trains and attacks anew. They say nothing about other data sets."
        )
    else:
        yield "One seed: intervals cover which people and records were measured, not the luck of training."
