"""The table in a terminal: wide, narrow, without colour and without Unicode."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from sim.report import words
from sim.table import render
from tests.sim.report.conftest import make_protected, make_run, make_summed

REPORT = Path("/tmp/runs/har-personal-0123456789abcdef/report.html")


@pytest.fixture(scope="module")
def results():
    return make_run().results


def shown(results, width, encoding="utf-8", **console):
    raw = io.BytesIO()
    with io.TextIOWrapper(raw, encoding=encoding, write_through=True) as file:
        render(results, Console(file=file, width=width, **console), REPORT)
        return raw.getvalue().decode(encoding)


@pytest.mark.parametrize("make", [lambda: make_run().results, make_protected, make_summed])
@pytest.mark.parametrize("width", [80, 100, 160])
def test_lines_fit(make, width):
    lines = [line.rstrip() for line in shown(make(), width).splitlines() if str(REPORT) not in line]
    assert max(map(len, lines)) <= min(width, 100)


def test_no_colour_without_a_terminal(results):
    assert "\x1b" not in shown(results, 100)
    assert "\x1b[" in shown(results, 100, force_terminal=True, color_system="standard")


def test_rows_are_grouped_under_a_line_of_plain_words(results):
    text = shown(results, 100)
    places = [
        text.index(line)
        for line in (
            "server: sees every update",
            "global-user: may query the global model",
            "query: may query one person's model",
        )
    ]
    assert places == sorted(places)
    assert text.index("loss-series") < places[1] < text.index("global float32") < places[2] < text.index("lira")


def test_attack_rows_carry_intervals_and_the_realised_rate(results):
    row = next(r for r in results.attacks if r.attack == "lira" and r.precision == "int8")
    line = next(line for line in shown(results, 100).splitlines() if "lira" in line and "int8" in line)
    assert f"{row.auc:.2f} [{row.auc_ci[0]:.2f}, {row.auc_ci[1]:.2f}]" in line
    assert f"(at {row.tpr_at_fpr['0.01'].realised_fpr:.2%}".replace("%", " %") in line


def test_what_cannot_be_measured_is_said_once_or_row_by_row(results):
    assert "Caught at 0.1 % false alarms: not measurable" in shown(results, 100)
    cell = results.attacks[0].tpr_at_fpr["0.01"]
    first = results.attacks[0].model_copy(update={"tpr_at_fpr": {"0.01": None, "0.001": cell}})
    text = shown(results.model_copy(update={"attacks": [first, *results.attacks[1:]]}), 100)
    assert "at 0.1 %" in text
    assert "not measurable" in text


def test_the_other_parts_are_there_in_order(results):
    text = shown(results, 100)
    parts = ["Who learns what", "Controls", "Accuracy on held-out", "On the device", "Findings", f"Report: {REPORT}"]
    assert [text.index(part) for part in parts] == sorted(text.index(part) for part in parts)
    assert "97.0 to 99.4 %" in text
    assert "28/28" in text


def test_a_long_path_is_not_broken(results):
    assert f"Report: {REPORT}\n" in shown(results, 30)


def test_several_devices_are_told_apart(results):
    other = results.edge[0].model_copy(update={"device": "esp32-s3"})
    text = shown(results.model_copy(update={"edge": [*results.edge, other]}), 100)
    assert "esp32-s3, global" in text
    assert "nano-33-ble-sense, personal" in text


def test_names_with_square_brackets_are_not_markup(results):
    edge = [row.model_copy(update={"device": "[bold]board[/x]"}) for row in results.edge]
    assert "[bold]board[/x]" in shown(results.model_copy(update={"edge": edge}), 100)


def test_promises_and_costs_stand_between_the_attacks_and_the_controls():
    results = make_protected()
    text = shown(results, 100)
    parts = ["Who learns what", "What is promised", "what protection costs", "Controls", "Findings"]
    assert [text.index(part) for part in parts] == sorted(text.index(part) for part in parts)
    promises = text[text.index("What is promised") : text.index("Accuracy: what")].splitlines()
    for budget in results.budgets:
        against, epsilon = words.AGAINST[budget.vantage], words.epsilon(budget)
        (line,) = [line for line in promises if line.strip().startswith(budget.unit) and against in line]
        assert line.split()[-2:] == [epsilon, "-" if budget.epsilon == "inf" else "1e-05"]
    assert {words.epsilon(budget) for budget in results.budgets} > {"∞"}
    costs = text[text.index("what protection costs") : text.index("Controls")]
    assert "-0.031 [-0.050, -0.012]" in costs and "+0.004 [-0.002, +0.010]" in costs
    assert "central noise is added by the server, so it is no protection from the server" in " ".join(text.split())


def test_without_any_protection_there_is_nothing_to_tabulate_but_a_finding(results):
    text = " ".join(shown(results, 100).split())
    assert "What is promised" not in text and "what protection costs" not in text
    assert "Nothing in this run protects anybody: no noise is added, so epsilon is infinite" in text


def test_who_sees_the_sum_has_rows_of_its_own():
    text = shown(make_summed(), 100)
    assert "aggregator: sees only the sum of the updates" in text and "server: sees every update" not in text
    assert text.index("aggregator: sees") < text.index("loss-series") < text.index("global-user: may query")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_promises_can_be_told_without_unicode(encoding):
    """A crash, or a question mark, would be no way to say that nothing is promised."""
    lines = shown(make_protected(), 80, encoding).split("What is promised")[1].split("Controls")[0].splitlines()
    rows = [line.replace("|", " ").split() for line in lines]
    assert [row[-2] for row in rows if row and row[0] in ("record", "client")].count("infinite") == 6


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_without_unicode_gets_no_broken_boxes(results, encoding):
    text = shown(
        results.model_copy(update={"title": "Ein Gerät für alle, \N{GREEK SMALL LETTER EPSILON}"}), 80, encoding
    )
    assert "─" not in text
    assert "Findings" in text


def test_synthetic_data_is_loud(results):
    data = results.data.model_copy(update={"synthetic": True})
    assert "SYNTHETIC DATA" in shown(results.model_copy(update={"data": data}), 80)


def test_no_heading_is_broken_by_a_short_name(results):
    rows = [row for row in results.attacks if row.attack == "loss"]
    head = shown(results.model_copy(update={"attacks": rows}), 80).split("(AUC 0.5 is a coin toss)")[1].split()
    assert head[:3] == ["attack", "model", "AUC"]
