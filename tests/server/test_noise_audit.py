"""What client-level noise claims is put to the test, with and without one client whose update is as large as it can be.

The statistic is the released step along that client's update. As in tests/clients/test_dp_audit.py a lower bound above
the accountant's epsilon shows a bug; the planted ones are those that drop-outs invite: noise made for more clients
than came.
"""

from dataclasses import replace

import numpy as np
import pytest

from clients.accounting import epsilon, gaussian, skellam_epsilon
from clients.aggregation.skellam import plan_skellam
from clients.privacy import ClientPrivacyConfig
from clients.randomness import generator
from server.privacy import CentralNoise
from server.received import Received
from tests.auditor import DELTA, epsilon_below

TRIALS, SIZE, NORM = 6000, 8, 0.5
CANARY = np.full(SIZE, 100.0)  # far longer than the clipping norm
DIRECTION = CANARY / np.linalg.norm(CANARY)


def received(updates):
    """What a server holds that sees every update."""
    return Received(
        clients=tuple(updates),
        total=sum(updates.values(), np.zeros(SIZE)),
        weight=len(updates),
        dropped={},
        updates=updates,
    )


def central_trials(noise_multiplier, others, divide_by_replies=False):
    """Released steps along the canary. A server that divides noise made for `expected` clients by those who came, and
    keeps its standard deviation on the mean, adds too little to their sum: the planted bug.
    """
    config = ClientPrivacyConfig(where="central", noise_multiplier=noise_multiplier, clipping_norm=NORM)
    sides = []
    for side, clients in (("with", {**others, 99: CANARY}), ("without", others)):
        came, expected = len(clients) or 1, 10.0
        noise = noise_multiplier * (came / expected if divide_by_replies else 1.0)
        release = CentralNoise(config=config, noise_multiplier=noise, expected=expected, seed=len(side))
        sides.append([release(trial, received(clients)) @ DIRECTION for trial in range(TRIALS)])
    return [np.array(side) for side in sides]


def distributed_trials(encoding, arrived):
    """Sums of as many clients' noised whole numbers as arrived, along the canary: in the sum, or zero in its place."""
    sides = []
    for side, update in (("with", CANARY), ("without", np.zeros(SIZE))):
        rng, released = generator(0, "audit", side), []
        zero = np.append(np.zeros(SIZE), 1.0)
        for _ in range(TRIALS):
            total = encoding.encode(np.append(update, 1.0), rng)
            for _ in range(arrived - 1):
                total = total + encoding.encode(zero, rng)
            released.append(encoding.decode(total)[:SIZE] @ DIRECTION)
        sides.append(np.array(released))
    return sides


@pytest.mark.parametrize("others", [{}, {c: np.full(SIZE, -0.1 * c) for c in range(3)}], ids=["alone", "three others"])
def test_central_noise_keeps_what_it_claims(others):
    promise = epsilon(gaussian(1.0, 1), DELTA)
    assert promise / 2 < epsilon_below(*central_trials(1.0, others)) < promise


def test_central_noise_made_for_clients_that_did_not_come_is_caught():
    """One of ten came: a tenth of the noise is on its update."""
    assert epsilon_below(*central_trials(1.0, {}, divide_by_replies=True)) > epsilon(gaussian(1.0, 1), DELTA)


def test_distributed_noise_keeps_what_really_arrived_is_worth():
    encoding = plan_skellam(clipping_norm=NORM, noise_multiplier=2.0, dimension=SIZE, clients_planned=8)
    trials = distributed_trials(encoding, arrived=2)
    promise = skellam_epsilon([(encoding.variance(2), *encoding.sensitivities())], DELTA)
    assert promise / 2.5 < epsilon_below(*trials) < promise


def test_distributed_noise_of_clients_that_dropped_out_does_not_count():
    """Two of eight came, and the noise of eight is accounted: the planted bug."""
    encoding = plan_skellam(clipping_norm=NORM, noise_multiplier=2.0, dimension=SIZE, clients_planned=8)
    promise = skellam_epsilon([(encoding.variance(8), *encoding.sensitivities())], DELTA)
    assert epsilon_below(*distributed_trials(encoding, arrived=2)) > promise


def test_clipping_left_out_is_caught():
    """Updates ten times as long as accounted, under the noise that was accounted."""
    encoding = plan_skellam(clipping_norm=NORM, noise_multiplier=2.0, dimension=SIZE, clients_planned=2)
    loose = replace(encoding, clipping_norm=10 * NORM, noise_multiplier=encoding.noise_multiplier / 10)
    promise = skellam_epsilon([(encoding.variance(2), *encoding.sensitivities())], DELTA)
    assert epsilon_below(*distributed_trials(loose, arrived=2)) > promise
