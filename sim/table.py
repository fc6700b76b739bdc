"""The results in a terminal: who could see what, what they learnt, and whether to believe it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from sim.report import words
from sim.results import AttackResult, Control, EdgeResult, Results, Utility

MAX_WIDTH = 100
_LOW, _LOWER = "0.01", "0.001"


def render(results: Results, console: Console, report: Path | None = None) -> None:
    """Print the results, then the findings, then where the report is, at most 100 columns wide."""
    width = min(MAX_WIDTH, console.width)
    heading = f"{results.title} — {results.data.people} people, {results.data.clients} clients, seed {results.seed}"
    console.print(Text(heading, style="bold"), width=width)
    if results.data.synthetic:
        console.print(Text("SYNTHETIC DATA: these figures say nothing about any real person.", "bold"), width=width)
    for section in (_attacks, _controls, _accuracy, _edge):
        console.print()
        console.print(section(results), width=width)
    console.print()
    console.print(Text("Findings", style="bold"))
    for sentence in results.findings:
        _bullet(sentence, console, width)
    if report is not None:
        console.print()
        # A path that is wrapped can be neither clicked nor copied.
        console.print(Text(f"Report: {report}"), soft_wrap=True)


def _bullet(sentence: str, console: Console, width: int) -> None:
    row = Table.grid(padding=(0, 1))
    row.add_column(width=1)
    row.add_column(max_width=width - 4)
    row.add_row("-", Text(sentence))
    console.print(Padding(row, (0, 0, 0, 1)), width=width)


def _grid(title: str, columns: Sequence[str], left: int) -> Table:
    """A table whose first `left` columns are words and whose others are figures."""
    table = Table(box=box.SIMPLE_HEAD, title=Text(title, "bold"), title_justify="left", pad_edge=False, padding=(0, 1))
    for number, name in enumerate(columns):
        if number < left:
            table.add_column(name, overflow="fold", min_width=8)
        else:
            table.add_column(name, justify="right", overflow="fold")
    return table


def _attacks(results: Results) -> Table:
    table = _grid("Who learns what (AUC 0.5 is a coin toss)", ("attack", "model", "AUC", *_rates()), 2)
    for vantage in words.VANTAGES.values():
        rows = [row for row in results.attacks if row.vantage == vantage.name]
        if not rows:
            continue
        table.add_row(Text.assemble((vantage.name, "bold cyan")), Text(vantage.may, "cyan"))
        for row in rows:
            table.add_row(*_attack(row))
        table.add_section()
    return table


def _rates() -> tuple[str, str]:
    return (f"caught at {words.false_alarms(_LOW)} false alarms", f"at {words.false_alarms(_LOWER)}")


def _attack(row: AttackResult) -> tuple[Text, ...]:
    model = "global, training" if row.vantage == "server" else words.target_of(row)
    low, lower = row.tpr_at_fpr.get(_LOW), row.tpr_at_fpr.get(_LOWER)
    known = lower is not None
    return (
        Text(f"  {row.attack}"),
        Text(model),
        Text(f"{words.rate(row.auc)} {words.interval(row.auc_ci)}"),
        Text(words.tpr(low), "" if low else "dim"),
        Text(words.percent(lower.tpr) if known and lower else words.NOT_MEASURABLE, "" if known else "dim"),
    )


def _controls(results: Results) -> Table:
    table = _grid("Controls (must hold 0.5)", ("control", "sees", "AUC", "holds 0.5"), 2)
    for name, sees, control in (
        ("blind", "the data, no model", results.controls.blind),
        ("stranger", "a model that never saw the client", results.controls.stranger),
    ):
        table.add_row(name, sees, f"{words.rate(control.auc)} {words.interval(control.auc_ci)}", _held(control))
    return table


def _held(control: Control) -> Text:
    return Text("yes", "green") if words.holds_chance(control) else Text("NO", "bold red")


def _accuracy(results: Results) -> Table:
    table = _grid("Accuracy on held-out records", ("model", "all clients", "worst client", "on members"), 1)
    models: tuple[tuple[str, Utility], ...] = (
        ("global float32", results.utility.global_),
        ("personal float32", results.utility.personal),
        ("personal int8, on the device", results.utility.device),
    )
    for name, utility in models:
        pooled = f"{words.rate(utility.accuracy)} {words.interval(utility.accuracy_ci)}"
        table.add_row(name, pooled, words.rate(utility.worst_client), words.rate(utility.member_accuracy))
    return table


def _edge(results: Results) -> Table:
    columns = ("device", "models", "bytes", "arena", "fit", "same label as float", "LiRT/TFLM differ")
    table = _grid("On the device", columns, 1)
    for (device, target), rows in words.by_device(results).items():
        table.add_row(f"{device}, {target}", *_edge_cells(rows))
    return table


def _edge_cells(rows: list[EdgeResult]) -> tuple[str, ...]:
    compared = sum(row.rows_compared for row in rows)
    return (
        str(len(rows)),
        words.span([row.bytes for row in rows]),
        words.span([row.arena_bytes for row in rows]),
        f"{sum(row.fits for row in rows)}/{len(rows)}",
        words.percent_span([row.top1_agreement for row in rows]),
        f"{sum(row.litert_rows_differing for row in rows):,} of {compared:,}",
    )
