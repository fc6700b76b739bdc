"""Real federations of a few digits each, attacked from their transcripts: what comes back, and what stops it."""

from dataclasses import replace

import numpy as np
import pytest

from attacks.observation import NotFiniteError, Observation, Records, ServerRound, VantageLacksError
from sim import inference, reconstruct
from sim.beyond import beyond_membership
from sim.engines import ENGINES
from sim.federate import federate
from sim.folder import create
from sim.given import federation_of, fresh_model
from sim.observe import Target
from sim.reconstruct import Pair, recover_labels, victims
from sim.results import Results
from sim.scenario import load_scenario
from sim.transcript import ServerRounds

FEDSGD = """
name = "fedsgd"
seed = 10
[data]
source = "digits"
partition = "iid"
clients = 6
records_per_client = 6
member_share = 0.4
[population]
people = 40
[model]
name = "mlp"
[federation]
rounds = 2
[training]
batch_size = 8
learning_rate = 0.5
weight_decay = 0.01
[attacks]
names = [
    "loss", "linear-recovery", "label-recovery", "class-inversion", "source-inference", "members-counted",
    "property-inference",
]
victims = 6
"""
SIZES = {1: 1, 2: 1, 5: 1, 3: 3, 0: 4, 4: 4}  # members of each client with this seed, fewest first


@pytest.fixture(scope="module")
def world(tmp_path_factory, quiet):
    """Run the scenario with some settings changed: scenario, folder, and what whoever aggregates sees."""
    file = tmp_path_factory.mktemp("scenario") / "fedsgd.toml"
    file.write_text(FEDSGD)

    def build(*settings):
        scenario = load_scenario(file, settings)
        folder = create(scenario, tmp_path_factory.mktemp("run"))
        federate(scenario, ENGINES["inprocess"], folder, quiet)
        own = federation_of(scenario).population
        observation = Observation(
            vantage="server" if scenario.aggregation.protocol == "none" else "aggregator",
            candidates=Records(own.x, own.y),
            population=Records(own.x, own.y),
            rounds=ServerRounds(folder.transcript),
            architecture=fresh_model(scenario),
        )
        return scenario, folder, observation

    return build


@pytest.fixture(scope="module")
def plain(world):
    return world()


def linear(run):
    scenario, _, observation = run
    return list(reconstruct.reconstruct(scenario, "linear-recovery", observation, federation_of(scenario)))


def test_a_client_with_one_record_gives_it_away_exactly(plain):
    """Weight decay is taken off first, or it would spoil the ratios."""
    rows = linear(plain)
    assert {row.client: row.records for row in rows} == SIZES and [row.client for row in rows] == list(SIZES)
    for row in rows:
        assert (row.round, row.steps, row.sought) == (1, 1, row.records)
        if row.records == 1:
            assert row.exact == row.recovered == 1 and row.psnr.low > 90 > 40 > row.public_psnr.high
        assert row.exact <= row.recovered <= row.sought
    assert sum(row.recovered for row in rows) < sum(SIZES.values()) or all(row.exact for row in rows)


def test_pictures_show_the_true_record_and_what_came_of_it(plain):
    row = linear(plain)[0]
    (triple,) = row.pictures
    assert triple.exact and triple.true == triple.recovered != triple.public
    assert triple.true.shape == (1, 8, 8) and triple.psnr == row.psnr.median


def test_labels_of_all_victims_are_told(plain):
    scenario, _, observation = plain
    rows = list(recover_labels(scenario, observation, federation_of(scenario)))
    assert sum(row.right for row in rows) >= sum(row.guessed for row in rows) + 4
    assert all(row.right == 1 for row in rows if row.records == 1)


def test_few_victims_range_from_the_fewest_records_to_the_most(plain):
    scenario, _, observation = plain
    fewer = scenario.model_copy(update={"attacks": scenario.attacks.model_copy(update={"victims": 3})})
    found = victims(fewer, observation, federation_of(scenario))
    assert [len(victim.truth) for victim in found] == [1, 1, 4] or [len(v.truth) for v in found] == [1, 3, 4]
    assert [victim.client for victim in found] == [list(SIZES)[i] for i in (0, 2, 5)]


def test_secure_aggregation_hides_whose_a_record_is_and_not_the_record(world):
    """Of a sum over few records some still come out; but nobody can say who they are of."""
    run = world("aggregation.protocol=secagg")
    (row,) = linear(run)
    assert (row.vantage, row.client, row.records, row.sought) == ("aggregator", None, sum(SIZES.values()), 8)
    assert 0 < row.recovered < row.records and len(row.pictures) == 8
    with pytest.raises(VantageLacksError, match="source inference compares clients"):
        inference.name_sources(run[2], federation_of(run[0]))
    with pytest.raises(VantageLacksError, match="'property-inference' needs updates of single clients") as lack:
        inference.find_property(*run[::2], federation_of(run[0]))
    assert lack.value.need == "updates of single clients"


def test_simulated_clients_that_diverge_are_no_property_and_no_end_of_the_run(plain):
    scenario, _, observation = plain
    first = observation.rounds[0]
    huge = replace(observation, rounds=(replace(first, weights=np.full_like(first.weights, 1e30)),))
    with pytest.raises(NotFiniteError, match=r"among the clients that the attacker simulates .*, training diverged"):
        inference.find_property(scenario, huge, federation_of(scenario))


def test_noise_on_every_record_s_gradient_leaves_nothing(world):
    rows = linear(world("privacy.record.noise_multiplier=1", "privacy.record.sampling_rate=1"))
    assert sum(row.exact for row in rows) == 0
    assert sum(row.recovered for row in rows) <= 1


def test_without_noise_to_speak_of_the_same_records_come_back(world):
    """Else the last test would say nothing: what stops the attack is the noise, not the clipping."""
    rows = linear(world("privacy.record.noise_multiplier=0.001", "privacy.record.sampling_rate=1"))
    assert all(row.recovered == 1 for row in rows if row.records == 1)


def test_closer_than_public_is_not_enough_where_a_public_record_fits_better():
    true, public, span = np.zeros(4), np.full(4, 0.5), 1.0
    assert Pair(np.full(4, 0.1), true, public, public, span).learnt
    assert not Pair(np.full(4, 0.1), true, public, np.full(4, 0.15), span).learnt
    assert not Pair(np.full(4, 0.6), true, public, np.full(4, 2.0), span).learnt
    assert Pair(np.full(4, 9e-6), true, public, public, span).exact
    assert not Pair(np.full(4, 2e-5), true, public, public, span).exact


def test_the_wrong_truth_is_not_taken_for_recovered(plain):
    """The null case: paired with other clients' records, what came back counts for nothing."""
    scenario, _, observation = plain
    federation = federation_of(scenario)
    turned = {1: 2, 2: 5, 5: 1, 3: 0, 0: 4, 4: 3}
    clients = [replace(federation.clients[turned[c.client]], client=c.client) for c in federation.clients]
    wrong = replace(federation, clients=tuple(clients))
    rows = list(reconstruct.reconstruct(scenario, "linear-recovery", observation, wrong))
    assert sum(row.exact for row in rows) == 0 and sum(row.recovered for row in rows) <= 1


def test_all_of_them_in_one_go_with_refusals(plain, quiet):
    scenario, folder, observation = plain
    target = Target("server", "global", "float32", None, 6, tuple(range(6)), (observation,))
    found = beyond_membership(scenario, folder, federation_of(scenario), [target], quiet)
    assert {row.attack for row in found.reconstructions} == {"linear-recovery", "class-inversion"}
    assert len(found.labels) == 6 and found.refused == []
    (source,), (prop,), (count,) = found.sources, found.properties, found.counts
    assert (count.clients, count.complete + count.at_least) == (6, 6) and count.right == count.complete
    assert source.records == sum(SIZES.values()) and source.chance == pytest.approx(1 / 6)
    assert source.largest == pytest.approx(4 / 14) and source.ci[0] <= source.accuracy <= source.ci[1]
    assert prop.auc is None and prop.holding < inference.FEWEST and prop.simulated == 200
    fields = ("reconstructions", "labels", "sources", "counts", "properties")
    assert all(row == type(row).model_validate_json(row.model_dump_json()) for f in fields for row in getattr(found, f))
    assert set(fields) <= set(Results.model_fields)


def test_no_round_that_went_through_is_said(plain):
    scenario, _, observation = plain
    empty = ServerRound(1, np.zeros(3), (), np.zeros(3), {})
    with pytest.raises(VantageLacksError, match="no round that went through"):
        victims(scenario, replace(observation, rounds=[empty]), federation_of(scenario))


def test_a_class_that_some_clients_hold_much_of_is_the_property(plain):
    """Two clients with labels 0 0 0 1 and two with 1 1 1 0... of 16 labels 8 are 0: twice the share is all of them."""
    federation = federation_of(plain[0])
    labels = [[0] * 4, [0, 1, 1, 1], [1, 2, 1, 2], [2] * 4]
    clients = {
        i: replace(federation.clients[i], y=np.array(y), x=federation.clients[i].x[:4], member=np.ones(4, bool))
        for i, y in enumerate(labels)
    }
    found = inference.property_of(federation, clients)
    assert found.words == "holds more than twice the share of '0' that all clients together have"
    assert found.truth == {0: True, 1: False, 2: False, 3: False}
    np.testing.assert_array_equal(found.kind, federation.population.y == 0)
    assert found.present == (pytest.approx(2 * found.kind.mean()), 1) and found.absent[1] == found.present[0]


def test_where_names_tell_the_wrist_that_is_the_property(plain):
    federation = federation_of(plain[0])
    sides = ("left wrist", "right wrist")
    named = {i: replace(c, name=f"person {i // 2}, {sides[i % 2]}") for i, c in enumerate(federation.clients)}
    population = replace(federation.population, names=tuple(f"person 9, {sides[i % 2]}" for i in range(40)))
    found = inference.property_of(replace(federation, population=population), named)
    assert found.words == "is a device of the kind 'left wrist'" and found.present == (1, 1)
    assert found.truth == {i: i % 2 == 0 for i in range(6)}
    np.testing.assert_array_equal(found.kind, population.device % 2 == 0)
