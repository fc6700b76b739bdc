"""The audit's two figures: every attack's AUC with its interval, and what is caught at few false alarms."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Bool

from sim.audit import words
from sim.audit.attempts import Judged
from sim.audit.results import AuditAttack
from sim.report import style
from sim.report.roc import MOST_CURVES, thinned
from sim.report.words import FALSE_ALARMS_NEEDED
from sim.results import Control
from sim.score import roc
from sim.verdict import CHANCE

_COLOURS = {"file": style.GREEN, "float model": style.BLUE, "pair": style.PURPLE}


def drawn(
    judged: Sequence[Judged], member: Bool[np.ndarray, " candidates"], blind: Control | None
) -> list[style.Figure]:
    """Both figures; none where no attack was made."""
    return [areas([each.result for each in judged], blind), curves(judged, member)] if judged else []


def areas(rows: Sequence[AuditAttack], blind: Control | None) -> style.Figure:
    """Each attack's area under the ROC curve, the strongest first, and the control's below them."""
    ordered = sorted(rows, key=lambda row: -row.auc)
    figure = style.blank(110 + 26 * (len(ordered) + (blind is not None)), showlegend=False)
    marks = [(_label(row), row.auc, row.auc_ci, _COLOURS[row.model]) for row in ordered]
    marks += [("blind control", blind.auc, blind.auc_ci, style.GREY)] if blind else []
    for name, value, ci, colour in marks:
        figure.add_scatter(
            x=[value],
            y=[style.shown(name)],
            error_x=style.error_bars([value], [ci]),
            mode="markers",
            marker={"size": 10, "color": colour},
            text=[style.shown(name)],
            hovertemplate="%{text}: AUC %{x:.3f}<extra></extra>",
        )
    style.chance_line(figure, CHANCE)
    ends = [end for *_, ci, _ in marks for end in ci]
    figure.update_xaxes(title={"text": "AUC (0.5 is a coin toss)"}, range=style.around(ends, 0.4, 0.7))
    figure.update_yaxes(autorange="reversed", type="category")
    caption = (
        "Further right leaks more. Bars are 95 % intervals, for each attack alone. The grey control must not lie above"
        " 0.5."
    )
    alt = "; ".join(f"{name} {value:.2f}" for name, value, *_ in marks)
    return style.Figure("areas", "How well each attack tells members from others", caption, alt, figure, wide=True)


def curves(judged: Sequence[Judged], member: Bool[np.ndarray, " candidates"]) -> style.Figure:
    """ROC curves of the strongest attacks, both axes logarithmic."""
    others = int((~member).sum())
    least = math.floor(math.log10(1 / others) * 2) / 2
    top = sorted(judged, key=lambda each: -each.result.auc)[:MOST_CURVES]
    figure = style.blank(400, showlegend=True)
    for number, each in enumerate(top):
        _curve(figure, each, member, number, 10**least)
    _shade(figure, 10**least, min(FALSE_ALARMS_NEEDED / others, 1.0))
    figure.update_layout(legend={"orientation": "v", "x": 1, "xanchor": "right", "y": 0.01, "yanchor": "bottom"})
    axis = {"type": "log", "range": [least, 0], "dtick": 1, "tickformat": "~%", "minor": {"ticks": ""}}
    figure.update_xaxes(title={"text": "false alarms (share of non-members)"}, **axis)
    figure.update_yaxes(title={"text": "members caught"}, **axis)
    caption = (
        f"The {len(top)} attacks with the largest AUC. Above the dashed line is better than guessing; in the shaded "
        "region fewer than ten false alarms are expected, so what happens there is mostly luck."
    )
    best = top[0].result
    alt = f"ROC curves of {len(top)} attacks; the strongest, {best.attack}, has AUC {words.auc(best)}."
    return style.Figure("curves", "When false alarms must be few", caption, alt, figure, wide=True)


def _label(row: AuditAttack) -> str:
    return row.attack if row.model != "float model" else f"{row.attack} (float)"


def _curve(figure: go.Figure, each: Judged, member: Bool[np.ndarray, " candidates"], number: int, least: float) -> None:
    fpr, tpr, _ = roc(each.scores, member)
    kept = thinned(fpr)
    x, y = np.maximum(fpr[kept], least), tpr[kept]
    name = style.shown(_label(each.result))
    figure.add_scatter(
        x=x[y > 0],
        y=y[y > 0],
        mode="lines",
        name=f"{name}, AUC {each.result.auc:.2f}",
        line={
            "shape": "hv",
            "width": 2.2,
            "color": style.SERIES[number % len(style.SERIES)],
            "dash": style.DASHES[number % len(style.DASHES)],
        },
        hovertemplate=f"{name}: %{{y:.2%}} of members caught<br>at %{{x:.2%}} false alarms<extra></extra>",
    )


def _shade(figure: go.Figure, least: float, edge: float) -> None:
    line = {"color": style.GREY, "width": 1.5, "dash": "dash"}
    figure.add_scatter(x=[least, 1], y=[least, 1], mode="lines", name="chance", line=line, hoverinfo="skip")
    figure.add_shape(
        type="rect", x0=least, x1=edge, y0=0, y1=1, yref="paper", fillcolor=style.SHADE, line_width=0, layer="below"
    )
