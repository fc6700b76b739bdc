"""The two controls: blind where members are drawn by chance, seeing where they are not, and possible on little data."""

import dataclasses

import numpy as np
import pytest

from sim.controls import _blind, controls
from sim.data.federation import toss
from sim.given import federation_of
from sim.judge import truth_of
from sim.observe import candidates
from sim.prepare import prepare


@pytest.fixture(scope="module")
def prepared(tiny, finished, quiet):
    return prepare(tiny, finished[0], quiet)


def with_members(federation, choose):
    """The same federation with other coins."""
    clients = tuple(dataclasses.replace(c, member=choose(c)) for c in federation.clients)
    return dataclasses.replace(federation, clients=clients)


def test_a_run_s_controls_are_those_of_its_results(tiny, prepared, finished):
    federation = federation_of(tiny)
    found = controls(tiny, federation, prepared, truth_of(federation))
    assert found == finished[1].controls
    assert found.blind.attack == "data only" and found.stranger.attack == "rmia"
    for control in (found.blind, found.stranger):
        assert control.auc_ci[0] < 0.5 < control.auc_ci[1]


def test_fair_coins_tell_nothing(tiny, prepared):
    """Ten times new coins: neither control leans to either side."""
    blind, stranger = [], []
    for seed in range(10):
        federation = with_members(federation_of(tiny), lambda c, seed=seed: toss(len(c), 0.5, seed, c.client))
        found = controls(tiny, federation, prepared, truth_of(federation))
        blind.append(found.blind.auc)
        stranger.append(found.stranger.auc)
    assert abs(np.mean(blind) - 0.5) < 0.05 and abs(np.mean(stranger) - 0.5) < 0.05


def test_members_that_differ_in_themselves_are_found_out(tiny, prepared):
    """Members are the darker pictures: a blind attacker must notice, or it is no control."""
    federation = with_members(federation_of(tiny), lambda c: c.x.mean((1, 2, 3)) < np.median(c.x.mean((1, 2, 3))))
    blind = controls(tiny, federation, prepared, truth_of(federation)).blind
    assert blind.auc > 0.8 and blind.auc_ci[0] > 0.5


def test_the_label_alone_can_give_it_away(tiny, prepared):
    federation = with_members(federation_of(tiny), lambda c: c.y % 2 == 0)
    assert controls(tiny, federation, prepared, truth_of(federation)).blind.auc > 0.9


@pytest.mark.parametrize("members", [1, 3, 199])
def test_very_few_on_one_side_are_no_obstacle(members, tiny, prepared):
    chosen = np.random.default_rng(0).permutation(200) < members
    federation = with_members(federation_of(tiny), lambda c: chosen[50 * c.client : 50 * c.client + 50])
    found = controls(tiny, federation, prepared, truth_of(federation))
    assert 0 <= found.blind.auc_ci[0] <= found.blind.auc <= found.blind.auc_ci[1] <= 1


def test_a_handful_of_records_is_enough(tiny, prepared):
    """Two clients with two records each: as little as a federation may hold."""
    whole = federation_of(tiny)
    clients = tuple(
        dataclasses.replace(c, x=c.x[:2], y=c.y[:2], member=np.array([True, False])) for c in whole.clients[:2]
    )
    federation = dataclasses.replace(whole, clients=clients)
    scenario = tiny.model_copy(update={"attacks": tiny.attacks.model_copy(update={"names": ("loss",)})})
    truth = truth_of(federation)
    assert controls(scenario, whole, prepared, truth_of(whole)).stranger.attack == "loss"
    found = _blind(scenario, candidates(clients), truth)
    assert 0 <= found.auc <= 1
