"""How every figure looks. Colours are told apart by colour-blind readers, on white and on near-black alike."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

BLUE, ORANGE, GREEN, PURPLE, GREY = "#3a7fc1", "#d5622b", "#1b9e84", "#9468bd", "#8a8f98"
SERIES = (BLUE, ORANGE, GREEN, PURPLE, "#b58900", "#5b8a9a")
SHADE = "rgba(138, 143, 152, 0.16)"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"
LONGEST_LABEL = 24
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
MODEL_COLOURS = {"global float32": BLUE, "personal float32": ORANGE, "personal int8": GREEN}


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure and its words: `alt` says what it shows to those who cannot see it, `caption` what to look for."""

    name: str
    title: str
    caption: str
    alt: str
    plot: go.Figure
    wide: bool = False


def shown(text: str) -> str:
    """Text from users' data, made safe for Plotly, which reads labels as a small HTML, and cut to fit an axis."""
    short = text if len(text) <= LONGEST_LABEL else text[: LONGEST_LABEL - 1] + "…"
    return html.escape(short, quote=False)


def blank(height: int, *, showlegend: bool) -> go.Figure:
    """An empty figure. Ink and grid get their colours in the browser, which knows whether the page is dark."""
    figure = go.Figure()
    figure.layout.template = go.layout.Template()
    figure.update_layout(
        height=height,
        showlegend=showlegend,
        margin={"l": 8, "r": 24, "t": 12, "b": 8},
        font={"family": FONT, "size": 13},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        dragmode=False,
        hovermode="closest",
        legend={"orientation": "h", "x": 0, "y": 1.01, "yanchor": "bottom"},
    )
    # A drag must scroll the page on a phone, never zoom a figure.
    axis = {"automargin": True, "fixedrange": True, "zeroline": False, "title": {"font": {"size": 13}}}
    figure.update_xaxes(ticks="outside", ticklen=4, **axis)
    figure.update_yaxes(**axis)
    return figure


def chance_line(figure: go.Figure, at: float) -> None:
    """A dashed upright line where guessing would be."""
    figure.add_vline(x=at, line={"color": GREY, "width": 1.5, "dash": "dash"})


def chance_level(figure: go.Figure, at: float) -> None:
    """A dashed level line where a model that has not learnt would be."""
    figure.add_hline(y=at, line={"color": GREY, "width": 1.5, "dash": "dash"})


def around(values: list[float], least: float, most: float, pad: float = 0.02) -> list[float]:
    """An axis range that holds all values and, at the least, `least` to `most`."""
    return [max(0.0, min([*values, least]) - pad), min(1.02, max([*values, most]) + pad)]


def error_bars(values: list[float], intervals: list[tuple[float, float]]) -> dict[str, Any]:
    """Plotly's form of an interval: how far it reaches to each side."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [max(0.0, high - value) for value, (_, high) in zip(values, intervals, strict=True)],
        "arrayminus": [max(0.0, value - low) for value, (low, _) in zip(values, intervals, strict=True)],
        "thickness": 1.8,
        "width": 4,
    }
