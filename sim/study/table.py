"""A study in a terminal: the strongest attack at each place, and every attack everywhere."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sim.report import words
from sim.study.findings import auc, chosen, model
from sim.study.results import Cell, Column, StudyResults, Variant
from sim.table import MAX_WIDTH, bullet, grid, printable

_SHORT = {"float32": "f32", "int8": "int8"}


def render(study: StudyResults, console: Console, report: Path | None = None) -> None:
    """Print the study, then its findings, then where the report is, at most 100 columns wide."""
    width = min(MAX_WIDTH, console.width)
    seeds = f"seed {study.seeds[0]}" if len(study.seeds) == 1 else f"{len(study.seeds)} seeds"
    console.print(Text(printable(f"{study.title}: {study.crowd}, {seeds}", console), style="bold"), width=width)
    if study.synthetic:
        console.print(Text("SYNTHETIC DATA: these figures say nothing about any real person.", "bold"), width=width)
    for section in (_strongest(study), *(_matrix(study, variant) for variant in study.variants), _accuracy(study)):
        console.print()
        console.print(section, width=width)
    console.print(Text("\nFindings", style="bold"))
    for sentence in study.findings:
        bullet(sentence, console, width)
    if report is not None:
        console.print()
        console.print(Text(f"Report: {report}"), soft_wrap=True)


def _strongest(study: StudyResults) -> Table:
    columns = ("variant", "vantage", "model", "attack", "AUC", "caught at 1 %")
    table = grid("The strongest attack at each place (AUC 0.5 is a coin toss)", columns, 4)
    for row in study.strongest:
        caught = words.NOT_MEASURABLE
        if row.tpr is not None:
            caught = f"{row.tpr.value:.1%} {words.percent_interval(row.tpr.ci)}"
        table.add_row(*map(Text, (row.variant, row.vantage, model(row), chosen(row), auc(row.auc), caught)))
    return table


def _matrix(study: StudyResults, variant: Variant) -> Table:
    """AUC of every attack that could be tried in any of this variant's columns."""
    cells = {(cell.attack, _key(cell)): cell for cell in study.cells if cell.variant == variant.name}
    here = {key for _, key in cells}
    columns = [column for column in study.columns if _key(column) in here]
    table = grid(f"AUC of every attack, variant {variant.name} (-: the vantage lacks what it needs)", (), 0)
    table.add_column("attack", no_wrap=True, min_width=10)
    for column in columns:
        table.add_column(_heading(column), justify="right", overflow="fold")
    for attack in study.attacks:
        table.add_row(Text(attack), *(_figure(cells.get((attack, _key(column)))) for column in columns))
    return table


def _heading(column: Column) -> str:
    if model(column) == "the training":
        return column.vantage
    labels = " labels" if column.output == "label" else ""
    return f"{column.vantage} {_SHORT.get(column.precision, column.precision)}{labels}"


def _figure(cell: Cell | None) -> Text:
    if cell is None or cell.auc is None:
        return Text("-", "dim")
    return Text(f"{cell.auc.value:.2f}", "bold" if cell.auc.ci[0] > words.CHANCE else "")


def _key(column: Column) -> tuple[str, str, str, str | None]:
    return column.vantage, column.target, column.precision, column.output


def _accuracy(study: StudyResults) -> Table:
    table = grid("Accuracy on held-out records", ("variant", "global", "personal", "device"), 1)
    for variant in study.variants:
        figures = (variant.accuracy[name] for name in ("global", "personal", "device"))
        table.add_row(Text(variant.name), *(Text(auc(figure)) for figure in figures))
    return table
