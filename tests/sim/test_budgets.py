"""What is promised: to whom, against whom, planned and as it happened; and that training stops in time."""

import json
import math

import pytest

from clients.accounting import epsilon, gaussian, local_gaussian, seen_coin, skellam_epsilon, subsampled_gaussian
from sim.budgets import budgets, plan
from sim.bundle import _budget
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
from sim.releases import RELEASES
from sim.report.words import AGAINST
from sim.scenario import load_scenario
from sim.sums import is_refused

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
    assert rows["client", "aggregator"].epsilon == distributed_epsilon(s, (4, 3, 4))
    assert rows["client", "global-user"].epsilon == distributed_epsilon(s, (4, 3, 4))
    assert rows["record", "aggregator"].epsilon > rows["client", "aggregator"].epsilon


def test_a_peer_knows_its_own_share_of_distributed_noise(scenario):
    """Three shares of four protect from it; a fault script audits this row."""
    s = scenario(*DISTRIBUTED, "federation.rounds=1")
    rows = by_place(budgets(s, Participation(arrived=(4,), trained=(1, 1, 1, 1))))
    encoding = skellam(s)
    three = skellam_epsilon([(encoding.variance(3), *encoding.sensitivities())], 1e-5)
    assert rows["client", "peer"].epsilon == three > rows["client", "aggregator"].epsilon
    assert "less one share that is known there" in rows["client", "peer"].why
    users = scenario(*DISTRIBUTED, "aggregation.colluding=1", "federation.rounds=1")
    rows = by_place(budgets(users, Participation(arrived=(4,), trained=(1, 1, 1, 1))))
    assert rows["client", "aggregator"].epsilon == rows["client", "peer"].epsilon
    assert rows["client", "global-user"].epsilon < rows["client", "peer"].epsilon


def test_both_protections_at_once_give_the_better_promise(scenario):
    rows = by_place(budgets(s := scenario(*RECORD, *LOCAL), planned(s)))
    alone = by_place(budgets(s := scenario(*RECORD), planned(s)))
    both = min(alone["record", "server"].epsilon, epsilon(local_gaussian(8, 3), 1e-5))
    assert rows["record", "server"].epsilon == both
    assert rows["record", "query"].epsilon == alone["record", "query"].epsilon


COIN = ["federation.sampling=poisson", "federation.participation=0.1", "federation.rounds=50"]
FULL = ["privacy.record.noise_multiplier=4", "privacy.record.sampling_rate=1", "training.epochs=10"]


@pytest.mark.parametrize("sampling", ["poisson", "fixed"])
def test_a_coin_that_everybody_can_see_amplifies_nothing(scenario, sampling):
    """11.69: ten full-batch steps with noise 4, in as many of 50 rounds as coins of 0.1 say (rivals, item 10)."""
    share = [f"federation.sampling={sampling}", f"federation.participation={0.1 if sampling == 'poisson' else 0.25}"]
    s = scenario(*FULL, "federation.rounds=50", *share)
    drawn = seen_coin(0.1 if sampling == "poisson" else 0.25, gaussian(4, 10), 50)
    few = by_place(budgets(s, Participation(arrived=(1,) * 50, trained=(2, 2, 1, 1))))
    for vantage in ("server", "peer", "global-user"):
        assert few["record", vantage].epsilon == epsilon(drawn, 1e-5)
    if sampling == "poisson":
        assert few["record", "peer"].epsilon == pytest.approx(11.69, abs=0.01)
    assert few["record", "query"].epsilon > few["record", "peer"].epsilon  # the personalisation comes to it
    many = by_place(budgets(s, Participation(arrived=(1,) * 50, trained=(30, 2, 1, 1))))
    assert many["record", "peer"].epsilon == epsilon(gaussian(4, 300), 1e-5)  # as it turned out, of one client
    assert "amplifies nothing" in many["record", "peer"].why


def test_local_noise_is_the_client_s_own_too(scenario):
    s = scenario(*LOCAL, *COIN)
    rows = by_place(budgets(s, Participation(arrived=(1,) * 50, trained=(2, 2, 1, 1))))
    assert rows["client", "peer"].epsilon == epsilon(seen_coin(0.1, local_gaussian(8, 1), 50), 1e-5)


def test_rounds_in_which_nobody_was_drawn_count(scenario):
    """Their coins were tossed: what outsiders are promised by central noise is the plan's, refused rounds or not."""
    s = scenario(*CENTRAL, *COIN)
    whole = epsilon(subsampled_gaussian(2, 0.1, 50), 1e-5)
    assert by_place(budgets(s, planned(s)))["client", "peer"].epsilon == whole
    half = Participation(arrived=(2,) * 20, trained=(4, 3, 2, 1), refused=30)
    assert by_place(budgets(s, half))["client", "global-user"].epsilon == whole
    own = by_place(budgets(scenario(*FULL, *COIN), half))
    assert own["record", "peer"].epsilon >= epsilon(seen_coin(0.1, gaussian(4, 10), 50), 1e-5)


@pytest.mark.parametrize("protocol", ["secagg", "secagg-plus-flower"])
def test_a_peer_that_is_told_who_takes_part_has_no_coin_hidden_from_it(scenario, protocol):
    """15.1 was said for 28.4: noise multiplier 1, a coin of a half, 20 rounds."""
    coins = ["federation.sampling=poisson", "federation.participation=0.5", "federation.rounds=20"]
    s = scenario("privacy.client.where=central", "privacy.client.noise_multiplier=1", *coins)
    hidden = s.model_copy(update={"aggregation": s.aggregation.model_copy(update={"protocol": protocol})})
    plain, told = (by_place(budgets(each, planned(s))) for each in (s, hidden))
    assert plain["client", "peer"].epsilon == pytest.approx(15.12, abs=0.01)
    assert told["client", "peer"].epsilon == pytest.approx(28.37, rel=0.01)
    assert told["client", "global-user"].epsilon == pytest.approx(15.12, rel=0.01)
    assert "tells a client who else takes part" in told["client", "peer"].why


def test_every_client_can_open_a_sum_under_ckks(scenario):
    """So a peer sees it before the server has added its noise."""
    s = scenario(*CENTRAL, "aggregation.protocol=ckks")
    rows = by_place(budgets(s, planned(s)))
    assert rows["client", "peer"].epsilon == rows["record", "peer"].epsilon == "inf"
    assert "every client holds the key" in rows["client", "peer"].why
    assert rows["client", "global-user"].epsilon != "inf"
    own = by_place(budgets(s := scenario(*CENTRAL, *RECORD, "aggregation.protocol=ckks"), planned(s)))
    assert own["record", "peer"].epsilon == epsilon(subsampled_gaussian(1.5, 0.2, 15), 1e-5)  # DP-SGD's alone
    assert own["client", "peer"].epsilon == "inf"


@pytest.mark.parametrize("calibration", ["members", "held-out"])
@pytest.mark.parametrize("noise", [RECORD, LOCAL, CENTRAL, DISTRIBUTED], ids=["record", "local", "central", "shares"])
def test_ranges_that_clients_records_set_are_released_without_noise(scenario, noise, calibration):
    s = scenario(*noise, f"edge.calibration={calibration}")
    rows = budgets(s, planned(s))
    for row in rows:
        if row.vantage in ("peer", "global-user", "query", "device"):
            assert row.epsilon == "inf"
            assert f'edge.calibration = "{calibration}"' in row.why
    assert noise is CENTRAL or any(row.epsilon != "inf" for row in rows)  # a server does not get the file


def test_the_holder_of_a_device_gets_what_may_be_queried_and_no_more(scenario):
    rows = by_place(budgets(s := scenario(*RECORD), planned(s)))
    assert rows["record", "device"].epsilon == rows["record", "query"].epsilon
    head = by_place(budgets(s := scenario(*LOCAL, "edge.head.epochs=1"), planned(s)))
    assert head["client", "device"].epsilon == "inf"


def test_a_server_that_deviates_is_promised_nothing_by_shares_of_noise(scenario):
    s = scenario(*DISTRIBUTED)
    rows = by_place(budgets(s, Participation(arrived=(4, 4, 4), trained=(4, 4, 4, 4), probed=(4,))))
    assert rows["client", "malicious-server"].epsilon == rows["record", "malicious-server"].epsilon == "inf"
    assert "keep the other clients' noise out of a sum" in rows["client", "malicious-server"].why


def test_a_delta_that_is_large_is_said(scenario):
    said = plan(scenario(*RECORD, "privacy.record.delta=0.01")).caveats
    assert any("privacy.record.delta = 0.01 is large" in each for each in said)
    assert not any("is large" in each for each in plan(scenario(*RECORD)).caveats)
    assert any("4 clients take part" in each for each in plan(scenario(*CENTRAL, "privacy.client.delta=0.1")).caveats)
    said = plan(scenario(*CENTRAL, "privacy.client.delta=0.02")).caveats  # small for clients, not for their records
    assert any("0.02 is large for" in each and "records in all, in the rows of a record" in each for each in said)


def test_every_number_of_clients_that_is_refused_counts(scenario):
    """With colluders a threshold refuses more numbers of clients than those under three."""
    many = ["data.clients=20", "data.records_per_client=20", "population.people=2", "aggregation.protocol=secagg"]
    coins = ["federation.sampling=poisson", "federation.participation=0.8"]
    assert plan(scenario(*CENTRAL, *many, *coins)).budgets
    s = scenario(*CENTRAL, *many, *coins, "aggregation.colluding=5")
    refused = [count for count in range(21) if is_refused(s, count)]
    assert refused[:3] == [0, 1, 2]
    assert len(refused) > 3
    with pytest.raises(InputError, match="too often to leave unaccounted"):
        plan(s)


def test_what_rounding_in_a_sum_may_add_is_part_of_the_sensitivity(scenario):
    small = [*CENTRAL, "privacy.client.clipping_norm=6e-5"]
    rows = {
        protocol: by_place(budgets(s := scenario(*small, f"aggregation.protocol={protocol}"), planned(s)))
        for protocol in ("none", "secagg", "secagg-plus-flower")
    }
    plain = rows["none"]["client", "global-user"].epsilon
    assert plain == epsilon(gaussian(2, 3), 1e-5)
    flower = rows["secagg-plus-flower"]["client", "global-user"]
    assert flower.epsilon > 2 * plain
    assert "may lengthen a clipped update" in flower.why


def test_a_shipped_card_promises_no_epsilon_for_noise_from_its_own_seed(scenario):
    seeded, system = (scenario(*RECORD, f"privacy.noise={source}") for source in ("seed", "system"))
    rows = budgets(seeded, planned(seeded))
    assert {_budget(row).epsilon for row in rows} == {"inf"}
    assert all("follows from the seed that this card names" in _budget(row).why for row in rows if row.epsilon != "inf")
    kept = budgets(system, planned(system))
    assert [_budget(row).epsilon for row in kept] == [row.epsilon for row in rows]
    assert "cannot be repeated" in plan(system).caveats[0]


def test_every_release_names_who_sees_it():
    assert {vantage for release in RELEASES for vantage in release.seen_by} == set(AGAINST) - {"every vantage"}
    assert all(release.covered for release in RELEASES)


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
        (["aggregation.protocol=secagg", "aggregation.colluding=3"], "3 of them colluding"),
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
        ([*RECORD, "privacy.record.delta=0.1"], "privacy.record.delta = 0.1: "),
        ([*CENTRAL, "privacy.client.delta=0.25"], "4 clients take part, and with delta at 1/4 = 0.25 or above"),
        (
            [*CENTRAL, "aggregation.protocol=secagg", "privacy.client.clipping_norm=20"],
            "or raise aggregation.largest_update",
        ),
        (
            [
                *CENTRAL,
                "privacy.noise=system",
                'attacks.names=["loss", "mask-recovery"]',
                "aggregation.protocol=secagg",
            ],
            "nobody knows before the first round who",
        ),
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
    assert len(document["budgets"]) == 10
    assert {row["noise"] for row in document["budgets"] if row["epsilon"] != "inf"} == {"seed"}
    assert "whoever has it can take the noise off" in document["caveats"][0]
    assert "The noise follows from seed" in said.out
    assert not list(tmp_path.iterdir())  # nothing was run
