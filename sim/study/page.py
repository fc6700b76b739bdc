"""A study as one self-contained HTML file: the whole matrix, what is strongest where, and where its runs are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from attacks.registry import ATTACKS
from sim.files import write_atomically
from sim.report import words
from sim.report.page import CSS, environment
from sim.study import findings
from sim.study.results import Cell, Column, StudyResults
from sim.verdict import CHANCE

_FULL = 0.5  # AUC above chance that gets the full colour


@dataclass(frozen=True, slots=True)
class Head:
    """One column of the whole matrix: a variant's place."""

    variant: str
    column: Column


def write_page(study: StudyResults, path: Path) -> None:
    """Write the report to `path`, whole or not at all."""
    write_atomically(path, page(study).encode())


def page(study: StudyResults) -> str:
    """The report as text."""
    heads, cells = _heads(study), {(cell.variant, cell.attack, cell.key): cell for cell in study.cells}
    rows = [
        (attack, [cells.get((head.variant, attack, head.column.key)) for head in heads]) for attack in study.attacks
    ]
    reasons = list(dict.fromkeys(cell.lacks for _, row in rows for cell in row if cell and cell.lacks))
    return (
        environment()
        .get_template("study.html.j2")
        .render(
            s=study,
            w=words,
            f=findings,
            heads=heads,
            groups=_groups(heads),
            rows=rows,
            note={reason: number for number, reason in enumerate(reasons, start=1)},
            heat=_heat,
            titles={name: attack.title for name, attack in ATTACKS.items()},
            css=CSS.read_text(encoding="utf-8"),
        )
    )


def _heads(study: StudyResults) -> list[Head]:
    there = {(cell.variant, cell.key) for cell in study.cells}
    return [
        Head(variant.name, column)
        for variant in study.variants
        for column in study.columns
        if (variant.name, column.key) in there
    ]


def _groups(heads: list[Head]) -> list[tuple[str, int]]:
    """Each variant with the number of its columns."""
    return [
        (name, sum(head.variant == name for head in heads)) for name in dict.fromkeys(head.variant for head in heads)
    ]


def _heat(cell: Cell) -> str:
    """How far the low end of the interval that counts all attacks lies above chance, as a per cent of full colour."""
    assert cell.auc is not None
    return f"{max(0.0, min(1.0, (cell.auc_ci_adjusted[0] - CHANCE) / _FULL)):.0%}"
