"""An audit in a terminal: the verdict first, then what can be read in a minute."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sim.audit import words
from sim.audit.folder import REPORT
from sim.audit.results import Audit, Board
from sim.report.words import NOT_MEASURABLE, percent, percent_interval
from sim.results import TprAtFpr
from sim.table import MAX_WIDTH, bullet, grid, printable
from sim.verdict import control_holds, leaks, singles_out

_LOW = "0.01"
_CALM = ("none shown", "not measurable", "structure only")


def render(document: Audit, console: Console, folder: Path) -> None:
    """Print an audit, at most 100 columns wide."""
    width = min(MAX_WIDTH, console.width)
    style = "bold" if document.verdict in _CALM else "bold red"
    console.print(Text(printable(document.summary, console), style=style), width=width)
    console.print()
    if document.data:
        console.print(_attacks(document), width=width)
        console.print()
    console.print(Text("Findings", style="bold"))
    for sentence in document.findings:
        bullet(sentence, console, width)
    console.print()
    for section in (_runtimes(document), _boards(document)):
        console.print(section, width=width)
        console.print()
    console.print(Text(f"Report: {folder / REPORT}"), soft_wrap=True)


def _attacks(document: Audit) -> Table:
    """The rates are a column only where there are non-members enough to measure one."""
    measured = any(row.tpr_at_fpr.get(_LOW) for row in document.attacks)
    last = "at 1 % false alarms" if measured else "note"
    table = grid("What it gives away (AUC 0.5 is a coin toss)", ("attack", "on", "AUC", f"{last}"), 2)
    for row in sorted(document.attacks, key=lambda row: -row.auc):
        on = f"{row.model}, labels" if row.output == "label" else row.model
        area = Text(_tied(words.auc(row)), "bold" if leaks(row) else "")
        caught = Text(_caught(row.tpr_at_fpr.get(_LOW)), "bold" if singles_out(row) else "")
        table.add_row(Text(row.attack), Text(on), area, caught)
    if blind := document.blind:
        holds = control_holds(blind)
        note = Text("as it must" if holds else "ABOVE 0.5", "green" if holds else "bold red")
        table.add_row(*map(Text, ("blind control", "no model", _tied(words.auc(blind)))), note)
    if len(document.attacks) > 1:
        table.caption = Text(f"Bold: above a coin toss with all {len(document.attacks)} attacks counted", "dim")
        table.caption_justify = "left"
    if not measured:
        table.caption = Text(f"Caught at 1 % false alarms: {NOT_MEASURABLE} with fewer than 1,000 non-members", "dim")
        table.caption_justify = "left"
    return table


def _caught(cell: TprAtFpr | None) -> str:
    return "" if cell is None else f"{percent(cell.tpr)} {_tied(percent_interval(cell.ci))}"


def _tied(text: str) -> str:
    """Text that is not wrapped inside."""
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def _runtimes(document: Audit) -> Table:
    table = grid(f"What it is: {document.structure.kind}", ("runtime", "verdict"), 2)
    for row in document.runtimes:
        table.add_row(Text(row.runtime), Text(row.words, "" if row.runs else "red"))
    return table


def _boards(document: Audit) -> Table:
    table = grid("Where it fits (bytes)", ("board", "fits", "flash needed", "of", "RAM needed", "of"), 2)
    for board in document.boards:
        needed = [f"{value:,}" if value is not None else "-" for value in (board.flash_needed, board.ram_needed)]
        cells = (Text(board.device), _fits(board), Text(needed[0]), Text(f"{board.flash:,}"), Text(needed[1]))
        table.add_row(*cells, Text(f"{board.ram:,}"))
    return table


def _fits(board: Board) -> Text:
    if board.fits is None:
        return Text("not known", "dim")
    return Text("yes", "green") if board.fits else Text(f"NO: {' and '.join(board.exceeded)}", "bold red")
