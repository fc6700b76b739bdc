"""An audit's files: the document, the scores, and one self-contained HTML page."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from plotly.offline import get_plotlyjs

from sim import verdict
from sim.audit import figures, folder, words
from sim.audit.attempts import KNOWN, Judged
from sim.audit.records import Case
from sim.audit.results import Audit
from sim.report import words as common
from sim.report.page import CSS, environment

SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("attack", "model", "output")),
        ("row", pa.int64()),  # in the file that the record is from
        ("person", pa.string()),
        ("score", pa.float64()),
        ("member", pa.bool_()),
    ]
)


def write(document: Audit, judged: list[Judged], case: Case | None, into: Path) -> None:
    """All of an audit's files, the report last."""
    (into / folder.DOCUMENT).write_text(document.model_dump_json(by_alias=True, indent=2) + "\n", encoding="utf-8")
    if case is not None:
        pq.write_table(scores(judged, case), into / folder.SCORES)
    (into / folder.REPORT).write_text(page(document, judged, case), encoding="utf-8")


def scores(judged: list[Judged], case: Case) -> pa.Table:
    """One row per attack and candidate; nobody is named where the files name nobody."""
    person = case.person.tolist() if case.people else [None] * len(case.member)
    parts = [
        pa.table(
            {
                **{key: [getattr(each.result, key)] * len(person) for key in ("attack", "model", "output")},
                "row": case.row,
                "person": person,
                "score": each.scores.astype("float64"),
                "member": case.member,
            },
            schema=SCHEMA,
        )
        for each in judged
    ]
    return pa.concat_tables(parts) if parts else SCHEMA.empty_table()


def page(document: Audit, judged: list[Judged], case: Case | None) -> str:
    """The report as text."""
    drawn = figures.drawn(judged, case.member, document.blind) if case is not None else []
    here = CSS.parent
    names = dict.fromkeys(row.attack for row in document.attacks)
    return (
        environment()
        .get_template("audit.html.j2")
        .render(
            a=document,
            w=words,
            rule=verdict,
            c=common,
            rates=[rate for rate in ("0.01", "0.001") if any(row.tpr_at_fpr.get(rate) for row in document.attacks)],
            figures=drawn,
            plots={figure.name: json.loads(figure.plot.to_json()) for figure in drawn},
            known=[KNOWN[name] for name in names],
            plotly=get_plotlyjs() if drawn else "",
            css=CSS.read_text(encoding="utf-8"),
            script=(here / "page.js").read_text(encoding="utf-8") if drawn else "",
        )
    )
