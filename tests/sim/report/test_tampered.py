"""The words for tampering: each follows its figures, and the table and the page hold them."""

import io

import pytest
from rich.console import Console

from sim.findings import findings
from sim.report import tampered
from sim.report.page import page
from sim.results import Amplification, Change, TamperingOutcome, TamperingResult
from sim.table import render
from tests.sim.report.conftest import make_run


def outcome(target, precision, success, ci, without=0.05, worked=True):
    change = Change(without=without, difference=success - without, ci=(0.3, 0.9) if worked else (-0.02, 0.03))
    cost = Change(without=0.8, difference=-0.05, ci=(-0.07, -0.03))
    return TamperingOutcome(
        target=target,
        precision=precision,
        records=640,
        success=success,
        success_ci=ci,
        success_change=change if precision == "float32" else None,
        accuracy=0.75,
        accuracy_ci=(0.72, 0.78),
        accuracy_change=cost if precision == "float32" else None,
    )


def amplification(difference, ci):
    return Amplification(
        attack="rmia",
        vantage="query",
        target="personal",
        precision="int8",
        output="probabilities",
        records=500,
        auc=0.71,
        auc_ci=(0.66, 0.76),
        tpr_at_fpr={"0.01": None, "0.001": None},
        others=510,
        others_auc=0.61,
        others_auc_ci=(0.56, 0.66),
        others_tpr_at_fpr={"0.01": None, "0.001": None},
        auc_difference=difference,
        ci=ci,
    )


def tampering(how="backdoor", worked=True, own=0.2, amplified=(), **changes):
    success = 0.9 if worked else 0.06
    rows = [
        outcome("global", "float32", success, (success - 0.03, success + 0.03), worked=worked),
        outcome("global", "int8", success, (success - 0.03, success + 0.03)),
        outcome("personal", "float32", own, (own - 0.03, own + 0.03), worked=worked),
        outcome("personal", "int8", own, (own - 0.03, own + 0.03)),
    ]
    settings = {
        "source": "Gu et al. 2017",
        "meant": "of other classes with the trigger, to be answered as walk",
        "boost": 4.0,
        "clients": [2, 5],
        "combine": "mean",
        "tampering_allowed": None,
        **changes,
    }
    found = TamperingResult(how=how, outcomes=rows, amplification=list(amplified), **settings)
    return make_run().results.model_copy(update={"tampering": found})


def said(results):
    return "\n".join(findings(results))


def test_nothing_is_said_of_tampering_where_there_is_none():
    assert "amper" not in said(make_run().results)


def test_who_tampers_and_what_the_server_makes_of_it():
    text = said(tampering())
    assert "2 of 28 clients tamper (backdoor), and send their updates 4 times as large." in text
    assert "Of a round's updates the server takes their weighted mean." in text
    text = said(tampering(boost=1.0, combine="krum", tampering_allowed=1, clients=[3]))
    assert "1 of 28 clients tampers (backdoor). Of" in text
    assert "nearest to its neighbours (Krum), set to withstand 1." in text and "More of them" not in text
    assert "More of them tamper than the rule is set to withstand." in said(
        tampering(combine="median", tampering_allowed=1)
    )


@pytest.mark.parametrize(
    "worked, own, start, then",
    [
        (
            True,
            0.2,
            "Tampering works: of the held-out records of other classes with the trigger",
            "washes some of it out",
        ),
        (True, 0.88, "Tampering works", "does not wash it out: 88.0 % [85.0, 91.0] with the personal models"),
        (False, 0.04, "Tampering does not work that we can see", "After fine-tuning: 4.0 %"),
    ],
)
def test_success_is_claimed_where_its_interval_says_so(worked, own, start, then):
    text = said(tampering(worked=worked, own=own))
    assert start in text and then in text
    assert "5.0 % in the same run without tampering" in text


@pytest.mark.parametrize(
    "ci, start", [((0.02, 0.18), "Tampering makes membership show more"), ((-0.02, 0.22), "Tampering does not make")]
)
def test_amplification_is_claimed_where_its_interval_says_so(ci, start):
    text = said(tampering("truth-serum", amplified=[amplification(0.1, ci)]))
    assert f"{start}" in text and "rmia on the personal int8 models has AUC 0.71 [0.66, 0.76]" in text
    assert f"(difference +0.100 [{ci[0]:+.3f}, {ci[1]:+.3f}], the largest of 1)" in text


@pytest.mark.parametrize("width", [80, 100])
@pytest.mark.parametrize("amplified", [(), (amplification(0.1, (0.02, 0.18)),)])
def test_the_table_fits_and_the_page_holds_it(width, amplified):
    results, raw = tampering("truth-serum" if amplified else "backdoor", amplified=amplified), io.StringIO()
    render(results, Console(file=raw, width=width))
    assert max(len(line.rstrip()) for line in raw.getvalue().splitlines()) <= width
    assert ("Truth serum" if amplified else "Tampering: backdoor against mean") in raw.getvalue()
    text = page(results, make_run().scores)
    assert "Gu et al. 2017" in text and "<dt>tampering client</dt>" in text
    assert ("Truth serum" in text) == bool(amplified)


def test_an_int8_model_has_no_figure_without_tampering():
    row = tampering().tampering.outcomes[1]
    assert tampered.without(row.success_change) == tampered.change(row.success_change) == tampered.NO_FIGURE
