"""One self-contained HTML file: figures, tables and words, with nothing fetched from anywhere."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jinja2
import pyarrow as pa
from plotly.offline import get_plotlyjs

from attacks.registry import ATTACKS
from edge.check import silent_words
from sim import verdict
from sim.files import write_atomically
from sim.report import arms, beyond, calibrated, deviating, figures, pictures, recovered, roc, tampered, words
from sim.report.style import Figure
from sim.results import EdgeResult, Results, Utility

_HERE = Path(__file__).parent
CSS = _HERE / "page.css"


def write_report(results: Results, scores: pa.Table, path: Path | str) -> Path:
    """Write the report to `path`, whole or not at all, and return where it is.

    `scores` has one row per attack, target and record: attack, vantage, target, precision, output, client, person,
    record, label, slice, score, member.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, page(results, scores).encode())
    return path


def page(results: Results, scores: pa.Table) -> str:
    """The report as text."""
    drawn, one = _figures(results, scores), words.units(results.data)[0]
    plots = {figure.name: json.loads(figure.plot.to_json()) for group in drawn.values() for figure in group}
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            r=results,
            w=words,
            rule=verdict,
            masks=recovered,
            arms=arms,
            beyond=beyond,
            pictures=pictures,
            tampered=tampered,
            deviating=deviating,
            calibrated=calibrated,
            figures=drawn,
            plots=plots,
            by_one=f"{one.capitalize()} by {one}",
            accuracy=_accuracy(results),
            edge=_edge(results),
            known_attacks=[
                ATTACKS[name] for name in dict.fromkeys(a.attack for a in results.attacks) if name in ATTACKS
            ],
            rests_on=_rests_on(results),
            differing=[row for row in results.edge if row.litert_rows_differing or not row.fits],
            plotly=get_plotlyjs(),
            css=CSS.read_text(encoding="utf-8"),
            script=(_HERE / "page.js").read_text(encoding="utf-8"),
        )
    )


def _figures(results: Results, scores: pa.Table) -> dict[str, list[Figure]]:
    return {
        "gain": figures.gain_and_leak(results),
        "roc": list(roc.panels(results, scores)),
        "exposure": [figures.exposure(results)] if results.people else [],
        "precision": figures.on_the_device(results, scores),
        "learning": [figures.learning_curve(results)] if results.rounds else [],
    }


def _accuracy(results: Results) -> list[tuple[str, Utility]]:
    return [
        (f"{target} {precision}{'' if precision == 'float32' else ', as the device computes it'}", utility)
        for target, precision, utility in words.utilities(results)
    ]


def _edge(results: Results) -> list[dict[str, Any]]:
    return [
        {"device": device, "target": target, "count": len(rows), **_edge_summary(rows)}
        for (device, target), rows in words.by_device(results).items()
    ]


def _rests_on(results: Results) -> list[str]:
    """What fit, latency and energy of what ships rest on."""
    row = results.edge[0] if results.edge else None
    if row is None:
        return []
    parts = (
        ("Fit", row.fit),
        ("One inference", row.latency and row.latency.anchor),
        ("Energy", row.energy and row.energy.anchor),
    )
    silent = [f"{row.artifact}: {silent_words(row.silent_layers)}." for row in results.edge if row.silent_layers]
    return [*(f"{what}: {why}." for what, why in parts if why), *silent]


def _edge_summary(rows: list[EdgeResult]) -> dict[str, Any]:
    return {
        "bytes": words.span([row.bytes for row in rows]),
        "arena": words.span([row.arena_bytes for row in rows]),
        "fits": sum(row.fits for row in rows),
        "agreement": words.percent_span([row.top1_agreement for row in rows]),
        "error": words.export_errors(rows),
        "latency": words.estimated(rows[0].latency),
        "energy": words.estimated(rows[0].energy),
        "compared": sum(row.rows_compared for row in rows),
        "rows_differing": words.litert_rows(rows),
        "labels_differing": words.litert_labels(rows),
    }


def environment() -> jinja2.Environment:
    """Templates, which fail on what they do not know and escape what they are given."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["units"] = _keep_units
    return environment


def _keep_units(text: str) -> str:
    """Text in which no line breaks between a number and its per cent sign, or inside an interval."""
    joined = re.sub(r"(?<=\d) %", "\N{NO-BREAK SPACE}%", text)
    return re.sub(r"(\[-?[\d.]+,) (?=-?[\d.]+\])", "\\1\N{NO-BREAK SPACE}", joined)
