"""The page as text: whole, escaped, thinned without flattery, and written at once or not at all."""

from __future__ import annotations

import html
import re

import numpy as np
import pytest

from sim.errors import CannotWriteError
from sim.report import page as page_module
from sim.report import roc, words, write_report
from sim.report.figures import MOST_RECORDS, _joined
from sim.score import roc as roc_curve

from .conftest import SCRIPT_NAME, make_protected, make_summed, with_findings

PLOT_LIMIT = 300_000


@pytest.fixture(scope="module")
def text(run):
    return page_module.page(run.results, run.scores)


def without_scripts(text):
    return re.sub(r"<script.*?</script>", "", text, flags=re.S)


def test_names_from_users_are_escaped_everywhere(text):
    assert SCRIPT_NAME not in text
    assert "alert('client')</script>" not in text
    assert "&lt;script&gt;alert" in without_scripts(text)


def test_every_finding_and_every_client_is_on_the_page(run, text):
    assert "Nothing in this run protects anybody" in text
    assert text.count("<li>") >= len(run.results.findings)
    for client in run.results.clients:
        assert f'<td class="n">{client.client}</td>' in text


def test_nothing_is_fetched(text):
    body = without_scripts(text)
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!#|data:)""", body)
    assert "default-src 'none'" in body
    assert "@import" not in body
    assert "url(" not in body


def test_not_measurable_is_said_and_infinity_shown(run, text):
    assert '<span class="unknown">not measurable</span>' in text
    assert text.count('<td class="n">∞</td>') == len(run.results.budgets)
    assert "<td>everybody</td>" in text and "<td>no noise is added</td>" in text
    assert "What protection costs" not in text


def in_words(text):
    """What a reader reads, without markup."""
    spaced = html.unescape(re.sub(r"<[^>]+>", " ", without_scripts(text))).replace("\xa0", " ")
    return " ".join(spaced.split())


def test_every_promise_is_on_the_page_with_its_reason(run):
    results = make_protected()
    text = page_module.page(results, run.scores)
    table = text[text.index('aria-label="Promises"') :].split("</table>")[0]
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in table.split("<tbody>")[1].split("</tr>")[:-1]]
    assert len(rows) == len(results.budgets) == 10
    for row, budget in zip(rows, results.budgets, strict=True):
        assert row[:3] == [f"one {budget.unit}", words.AGAINST[budget.vantage], words.epsilon(budget)]
        assert row[2] == "∞" if budget.epsilon == "inf" else float(row[2]) >= budget.epsilon
        assert all(row) and budget.why in html.unescape(row[6])
    assert in_words(text).count("central noise is added by the server, so it is no protection from the server") >= 2


def test_costs_and_noise_and_bad_luck_are_on_the_page(run):
    text = in_words(page_module.page(make_protected(), run.scores))
    for sentence in make_protected().findings:
        assert sentence in text
    costs = text[text.index("against the same run (same seed") :]
    assert "global 0.807 -0.031 [-0.050, -0.012]" in costs
    assert "personal 0.925 +0.004 [-0.002, +0.010]" in costs
    assert "Noise multiplier for clients (central): 2." in text
    assert "Attacks that could be tried nowhere: attack 'source' needs updates of single clients" in text
    assert "Training stopped early" in text and "rounds were refused" in text and "updates are missing" in text


def test_the_learning_curve_counts_who_came_and_who_was_lost(run):
    (figure,) = page_module._figures(make_protected(), run.scores)["learning"]
    assert [list(map(int, pair)) for pair in figure.plot.data[0].customdata[:3]] == [[14, 0], [14, 2], [0, 0]]


def test_under_secure_aggregation_the_page_tells_who_sees_the_sum_and_promises_nothing(run):
    results = make_summed()
    page = page_module.page(results, run.scores)
    text = in_words(page)
    assert "aggregator sees only the sum of the updates" in text and "server sees every update" not in text
    assert "Aggregation: secagg." in text and "Noise multiplier for" not in text
    assert page.count('<td class="n">∞</td>') == len(results.budgets)


def test_synthetic_data_is_loud(run):
    data = run.results.data.model_copy(update={"synthetic": True})
    results = with_findings(run.results.model_copy(update={"data": data}))
    text = page_module.page(results, run.scores)
    assert 'id="synthetic"' in text
    assert "say nothing about any real person" in text


def test_a_failed_control_takes_over_the_verdict(run):
    blind = run.results.controls.blind.model_copy(update={"auc": 0.6, "auc_ci": (0.57, 0.63)})
    controls = run.results.controls.model_copy(update={"blind": blind})
    text = page_module.page(with_findings(run.results.model_copy(update={"controls": controls})), run.scores)
    verdict = re.search(r'id="verdict">(.*?)</p>', text)[1]
    assert "do not trust" in verdict
    assert '<span class="bad">no</span>' in text


def test_differences_are_paired_in_captions_and_in_a_table(run, text):
    assert "From global to personal the AUC of rmia changes by" in text
    assert "On the same records the largest of 4 differences is" in text
    assert text.count('<th scope="row">rounding to int8</th>') == 4
    assert text.count('<th scope="row">personalising</th>') == 2
    without = run.results.model_copy(update={"comparisons": []})
    assert "Differences, paired" not in page_module.page(with_findings(without), run.scores)


def test_simulated_clients_are_not_called_people(run):
    data = run.results.data.model_copy(update={"natural": False})
    text = page_module.page(with_findings(run.results.model_copy(update={"data": data})), run.scores)
    assert "28 simulated clients, 2,520 records" in text
    assert "Client by client" in text
    assert "people's records" not in without_scripts(text)


def test_every_figure_is_small_and_has_words(run):
    for group in page_module._figures(run.results, run.scores).values():
        for figure in group:
            assert len(figure.plot.to_json()) < PLOT_LIMIT, figure.name
            assert figure.caption
            assert len(figure.alt) > 40


def test_figures_do_not_change_from_one_writing_to_the_next(run, text):
    assert page_module.page(run.results, run.scores) == text


def test_thinned_points_are_points_of_the_curve_and_never_flatter_it():
    rng = np.random.default_rng(4)
    member = rng.random(30_000) < 0.5
    fpr, tpr, _ = roc_curve(rng.normal(size=30_000) + 0.3 * member, member)
    kept = roc.thinned(fpr)
    assert len(kept) <= roc.MOST_POINTS + 1
    assert (kept[0], kept[-1]) == (0, len(fpr) - 1)
    assert kept[1] == np.flatnonzero(fpr <= 0)[-1] or kept[0] == np.flatnonzero(fpr <= 0)[-1]
    full = tpr[np.searchsorted(fpr, fpr, side="right") - 1]
    steps = tpr[kept][np.searchsorted(fpr[kept], fpr, side="right") - 1]
    assert (steps <= full).all()
    assert np.max(full - steps) < 0.03


def test_a_short_curve_is_not_thinned():
    fpr = np.array([0.0, 0.0, 0.5, 1.0])
    assert roc.thinned(fpr).tolist() == [0, 1, 2, 3]


def test_the_records_drawn_hold_members_and_others_even_where_they_alternate(run):
    rows = [row for row in run.results.attacks if row.attack == "lira"]
    x, y, member = _joined(*(roc.scores_of(run.scores, row) for row in rows))
    assert len(x) == len(y) == MOST_RECORDS
    assert 0.4 < member.mean() < 0.6


def test_no_int8_results_leave_their_figures_out(run):
    kept = [row for row in run.results.attacks if row.precision == "float32"]
    results = run.results.model_copy(update={"attacks": kept, "edge": []})
    text = page_module.page(with_findings(results), run.scores)
    assert 'data-plot="precision"' not in text
    assert 'data-plot="gain"' in text


def test_a_run_with_little_in_it_still_gets_its_page(run):
    bare = run.results.model_copy(update={"attacks": [], "people": [], "clients": [], "edge": [], "rounds": []})
    text = page_module.page(with_findings(bare), run.scores)
    assert "Nobody was scored alone" in text
    assert "No attack was run" in text


def test_the_file_is_written_whole_into_a_new_folder(run, tmp_path):
    path = write_report(run.results, run.scores, tmp_path / "new" / "report.html")
    assert path.read_text(encoding="utf-8").rstrip().endswith("</html>")
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]


def test_a_failure_leaves_the_old_report_and_no_litter(run, tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("the old one")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(CannotWriteError, match="disk full"):
        write_report(run.results, run.scores, path)
    assert path.read_text() == "the old one"
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_intervals_and_per_cent_signs_do_not_break_off_their_numbers():
    assert page_module._keep_units("1.6 % [0.9, 2.4]") == "1.6\xa0% [0.9,\xa02.4]"
    assert page_module._keep_units("0.63 [0.60, 0.66]") == "0.63 [0.60,\xa00.66]"
    assert page_module._keep_units("-0.02 [-0.03, -0.01]") == "-0.02 [-0.03,\xa0-0.01]"


@pytest.mark.parametrize(
    ("value", "said"), [(0.0, "0.0 %"), (0.0095, "0.95 %"), (0.016, "1.6 %"), (0.00996, "1.0 %"), (1.0, "100.0 %")]
)
def test_percentages(value, said):
    assert words.percent(value) == said
