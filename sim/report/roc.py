"""ROC curves on logarithmic axes, one panel per attacked model, because what matters happens at few false alarms."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import plotly.graph_objects as go
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float, Int

from sim.report import style, words
from sim.results import AttackResult, Results
from sim.score import roc
from sim.verdict import singles_out

MOST_POINTS = 400
MOST_CURVES = 6  # as many as there are colours and dashes to tell apart
SCORE_KEYS = ("attack", "vantage", "target", "precision", "output")


def scores_of(scores: pa.Table, row: AttackResult) -> pa.Table:
    """The rows of the score table that belong to one row of the results."""
    mask = None
    for key in SCORE_KEYS:
        wanted = getattr(row, key)
        here = pc.is_null(scores[key]) if wanted is None else pc.equal(scores[key], wanted)
        mask = here if mask is None else pc.and_(mask, here)
    return scores.filter(mask)


def thinned(fpr: Float[np.ndarray, " points"], most: int = MOST_POINTS) -> Int[np.ndarray, " kept"]:
    """Which points to draw: evenly spread on a logarithmic axis, each an exact point of the curve, both ends kept."""
    if len(fpr) <= most:
        return np.arange(len(fpr))
    positive = fpr[fpr > 0]
    goals = np.geomspace(positive.min(), 1.0, most - 2)
    # The last point at or below each goal: a step curve may only be thinned downwards, never flattered.
    nearest = np.searchsorted(fpr, goals, side="right") - 1
    last_at_zero = np.flatnonzero(fpr <= 0)[-1:]
    return np.unique(np.concatenate([[0], last_at_zero, nearest, [len(fpr) - 1]]))


def panels(results: Results, scores: pa.Table) -> Iterator[style.Figure]:
    """One figure for the server and one for each model that may be queried."""
    groups: dict[tuple[str, str], list[AttackResult]] = {}
    for row in results.attacks:
        groups.setdefault((row.vantage, words.target_of(row)), []).append(row)
    order = list(words.VANTAGES)
    for (vantage, model), rows in sorted(groups.items(), key=lambda item: order.index(item[0][0])):
        yield _panel(vantage, model, rows, scores)


def _panel(vantage: str, model: str, rows: list[AttackResult], scores: pa.Table) -> style.Figure:
    nonmembers = min(row.nonmembers for row in rows)
    edge = words.FALSE_ALARMS_NEEDED / nonmembers
    least = math.floor(math.log10(1 / nonmembers) * 2) / 2
    figure = style.blank(360, showlegend=True)
    drawn = rows if len(rows) <= MOST_CURVES else sorted(rows, key=lambda row: -row.auc)[:MOST_CURVES]
    for number, row in enumerate(drawn):
        _curve(figure, row, scores_of(scores, row), number, 10**least)
    _chance(figure, 10**least)
    _unmeasurable(figure, 10**least, min(edge, 1.0), least)
    # Below the diagonal little is ever drawn, so the legend has room there and all panels keep one size.
    figure.update_layout(legend={"orientation": "v", "x": 1, "xanchor": "right", "y": 0.01, "yanchor": "bottom"})
    axis = {"type": "log", "range": [least, 0], "dtick": 1, "tickformat": "~%", "minor": {"ticks": ""}}
    figure.update_xaxes(title={"text": "false alarms (share of non-members)"}, **axis)
    figure.update_yaxes(title={"text": "members caught"}, **axis)
    return style.Figure(
        f"roc-{vantage}-{model}".replace(" ", "-"),
        f"{vantage}: {words.model_of(rows[0])}",
        _caption(vantage, rows),
        _alt(vantage, model, rows),
        figure,
    )


def _caption(vantage: str, rows: list[AttackResult]) -> str:
    who = f"{'The server, which' if words.aggregates(rows[0]) else 'Somebody who'} {words.VANTAGES[vantage].may}"
    who += f". Drawn are the {MOST_CURVES} attacks with the largest AUC" if len(rows) > MOST_CURVES else ""
    caught = sum(singles_out(row) for row in rows)
    if all(row.tpr_at_fpr.get("0.01") is None for row in rows):
        return f"{who}. Too few non-members to read the curves at 1 % false alarms."
    count = f"{caught or 'none'} of {len(rows)} attacks {'is' if caught < 2 else 'are'}"
    return f"{who}. At 1 % false alarms {count} above chance, all attacks of the run counted."


def _alt(vantage: str, model: str, rows: list[AttackResult]) -> str:
    best = max(rows, key=lambda row: row.auc)
    seen = words.tpr(best.tpr_at_fpr.get("0.01"))
    return (
        f"ROC curves of {len(rows)} attacks from the vantage {vantage} on {model}. The strongest, {best.attack}, has"
        f" AUC {words.auc(best)}; at 1 % false alarms it catches {seen}."
    )


def _curve(figure: go.Figure, row: AttackResult, table: pa.Table, number: int, least: float) -> None:
    if not table.num_rows:
        return
    values: Float[np.ndarray, " records"] = table["score"].to_numpy()
    member: Bool[np.ndarray, " records"] = table["member"].to_numpy(zero_copy_only=False)
    fpr, tpr, _ = roc(values, member)
    kept = thinned(fpr)
    # A logarithmic axis has no zero: what is caught without a false alarm is drawn at the left edge.
    x, y = np.maximum(fpr[kept], least), tpr[kept]
    drawn = y > 0
    look = {"color": style.SERIES[number % len(style.SERIES)], "dash": style.DASHES[number % len(style.DASHES)]}
    hover = "%{y:.2%} of members caught<br>at %{x:.2%} false alarms"
    figure.add_scatter(
        x=x[drawn],
        y=y[drawn],
        mode="lines",
        name=f"{style.shown(row.attack)}, AUC {row.auc:.2f}",
        line={"shape": "hv", "width": 2.2, **look},
        hovertemplate=f"{style.shown(row.attack)}: {hover}<extra></extra>",
    )


def _chance(figure: go.Figure, least: float) -> None:
    line = {"color": style.GREY, "width": 1.5, "dash": "dash"}
    figure.add_scatter(x=[least, 1], y=[least, 1], mode="lines", name="chance", line=line, hoverinfo="skip")


def _unmeasurable(figure: go.Figure, least: float, edge: float, least_log: float) -> None:
    figure.add_shape(
        type="rect", x0=least, x1=edge, y0=0, y1=1, yref="paper", fillcolor=style.SHADE, line_width=0, layer="below"
    )
    middle = (least_log + math.log10(edge)) / 2
    figure.add_annotation(
        x=middle, y=0.98, yref="paper", yanchor="top", text="not<br>measurable", showarrow=False, font={"size": 12}
    )
