"""A study in a terminal: the strongest attack at each place, and every attack everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sim.report import words
from sim.study.findings import TRAINING, auc, chosen, where
from sim.study.results import Cell, Column, StudyResults, Variant
from sim.table import MAX_WIDTH, bullet, grid, printable
from sim.verdict import leaks

_SHORT = {"float32": "f32", "int8": "int8"}


def render(study: StudyResults, console: Console, report: Path | None = None) -> None:
    """Print the study, then its findings, then where the report is, at most 100 columns wide."""
    width = min(MAX_WIDTH, console.width)
    seeds = f"seed {study.seeds[0]}" if len(study.seeds) == 1 else f"{len(study.seeds)} seeds"
    console.print(Text(printable(f"{study.title}: {study.crowd}, {seeds}", console), style="bold"), width=width)
    if study.synthetic:
        console.print(Text("SYNTHETIC DATA: these figures say nothing about any real person.", "bold"), width=width)
    matrices = [table for variant in study.variants for table in _matrix(study, variant)]
    for section in (_strongest(study), *matrices, _accuracy(study)):
        console.print()
        console.print(section, width=width)
    console.print(Text("\nFindings", style="bold"))
    for sentence in study.findings:
        bullet(sentence, console, width)
    if report is not None:
        console.print()
        console.print(Text(f"Report: {report}"), soft_wrap=True)


def _strongest(study: StudyResults) -> Table:
    table = grid("The strongest attack at each place (AUC 0.5 is a coin toss)", ("variant", "place", "attack"), 3)
    for figure in ("AUC", "caught at 1 %"):
        table.add_column(figure, justify="right", no_wrap=True)
    for row in study.strongest:
        caught = words.NOT_MEASURABLE
        if row.tpr is not None:
            caught = f"{row.tpr.value:.1%} {words.percent_interval(row.tpr.ci)}"
        table.add_row(*map(Text, (row.variant, where(row), chosen(row), auc(row.auc), caught)))
    return table


def _matrix(study: StudyResults, variant: Variant) -> Iterator[Table]:
    """AUC of every attack that could be tried in any of this variant's columns: on the training, then on models."""
    cells = {(cell.attack, cell.key): cell for cell in study.cells if cell.variant == variant.name and cell.auc}
    for what, training in (("the training", True), ("models", False)):
        there = [c for c in study.columns if (c.vantage in TRAINING) == training]
        columns = [c for c in there if any((attack, c.key) in cells for attack in study.attacks)]
        attacks = [a for a in study.attacks if any((a, c.key) in cells for c in columns)]
        table = grid(f"AUC of every attack on {what}, variant {variant.name}", (), 0)
        table.add_column("attack", overflow="fold", min_width=18)
        for column in columns:
            table.add_column(_heading(column), justify="right", min_width=4)
        for attack in attacks:
            table.add_row(Text(attack), *(_figure(cells.get((attack, column.key))) for column in columns))
        if attacks:
            yield table


def _heading(column: Column) -> str:
    if column.vantage in TRAINING:
        return f"{column.vantage.replace('-', ' ')}{', models' if column.target == 'personal' else ''}"
    labels = " labels" if column.output == "label" else ""
    vantage = column.vantage.replace("malicious-", "malicious ").replace("global-", "global ")
    return f"{vantage} {_SHORT.get(column.precision, column.precision)}{labels}"


def _figure(cell: Cell | None) -> Text:
    if cell is None or cell.auc is None:
        return Text("", "dim")
    return Text(f"{cell.auc.value:.2f}", "bold" if leaks(cell) else "")


def _accuracy(study: StudyResults) -> Table:
    names = list(dict.fromkeys(name for variant in study.variants for name in variant.accuracy))
    table = grid("Accuracy on held-out records", ("variant", *names), 1)
    for variant in study.variants:
        figures = (variant.accuracy[name] for name in names)
        table.add_row(Text(variant.name), *(Text(auc(figure)) for figure in figures))
    return table
