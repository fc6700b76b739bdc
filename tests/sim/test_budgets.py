"""What is promised: to whom, against whom, planned and as it happened; and that training stops in time."""

import json
import math

import pytest

from clients.accounting import epsilon, local_gaussian, subsampled_gaussian
from sim.budgets import budgets, plan
from sim.errors import InputError
from sim.noise import (
    Participation,
    distributed_epsilon,
    planned,
    rounds_of_a_client,
    rounds_of_the_server,
    skellam,
    strengths,
)
from sim.scenario import load_scenario

RECORD = ["privacy.record.noise_multiplier=1.5", "privacy.record.sampling_rate=0.2"]
CENTRAL = ["privacy.client.where=central", "privacy.client.noise_multiplier=2"]
LOCAL = ["privacy.client.where=local", "privacy.client.noise_multiplier=8"]
DISTRIBUTED = [
    "privacy.client.where=distributed",
    "privacy.client.noise_multiplier=2",
    "aggregation.protocol=secagg",
]
TENTH = ["federation.sampling=poisson", "federation.participation=0.5"]


@pytest.fixture
def scenario(tiny_file):
    """The small scenario with some settings changed."""
    return lambda *sets: load_scenario(tiny_file, sets)


def by_place(rows):
    return {(row.unit, row.vantage): row for row in rows}


def test_a_run_without_noise_shows_infinity_and_why(scenario):
    rows = budgets(scenario(), planned(scenario()))
    assert [(r.unit, r.vantage, r.epsilon, r.why) for r in rows] == [
        ("record", "every vantage", "inf", "no noise is added"),
        ("client", "every vantage", "inf", "no noise is added"),
    ]


def test_hiding_updates_is_no_promise(scenario):
    s = scenario("aggregation.protocol=secagg")
    assert {row.epsilon for row in budgets(s, planned(s))} == {"inf"}
    assert "promises nothing about what their sum gives away" in budgets(s, planned(s))[0].why


def test_record_noise_counts_rounds_really_trained_in_and_personalisation(scenario):
    """Three epochs of personalisation at rate 0.2 are fifteen steps; the most active client trained in two rounds."""
    s = scenario(*RECORD)
    rows = by_place(budgets(s, Participation(arrived=(4, 4, 3), trained=(2, 1, 2, 0))))
    for vantage in ("server", "peer", "global-user"):
        assert rows["record", vantage].epsilon == epsilon(subsampled_gaussian(1.5, 0.2, 10), 1e-5)
    assert rows["record", "query"].epsilon == epsilon(subsampled_gaussian(1.5, 0.2, 25), 1e-5)
    assert rows["record", "query"].per_client_max == rows["record", "query"].epsilon
    assert {rows["client", v].epsilon for v in ("server", "peer", "global-user", "query")} == {"inf"}
    assert "next to nothing about a whole client" in rows["client", "server"].why


def test_central_noise_is_no_protection_from_the_server(scenario):
    s = scenario(*CENTRAL, *TENTH)
    rows = by_place(budgets(s, planned(s)))
    assert rows["client", "server"].epsilon == "inf"
    assert (
        rows["client", "server"].why == "central noise is added by the server, so it is no protection from the server"
    )
    assert rows["client", "peer"].epsilon == epsilon(subsampled_gaussian(2, 0.5, 3), 1e-5)
    assert rows["client", "peer"].adjacency == "one client added or removed"
    assert rows["record", "peer"].epsilon > rows["client", "peer"].epsilon  # replaced: one removed and one added
    assert rows["client", "query"].epsilon == rows["record", "query"].epsilon == "inf"


def test_local_noise_holds_against_the_server_too(scenario):
    s = scenario(*LOCAL)
    rows = by_place(budgets(s, planned(s)))
    expected = epsilon(local_gaussian(8, 3), 1e-5)
    assert {rows[unit, v].epsilon for unit in ("record", "client") for v in ("server", "peer")} == {expected}
    assert rows["client", "query"].epsilon == "inf"


def test_noise_that_did_not_arrive_does_not_count(scenario):
    s = scenario(*DISTRIBUTED)
    whole = distributed_epsilon(s, (4, 4, 4))
    assert distributed_epsilon(s, (4, 3, 4)) > whole
    assert distributed_epsilon(scenario(*DISTRIBUTED, "aggregation.colluding=1"), (4, 4, 4)) > whole
    assert distributed_epsilon(scenario(*DISTRIBUTED, "aggregation.colluding=1"), (4, 1, 4)) == math.inf
    rows = by_place(budgets(s, Participation(arrived=(4, 3, 4), trained=(3, 3, 3, 2))))
    assert rows["client", "aggregator"].epsilon == rows["client", "peer"].epsilon == distributed_epsilon(s, (4, 3, 4))
    assert rows["record", "aggregator"].epsilon > rows["client", "aggregator"].epsilon


def test_both_protections_at_once_give_the_better_promise(scenario):
    rows = by_place(budgets(s := scenario(*RECORD, *LOCAL), planned(s)))
    alone = by_place(budgets(s := scenario(*RECORD), planned(s)))
    both = min(alone["record", "server"].epsilon, epsilon(local_gaussian(8, 3), 1e-5))
    assert rows["record", "server"].epsilon == both
    assert rows["record", "query"].epsilon == alone["record", "query"].epsilon


def test_one_coin_per_round_for_those_who_do_not_see_who_took_part(scenario):
    s = scenario("privacy.record.noise_multiplier=4", "privacy.record.sampling_rate=1", "training.epochs=10", *TENTH)
    rows = by_place(budgets(s, Participation(arrived=(2, 2, 2), trained=(3, 2, 1, 0))))
    assert rows["record", "peer"].epsilon < rows["record", "server"].epsilon
    assert "a coin a round" in rows["record", "peer"].why


@pytest.mark.parametrize("sets", [RECORD[1:], CENTRAL[:1] + TENTH, LOCAL[:1], [*DISTRIBUTED[:1], DISTRIBUTED[2]]])
def test_an_epsilon_that_was_asked_for_is_kept(scenario, sets):
    table = "record" if "record" in sets[0] else "client"
    found = plan(scenario(*sets, f"privacy.{table}.epsilon=6"))
    finite = [row.epsilon for row in found.budgets if row.unit == table and row.epsilon != "inf"]
    assert max(finite) <= 6
    assert max(finite) > 5.9


def test_rounds_end_before_the_budget_does(scenario):
    """The largest number of rounds that fits, and not one more, personalisation kept in reserve."""
    full = plan(s := scenario(*RECORD, "federation.rounds=8"))
    assert rounds_of_a_client(s) is None
    most = max(row.epsilon for row in full.budgets if row.epsilon != "inf")
    tight = scenario(*RECORD, "federation.rounds=8", f"privacy.record.max_epsilon={most * 0.9}")
    rounds = rounds_of_a_client(tight)
    assert 0 < rounds < 8
    assert epsilon(subsampled_gaussian(1.5, 0.2, 5 * rounds + 15), 1e-5) <= most * 0.9
    assert epsilon(subsampled_gaussian(1.5, 0.2, 5 * (rounds + 1) + 15), 1e-5) > most * 0.9


def test_the_server_s_releases_end_before_the_budget_does(scenario):
    limit = epsilon(subsampled_gaussian(2, 0.5, 2), 1e-5)
    s = scenario(*CENTRAL, *TENTH, f"privacy.client.max_epsilon={limit + 1e-9}")
    assert rounds_of_the_server(s) == 2
    assert rounds_of_a_client(s) is None


def test_the_noise_is_the_same_in_every_process(scenario):
    assert strengths(scenario(*RECORD)).record == 1.5
    assert skellam(scenario(*DISTRIBUTED)) == skellam(scenario(*DISTRIBUTED))


@pytest.mark.parametrize(
    ("sets", "says"),
    [
        ([*CENTRAL, "federation.participation=0.5"], 'Set federation.sampling = "poisson"'),
        ([*LOCAL, "privacy.client.clipping=adaptive"], 'Set clipping = "fixed"'),
        ([*DISTRIBUTED[:2]], 'Set aggregation.protocol = "secagg"'),
        ([*DISTRIBUTED[:2], "aggregation.protocol=ckks"], 'Set aggregation.protocol = "secagg"'),
        (["aggregation.colluding=1"], "a server that sees every update needs nobody's help"),
        (["aggregation.protocol=secagg", "aggregation.colluding=3"], "aggregation: "),
        (["aggregation.protocol=ckks", "federation.participation=0.5"], "Raise federation.participation"),
        (
            ["aggregation.protocol=secagg", "aggregation.largest_weight=3"],
            "aggregation.largest_weight = 3: a client has",
        ),
        (
            [*CENTRAL, "aggregation.protocol=ckks", "federation.sampling=poisson", "federation.participation=0.8"],
            "too often to leave unaccounted",
        ),
        ([*RECORD, "privacy.record.max_epsilon=0.5"], "leaves no room for a single round"),
        ([*CENTRAL, "privacy.client.clipping=adaptive", "privacy.client.count_noise=0.5"], "must be above 1"),
    ],
)
def test_what_cannot_be_vouched_for_is_refused_with_the_mend(scenario, sets, says):
    with pytest.raises(InputError) as refusal:
        plan(scenario(*sets))
    assert says in str(refusal.value)


@pytest.mark.parametrize(
    ("sets", "says"),
    [
        (["privacy.record.delta=1e-5"], "give either noise_multiplier or epsilon"),
        (["privacy.record.epsilon=1", "privacy.record.noise_multiplier=1"], "give either noise_multiplier or epsilon"),
        (["privacy.record.epsilon=8", "privacy.record.max_epsilon=4"], "max_epsilon = 4 is below epsilon = 8"),
        (["privacy.client.epsilon=8"], "privacy.client.where: missing"),
        (["privacy.client.where=centre", "privacy.client.epsilon=8"], "Did you mean central?"),
        (["privacy.record.noise_multiplyer=1"], "Did you mean noise_multiplier?"),
        (["aggregation.protocol=secag"], "Did you mean secagg?"),
    ],
)
def test_wrong_settings_are_named_with_the_nearest_right_one(scenario, sets, says):
    with pytest.raises(InputError) as refusal:
        scenario(*sets)
    assert says in str(refusal.value)


def test_the_command_prints_a_plan_or_one_json_document(seepage, tiny_file, tmp_path):

    said = seepage("budget", tiny_file, "--set", "privacy.record.noise_multiplier=1.5")
    assert said.code == 0
    assert "whoever may query the personal model" in said.out
    assert "noise multiplier for a record: 1.5" in said.out
    document = json.loads(seepage("budget", tiny_file, "--set", "privacy.record.noise_multiplier=1.5", "--json").out)
    assert document["record_noise_multiplier"] == 1.5
    assert len(document["budgets"]) == 8
    assert not list(tmp_path.iterdir())  # nothing was run
