"""The sentences: each follows its figures, and hedges where they do not settle the matter."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.findings import findings
from sim.report import words
from sim.report.words import crowd, named, population, summary, verdict
from sim.results import Comparison
from tests.sim.report.conftest import make_protected, make_run, make_summed


@pytest.fixture(scope="module")
def results():
    return make_run().results


def changed(part, **fields):
    return part.model_copy(update=fields)


def said(results):
    return "\n".join(findings(results))


def with_rates(results, tpr, ci):
    """All attacks with this rate at 1 % false alarms."""
    rows = []
    for row in results.attacks:
        cell = changed(row.tpr_at_fpr["0.01"], tpr=tpr, ci=ci)
        rates = {**row.tpr_at_fpr, "0.01": cell}
        rows.append(changed(row, tpr_at_fpr=rates, tpr_low_adjusted=max(0.0, ci[0] - 0.003)))
    return changed(results, attacks=rows)


def test_findings_do_not_read_themselves(results):
    assert findings(changed(results, findings=["anything"])) == findings(changed(results, findings=[]))


def test_nobody_calls_anything_significant(results):
    assert "significan" not in said(results).lower()


def test_gain_carries_both_accuracies(results):
    assert "raises accuracy on held-out records: 0.78 [0.75, 0.80] with the global model, 0.93 [0.90, 0.96]" in said(
        results
    )


def test_overlapping_accuracies_are_not_called_a_gain(results):
    close = changed(results.utility.global_, accuracy=0.92, accuracy_ci=(0.89, 0.95))
    text = said(changed(results, utility=changed(results.utility, global_=close)))
    assert "Personalising may or may not raise accuracy" in text


def with_differences(results, question, *figures):
    """The first comparisons that answer this question, with these differences and intervals, and no others."""
    rows = [row for row in results.comparisons if row.question == question][: len(figures)]
    rows = [changed(row, auc_difference=value, ci=ci) for row, (value, ci) in zip(rows, figures, strict=True)]
    return changed(results, comparisons=rows)


@pytest.mark.parametrize(
    ("value", "ci", "sentence"),
    [
        (0.06, (0.03, 0.10), "Personalising costs privacy: with the loss attack AUC rises by 0.06 [0.03, 0.10] from"),
        (0.02, (-0.03, 0.07), "costs privacy is not settled: with the loss attack AUC changes by 0.02 [-0.03, 0.07] "),
        (-0.05, (-0.08, -0.02), "Personalising costs no privacy that we can see: with the loss attack AUC changes by"),
        (
            0.03,
            (0.0002, 0.06),
            "costs privacy is not settled: with the loss attack AUC changes by 0.030 [0.000, 0.060]",
        ),
    ],
)
def test_what_personalising_costs_follows_the_paired_difference(results, value, ci, sentence):
    assert sentence in said(with_differences(results, "personalising", (value, ci)))


def test_the_cost_is_that_of_the_attack_strongest_on_personal_models(results):
    """Not that of the largest difference, which here is another attack's."""
    text = said(with_differences(results, "personalising", (0.3, (-0.1, 0.4)), (0.06, (0.03, 0.10))))
    own = next(
        row for row in results.attacks if (row.attack, row.target, row.precision) == ("rmia", "personal", "float32")
    )
    assert "with the rmia attack AUC rises by 0.06 [0.03, 0.10] from global to personal models, on the same" in text
    assert f"Of 2 attacks compared it has the largest AUC on personal models, {own.auc:.2f} [" in text
    assert "where 0.5 is a coin toss. The interval lies above 0 for 1 of the 2." in text


def test_nobody_is_singled_out_unless_an_interval_lies_above_the_rate(results):
    text = said(with_rates(results, 0.012, (0.007, 0.019)))
    assert "Nobody is singled out: at 1 % false alarms no attack does better than chance" in text
    text = said(with_rates(results, 0.05, (0.038, 0.064)))
    assert "Some records are singled out: at 1 % false alarms 11 of 11 attacks catch more" in text


def test_one_attack_above_chance_among_many_must_outlast_the_count(results):
    dull = with_rates(results, 0.012, (0.007, 0.019))
    sharp = with_rates(results, 0.05, (0.038, 0.064)).attacks[0]
    text = said(changed(dull, attacks=[sharp, *dull.attacks[1:]]))
    assert "1 of 11 attacks catches more members than guessing would, all 11 attacks counted" in text
    alone = changed(sharp, tpr_low_adjusted=0.009)
    assert "Nobody is singled out" in said(changed(dull, attacks=[alone, *dull.attacks[1:]]))


def test_the_verdict_follows_the_figures(results):
    nobody = with_rates(results, 0.012, (0.007, 0.019))
    assert verdict(nobody) == "some, nobody singled out"
    assert "at 1 % false alarms no attack singles anybody out." in summary(nobody)
    caught = with_rates(results, 0.05, (0.038, 0.064))
    assert verdict(caught) == "singled out"
    assert summary(caught).startswith("The models leak: the strongest attack")
    assert summary(caught).endswith("some records stand out even at 1 % false alarms.")
    even = changed(
        nobody,
        attacks=[changed(row, auc=0.53, auc_ci=(0.51, 0.55), auc_ci_adjusted=(0.49, 0.57)) for row in nobody.attacks],
    )
    assert verdict(even) == "none shown"
    assert summary(even).startswith("No leak is shown: none of 11 attacks, all counted, does better than a coin toss")
    assert summary(changed(results, attacks=[])).startswith("No attack was run")


def test_somebody_singled_out_is_a_leak_though_the_crowd_is_not_told_apart(results):
    caught = with_rates(results, 0.05, (0.038, 0.064))
    flat = changed(caught, attacks=[changed(row, auc_ci_adjusted=(0.48, 0.54)) for row in caught.attacks])
    assert verdict(flat) == "singled out"
    assert summary(flat).startswith(
        "The models leak: some records stand out even at 1 % false alarms, though no attack"
    )


def test_a_model_that_has_not_learnt_comes_first_whatever_the_attacks_say(results):
    idle = changed(results.utility.global_, accuracy=0.24, accuracy_ci=(0.21, 0.27))
    lazy = changed(results, utility=changed(results.utility, global_=idle))
    assert verdict(lazy) == "not learnt"
    start = "The global model has not learnt: accuracy on held-out records, 0.24 [0.21, 0.27], is not above the 0.23"
    assert summary(lazy).startswith(start)
    assert findings(lazy)[0].startswith(start)
    assert "The models leak" in summary(lazy)


@pytest.mark.parametrize(
    ("blind", "expected", "said_of_it"),
    [
        ((0.40, 0.48), "singled out", "lies below 0.5. It was wrong more often than right"),
        ((0.48, 0.52), "singled out", "Both controls do no better than a coin toss"),
        ((0.501, 0.56), "singled out", "Both controls do no better than a coin toss"),  # one of two may, by luck
        ((0.51, 0.57), "controls failed", "Do not trust the rows above"),
    ],
)
def test_a_control_condemns_only_from_above(results, blind, expected, said_of_it):
    control = changed(results.controls.blind, auc=sum(blind) / 2, auc_ci=blind)
    found = with_rates(changed(results, controls=changed(results.controls, blind=control)), 0.05, (0.038, 0.064))
    assert verdict(found) == expected
    assert said_of_it in said(found)


def test_few_people_are_said_to_be_too_few(results):
    text = said(changed(results, data=changed(results.data, people=6)))
    assert "6 people are too few to say how others would fare" in text
    assert "too few to say" not in said(results)


def test_clients_are_not_called_people_where_the_data_names_none(results):
    data = changed(results.data, people=6, clients=6, names_people=False)
    assert crowd(data) == "6 clients"
    assert words.units(data) == ("client", "clients")
    assert words.origin(changed(data, synthetic=None)) == "not stated (data.synthetic says it)"


def test_ties_at_no_false_alarm_do_not_single_anybody_out(results):
    """One lucky member above a bar of zero would be nothing: the bar is the rate aimed at."""
    tied = with_rates(results, 0.002, (0.0002, 0.006))
    rows = []
    for row in tied.attacks:
        cell = changed(row.tpr_at_fpr["0.01"], realised_fpr=0.0)
        rows.append(changed(row, tpr_at_fpr={**row.tpr_at_fpr, "0.01": cell}))
    assert "Nobody is singled out" in said(changed(tied, attacks=rows))


def test_nothing_measured_is_not_called_nobody(results):
    rows = [changed(row, tpr_at_fpr={"0.01": None}, tpr_low_adjusted=None, nonmembers=600) for row in results.attacks]
    text = said(changed(results, attacks=rows))
    assert "Nobody is singled out" not in text
    assert "singled out at 1 % false alarms is not measurable" in summary(changed(results, attacks=rows))
    assert verdict(changed(results, attacks=rows)) == "some, singling out not measurable"
    assert "600 non-members give about 6.0 false alarms at that rate, and a fair figure needs ten, so 1,000" in text


def test_int8_that_changes_nothing_is_no_protection(results):
    text = said(with_differences(results, "rounding", (0.001, (-0.001, 0.003)), (-0.002, (-0.005, 0.001))))
    assert "Rounding to int8 is no protection that we can see: the largest of 2 differences in AUC is -0.002" in text
    assert "-0.002 [-0.005, 0.001], for loss from personal float32 to personal int8, on the same records." in text


def test_int8_that_helps_the_attacker_is_no_protection_either(results):
    text = said(with_differences(results, "rounding", (0.03, (0.02, 0.04)), (-0.02, (-0.03, -0.01))))
    assert "no protection that we can see: the largest of 2 differences in AUC is 0.03 [0.02, 0.04]" in text
    assert "Of the 2 intervals 1 lies below 0." in text


def test_int8_is_a_protection_only_where_the_interval_lies_below_zero(results):
    fall, flat = (-0.04, (-0.06, -0.02)), (0.001, (-0.002, 0.004))
    text = said(with_differences(results, "rounding", fall, fall))
    assert "Rounding to int8 protects to some extent: the largest of 2 differences in AUC is -0.04" in text
    assert "is left." in text
    assert "by luck" not in text.split("is left.")[1].split("\n")[0]
    assert "is left. One of several can lie below 0 by luck." in said(with_differences(results, "rounding", fall, flat))


def test_simulated_clients_are_not_called_people(results):
    simulated = changed(results, data=changed(results.data, natural=False))
    assert "of 14 clients lie above 0.5" in said(simulated)
    assert "of 14 people lie above 0.5" in said(results)
    assert crowd(results.data) == "14 people, 28 clients"
    assert crowd(simulated.data) == "28 simulated clients"
    assert population(simulated) == "6 other simulated clients"
    same = changed(results, population=changed(results.population, who="same-people"))
    assert population(same) == "6 of the same people"


def test_one_name_for_an_attack_on_the_training(results):
    assert named(results.attacks[0]) == "cosine on the training"
    assert named(results.exposure_attack) == "rmia on the personal int8 models"


def test_the_most_exposed_person_comes_with_a_warning(results):
    most = max(results.people, key=lambda person: person.exposure)
    text = said(results)
    assert f"Most exposed is {most.person}, with AUC {most.exposure:.2f}" in text
    assert "The largest of 14 is partly luck" in text
    assert "luck alone would give about 0.4" in text


def test_a_failed_control_comes_first_and_warns(results):
    blind = changed(results.controls.blind, auc=0.61, auc_ci=(0.57, 0.65))
    failed = changed(results, controls=changed(results.controls, blind=blind))
    assert findings(failed)[0].startswith("Do not trust the rows above until this is explained: the control blind")
    assert "Both controls do no better than a coin toss" in said(results)


def test_without_noise_epsilon_is_infinite_in_words(results):
    assert "Nothing in this run protects anybody: no noise is added, so epsilon is infinite" in said(results)
    text = said(make_summed())
    assert "Single updates are hidden, but no noise is added, so epsilon is infinite and no limit" in text
    assert "Nothing in this run protects anybody" not in text


def test_each_promise_is_told_with_whom_it_holds_against_and_between_what():
    protected = make_protected()
    told = [sentence for sentence in findings(protected) if sentence.startswith(("One record is", "One client is"))]
    assert len(told) == 6  # each unit: against the server, against who sees global models, against who holds a personal
    peer = next(b for b in protected.budgets if (b.unit, b.vantage) == ("client", "peer"))
    (one,) = [sentence for sentence in told if "One client is promised epsilon" in sentence]
    assert f"epsilon {words.epsilon(peer)} at delta 1e-05, with one client added or removed" in one
    assert "other clients" in one and "users of the global model" in one and "each of 3 rounds" in one
    (none,) = [
        sentence for sentence in told if "One client" in sentence and "server that sees every update" in sentence
    ]
    assert "promised nothing (epsilon is infinite)" in none
    assert none.endswith("central noise is added by the server, so it is no protection from the server.")
    assert (
        sum("nothing (epsilon is infinite) against whoever may query the personal model" in each for each in told) == 2
    )
    assert "Nothing in this run protects anybody" not in said(protected)


@given(st.floats(1e-6, 1e6))
def test_an_epsilon_is_printed_rounded_up_and_never_down(value):
    """To three digits, but for the last places of a float: 7.1 is not printed as 7.11."""
    printed = float(words.epsilon(promised(value)))
    assert value * (1 - 1e-8) <= printed <= value * 1.01


@pytest.mark.parametrize(
    ("value", "printed"),
    [(1.2301, "1.24"), (7.1, "7.1"), (0.9999, "1"), (8.0, "8"), (1234.0, "1240"), (0.01001, "0.0101"), (0.0, "0")],
)
def test_epsilons_by_hand(value, printed):
    assert words.epsilon(promised(value)) == printed


def test_an_infinite_epsilon_is_a_sign_and_never_a_blank(results):
    assert {words.epsilon(budget) for budget in results.budgets} == {"∞"}


def promised(epsilon):
    return changed(make_protected().budgets[5], epsilon=epsilon)


def test_what_protection_costs_comes_with_intervals():
    assert (
        "What protection does to accuracy, against the same run without it: -0.031 [-0.050, -0.012] for the global"
        " model (without it 0.807) and +0.004 [-0.002, +0.010] for the personal models (without it 0.925)."
        in said(make_protected())
    )
    assert "What protection does" not in said(make_run().results)


def test_lost_updates_refused_rounds_and_an_early_end_are_told(results):
    text = said(make_protected())
    assert "Training stopped early, after round 25: one more would pass max_epsilon." in text
    assert (
        "2 of 25 rounds were refused and changed nothing; the first, round 3: no client was sampled in round 3." in text
    )
    assert "3 updates are missing; the first is client 5's in round 2: no reply came." in text
    quiet = said(results)
    assert not [word for word in ("stopped early", "were refused", "are missing", "Not tried") if word in quiet]


def test_an_attack_that_could_not_be_tried_is_named_once_with_its_reason():
    sentence = (
        "Not tried: attack 'source' needs updates of single clients, vantage 'server' has no updates of single clients."
    )
    assert findings(make_protected()).count(sentence) == 1


def test_a_server_that_sees_sums_is_held_against_users_and_not_against_itself():
    """The aggregator attacks the training: its row is not one on the global model, however strong."""
    summed = make_summed()
    rows = [
        changed(row, auc=0.7, auc_ci=(0.66, 0.74)) if row.vantage == "aggregator" else row for row in summed.attacks
    ]
    strong = changed(summed, attacks=rows)
    assert [row.vantage for row in words.on_model(strong, "global", "float32")] == ["global-user", "global-user"]
    outside = words.strongest(words.on_model(strong, "global", "float32"))
    text = said(with_lead(strong, "loss-series", outside.attack, (0.16, (0.11, 0.21))))
    assert (
        "The server, which sees the sum of the updates, learns more than its users do: loss-series has AUC 0.70"
        f" [0.66, 0.74], against {words.auc(outside)} for somebody who may only query the global model"
        f" ({outside.attack}); the difference is 0.16 [0.11, 0.21], on the same records." in text
    )


def with_lead(results, attack, before, figure):
    """The server's lead over users, as paired."""
    row = Comparison(
        attack=attack,
        attack_before=before,
        question="server",
        before="global float32",
        after="the training",
        auc_difference=figure[0],
        ci=figure[1],
    )
    return changed(results, comparisons=[*results.comparisons, row])


@pytest.mark.parametrize(
    ("figure", "sentence"),
    [
        ((0.060, (0.013, 0.115)), "The server, which sees every update, learns more than its users do: cosine has AUC"),
        ((0.060, (0.001, 0.119)), "The best of 2 attacks can lead that much by luck."),
        ((0.060, (-0.01, 0.13)), "Whether seeing every update gives the server a lead is not settled: cosine has AUC"),
        ((-0.060, (-0.1, -0.02)), "Seeing every update helps the server less than querying the global model does:"),
    ],
)
def test_the_server_s_lead_follows_the_paired_difference(results, figure, sentence):
    assert sentence in said(with_lead(results, "cosine", "rmia", figure))


def test_what_the_attacker_is_given_and_what_the_intervals_leave_out(results):
    text = said(results)
    assert "An assumption about the attacker: the attacker holds 900 labelled records of 6 other people" in text
    assert f"one training run, seed {results.seed}" in text


def test_synthetic_data_is_said_first(results):
    synthetic = changed(results, data=changed(results.data, synthetic=True))
    assert findings(synthetic)[0].startswith("The data is synthetic")


def test_differing_labels_and_models_that_do_not_fit_are_said(results):
    rows = [changed(results.edge[0], fits=False, litert_labels_differing=3), *results.edge[1:]]
    text = said(changed(results, edge=rows))
    assert "1 of 29 exported models do not fit their device, the first being global-int8.tflite" in text
    assert "different labels for 3 of" in text


def test_a_run_with_little_in_it_still_gets_its_sentences(results):
    bare = changed(results, attacks=[], people=[], edge=[], clients=[], rounds=[])
    assert len(findings(bare)) >= 5
