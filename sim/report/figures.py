"""The report's figures, apart from the ROC curves."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go
import pyarrow as pa
from jaxtyping import Bool, Float, Int

from sim.report import style, words
from sim.report.roc import scores_of
from sim.results import AttackResult, ClientResult, Interval, PersonResult, Results
from sim.verdict import CHANCE

MOST_PAIRS = 12  # attacks in float and int8: of many, the strongest
MOST_PEOPLE = 60
_PRECISION_COLOURS = (style.ORANGE, style.GREEN, style.PURPLE, style.BLUE, *style.SERIES[4:])
_SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross")
MOST_RECORDS = 1500
_AUC_HOVER = "%{text}: AUC %{x:.3f}<extra></extra>"


def gain_and_leak(results: Results) -> list[style.Figure]:
    """Accuracy and AUC of the three models that may be asked, side by side."""
    models = words.utilities(results)
    found = [(f"{target} {p}", words.strongest(words.on_model(results, target, p))) for target, p, _ in models]
    gain = [(f"{target} {precision}", u.accuracy, u.accuracy_ci, "") for target, precision, u in models]
    leak = [(label, row.auc, row.auc_ci, row.attack) for label, row in found if row is not None]
    return [
        _dots("gain", "Gain: accuracy", "Further right is more useful.", "accuracy on held-out records", gain, None),
        _dots(
            "leak",
            "Leak: strongest attack's AUC",
            f"Further right leaks more; the dashed line is a coin toss.{_paired_cost(results)}",
            "AUC of the strongest attack",
            leak,
            CHANCE,
        ),
    ]


def _paired_cost(results: Results) -> str:
    """What two separate bars cannot say: the difference on the same records."""
    row = words.personalising(results)
    if row is None:
        return ""
    return f" From global to personal the AUC of {row.attack} changes by {words.difference(row)} on the same records."


def _dots(
    name: str, title: str, caption: str, axis: str, rows: list[tuple[str, float, Interval, str]], chance: float | None
) -> style.Figure:
    figure = style.blank(90 + 40 * len(rows), showlegend=False)
    for label, value, ci, detail in rows:
        figure.add_scatter(
            x=[value],
            y=[label.replace(" ", "<br>")],
            error_x=style.error_bars([value], [ci]),
            mode="markers",
            marker={"size": 12, "color": style.MODEL_COLOURS.get(label, style.PURPLE)},
            text=[style.shown(f"{label} {detail}".strip())],
            hovertemplate="%{text}: %{x:.3f}<extra></extra>",
        )
    ends = [end for _, _, ci, _ in rows for end in ci]
    least, most = (0.48, 0.7) if chance is not None else (0.5, 1.0)
    figure.update_xaxes(title={"text": axis}, range=style.around(ends, least, most))
    figure.update_yaxes(autorange="reversed", type="category")
    if chance is not None:
        style.chance_line(figure, chance)
    parts = [f"{label} {value:.3f} {words.interval(ci)} {detail}".strip() for label, value, ci, detail in rows]
    return style.Figure(name, title, caption, f"{title}. {'; '.join(parts)}.", figure)


def learning_curve(results: Results) -> style.Figure:
    """The broadcast model's accuracy, round by round."""
    figure = style.blank(260, showlegend=False)
    figure.add_scatter(
        x=[r.round for r in results.rounds],
        y=[r.accuracy for r in results.rounds],
        customdata=[[len(r.clients), len(r.dropped)] for r in results.rounds],
        mode="lines+markers",
        line={"color": style.BLUE, "width": 2.2},
        marker={"size": 6},
        hovertemplate=(
            "round %{x}: accuracy %{y:.3f}<br>%{customdata[0]} clients, %{customdata[1]} dropped out<extra></extra>"
        ),
    )
    figure.update_xaxes(title={"text": "round"})
    figure.update_yaxes(title={"text": "accuracy"}, range=[0, 1])
    commonest = results.utility.commonest_class
    style.chance_level(figure, commonest)
    first, last = results.rounds[0].accuracy, results.rounds[-1].accuracy
    alt = (
        f"Accuracy of the global model over {len(results.rounds)} rounds: {first:.3f} at first, {last:.3f} at the end;"
        f" always naming the commonest class gets {commonest:.3f}."
    )
    caption = (
        "A curve still rising at the end means that more rounds would help; a flat one that they would not. The dashed"
        f" line, at {commonest:.2f}, is what always naming the commonest class gets: a model on it has not learnt."
    )
    return style.Figure("learning", "Learning, round by round", caption, alt, figure, wide=True)


def exposure(results: Results) -> style.Figure:
    """Everybody's own AUC, the most exposed first; where people have devices, these as small dots."""
    people = sorted(results.people, key=lambda person: -person.exposure)
    drawn = people[:MOST_PEOPLE]
    place = {person.person: number for number, person in enumerate(drawn)}
    clients = [client for client in results.clients if client.person in place]
    figure = style.blank(130 + 24 * len(drawn), showlegend=True)
    one, many = words.units(results.data)
    if results.data.natural:
        _clients(figure, clients, place)
    _people(figure, drawn, one)
    style.chance_line(figure, CHANCE)
    ends = [*(end for p in drawn for end in p.exposure_ci), *(c.exposure for c in clients if c.exposure is not None)]
    figure.update_xaxes(title={"text": "AUC (0.5 is a coin toss)"}, range=style.around(ends, 0.4, 0.7))
    ticks = {"tickvals": list(place.values()), "ticktext": [style.shown(name) for name in place]}
    figure.update_yaxes(range=[len(drawn) - 0.5, -0.5], **ticks)
    caption, alt = _exposure_caption(results), _exposure_alt(people, many)
    return style.Figure("exposure", f"Exposure, {one} by {one}", caption, alt, figure, wide=True)


def _exposure_caption(results: Results) -> str:
    hidden, (one, many) = len(results.people) - MOST_PEOPLE, words.units(results.data)
    rest = f" The {hidden} least exposed {many} are left out." if hidden > 0 else ""
    return (
        f"Attack: {words.named(results.exposure_attack)}. Bars are 95 % intervals: a {one} whose bar crosses the"
        f" dashed line may not be exposed at all. The one at the top of so many is partly there by luck.{rest}"
    )


def _exposure_alt(people: list[PersonResult], many: str) -> str:
    top, bottom = people[0], people[-1]
    return (
        f"AUC for each of {len(people)} {many}, from {top.exposure:.3f} {words.interval(top.exposure_ci)}"
        f" to {bottom.exposure:.3f} {words.interval(bottom.exposure_ci)}. The numbers are in the table of clients."
    )


def _clients(figure: go.Figure, clients: list[ClientResult], place: dict[str, int]) -> None:
    figure.add_scatter(
        x=[client.exposure for client in clients],
        y=[place[client.person] for client in clients],
        text=[style.shown(client.name) for client in clients],
        mode="markers",
        name="one client (device)",
        marker={"size": 6, "color": style.GREY, "opacity": 0.75},
        hovertemplate=_AUC_HOVER,
    )


def _people(figure: go.Figure, people: list[PersonResult], one: str) -> None:
    values = [person.exposure for person in people]
    figure.add_scatter(
        x=values,
        y=list(range(len(people))),
        text=[style.shown(person.person) for person in people],
        error_x=style.error_bars(values, [person.exposure_ci for person in people]),
        mode="markers",
        name=f"{one}, with 95 % interval",
        marker={"size": 11, "color": style.ORANGE},
        hovertemplate=_AUC_HOVER,
    )


def on_the_device(results: Results, scores: pa.Table) -> list[style.Figure]:
    """What going onto the device does to each attack, and record by record to the strongest."""
    groups = sorted(words.precisions_of(results), key=lambda rows: -rows[0].auc)[:MOST_PAIRS]
    if not groups:
        return []
    return [_aucs_by_precision(groups, _paired_rounding(results)), _paired_scores(groups[0][0], groups[0][1], scores)]


def _paired_rounding(results: Results) -> str:
    rows = words.onto(results, words.on_devices(results)[0])
    row = words.largest(rows)
    if row is None:
        return "Rounding protects from an attack only if it lowers the AUC."
    which = f"the largest of {len(rows)} differences" if len(rows) > 1 else "the difference"
    return (
        f"Each bar is of one AUC alone. On the same records {which} is {words.difference(row)}, for {row.attack} on"
        f" {row.after}. Only an interval below 0 would be a protection."
    )


def _aucs_by_precision(groups: list[list[AttackResult]], caption: str) -> style.Figure:
    precisions = list(dict.fromkeys(row.precision for rows in groups for row in rows))
    figure = style.blank(200 + (30 + 7 * len(precisions)) * len(groups), showlegend=True)
    labels = [style.shown(f"{rows[0].attack}, {rows[0].target}") for rows in groups]
    for side, precision in enumerate(precisions):
        shift = 0.6 * ((side + 0.5) / len(precisions) - 0.5)
        here = [(n, row) for n, rows in enumerate(groups) for row in rows if row.precision == precision]
        figure.add_scatter(
            x=[row.auc for _, row in here],
            y=[number + shift for number, _ in here],
            text=[f"{labels[number]}, {precision}" for number, _ in here],
            error_x=style.error_bars([row.auc for _, row in here], [row.auc_ci for _, row in here]),
            mode="markers",
            name=precision,
            marker={
                "size": 9,
                "color": _PRECISION_COLOURS[side % len(_PRECISION_COLOURS)],
                "symbol": _SYMBOLS[side % 5],
            },
            hovertemplate=_AUC_HOVER,
        )
    ends = [end for rows in groups for row in rows for end in row.auc_ci]
    figure.update_xaxes(title={"text": "AUC (0.5 is a coin toss)"}, range=style.around(ends, 0.48, 0.7))
    figure.update_yaxes(range=[len(groups) - 0.5, -0.5], tickvals=list(range(len(groups))), ticktext=labels)
    style.chance_line(figure, CHANCE)
    parts = "; ".join(
        f"{rows[0].attack} on {rows[0].target} " + ", ".join(f"{words.auc(row)} in {row.precision}" for row in rows)
        for rows in groups
    )
    return style.Figure("precision", "AUC by number format", caption, f"AUC by attack: {parts}.", figure)


def _paired_scores(float32: AttackResult, device: AttackResult, scores: pa.Table) -> style.Figure:
    x, y, member = _joined(scores_of(scores, float32), scores_of(scores, device))
    figure = style.blank(360, showlegend=True)
    looks: tuple[tuple[str, bool, str, str], ...] = (
        ("not a member", False, style.GREY, "circle"),
        ("member", True, style.ORANGE, "diamond"),
    )
    for name, which, colour, symbol in looks:
        here = member == which
        marker: dict[str, Any] = {"size": 5, "color": colour, "symbol": symbol, "opacity": 0.45}
        hover = f"{name}<br>float %{{x:.3f}}, {device.precision} %{{y:.3f}}<extra></extra>"
        figure.add_scatter(x=x[here], y=y[here], mode="markers", name=name, marker=marker, hovertemplate=hover)
    figure.update_xaxes(title={"text": "score in float32"})
    figure.update_yaxes(title={"text": f"score in {device.precision}"})
    title = f"Record by record: {float32.attack} on {float32.target} models"
    caption = (
        "Each dot is one record. On a thin line the device gives away what the float model does, record by record."
    )
    alt = f"Scores of {len(x)} records, {device.precision} against float32. {_likeness(x, y)}"
    return style.Figure("records", title, caption, alt, figure)


def _likeness(x: Float[np.ndarray, " records"], y: Float[np.ndarray, " records"]) -> str:
    if len(x) < 3 or not (np.ptp(x) > 0 and np.ptp(y) > 0):
        return "Too few differ to compare."
    return f"Their correlation is {np.corrcoef(x, y)[0, 1]:.3f}."


def _joined(
    float32: pa.Table, device: pa.Table
) -> tuple[Float[np.ndarray, " records"], Float[np.ndarray, " records"], Bool[np.ndarray, " records"]]:
    """Both scores of each record, at most `MOST_RECORDS` of them, drawn at random."""
    keys = ["client", "record"]
    both = float32.select([*keys, "member", "score"]).join(
        device.select([*keys, "score"]), keys, join_type="inner", right_suffix="_device"
    )
    both = both.sort_by([(key, "ascending") for key in keys])
    x, y = both["score"].to_numpy(), both["score_device"].to_numpy()
    member = both["member"].to_numpy(zero_copy_only=False)
    finite = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    # Every n-th record could be all members: membership may alternate. The seed keeps the page the same each time.
    kept: Int[np.ndarray, " kept"] = np.random.default_rng(0).permutation(finite)[:MOST_RECORDS]
    return x[kept], y[kept], member[kept]
