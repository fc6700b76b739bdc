"""What a client can check about a broadcast."""

import numpy as np
import pytest
import torch
from torch import nn

from clients.vigilance import MEASURES, Look, alarms, dead_units, digest, digests_differ, false_alarms, look
from clients.weights import load_vector, to_vector

X = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)
Y = np.arange(12) % 3


def network():
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))
    start = np.random.default_rng(1).normal(size=sum(p.numel() for p in model.parameters()))
    return load_vector(model, start.astype(np.float32))


def seen(loss=1.0, weights=(1.0, 0.0), held_back=1.0, dead=0.0):
    return Look(np.array(weights, dtype=np.float32), loss, held_back, dead)


def test_a_look_tells_losses_and_dead_units():
    model = network()
    found = look(model, to_vector(model), (X, Y), (X[:0], Y[:0]))
    expected = nn.functional.cross_entropy(model(torch.tensor(X)), torch.tensor(Y))
    assert found.loss == pytest.approx(float(expected), rel=1e-6)
    assert found.held_back_loss == 0.0
    assert 0 <= found.dead < 1


def test_dead_units_are_those_that_no_record_passes():
    model = network()
    with torch.no_grad():
        model[0].weight[:3] = 0
        model[0].bias[:3] = -1
        alive = int((model[:2](torch.tensor(X)) > 0).any(dim=0).sum())
    assert dead_units(model, X) == pytest.approx(1 - alive / 8)
    assert dead_units(model, X) >= 3 / 8


def test_a_channel_that_fires_anywhere_is_alive():
    model = nn.Sequential(nn.Conv1d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 3, 3))
    with torch.no_grad():
        model[0].weight[:], model[0].bias[:] = 0.0, torch.tensor([1.0, -1.0])
    assert dead_units(model, X[:, None, :]) == 0.5


def test_digests_differ_where_one_client_was_sent_something_else():
    weights = np.arange(4, dtype=np.float32)
    other = weights.copy()
    other[2] = np.nextafter(other[2], np.float32(9))
    assert not digests_differ([weights, weights.copy(), weights.astype(np.float64)])
    assert digests_differ([weights, weights, other])
    assert len(digest(weights)) == 64


def test_each_measure_is_larger_for_the_odder_broadcast():
    before = seen()
    odd = {
        "rise of the loss": seen(loss=3.0),
        "change of the weights": seen(weights=(1.0, 2.0)),
        "dead units": seen(dead=0.5),
        "held-back records": seen(loss=2.0, held_back=1.0),
    }
    assert odd.keys() == MEASURES.keys()
    for name, measure in MEASURES.items():
        assert measure(before, odd[name]) > measure(before, seen())
    assert MEASURES["change of the weights"](before, seen(weights=(1.0, 2.0))) == 2.0


def test_the_threshold_is_the_most_extreme_of_the_honest_broadcasts():
    rise = MEASURES["rise of the loss"]
    honest = [seen(2.0), seen(1.5), seen(1.8), seen(1.2)]  # rises: -0.5, 0.3, -0.6
    assert alarms(rise, honest, seen(1.6))
    assert not alarms(rise, honest, seen(1.5))
    assert not alarms(rise, honest[:1], seen(9.0))  # nothing to set a threshold by


def test_false_alarms_leave_one_broadcast_out_at_a_time():
    rise, dead = MEASURES["rise of the loss"], MEASURES["dead units"]
    honest = [seen(2.0), seen(1.5), seen(1.8), seen(1.2)]
    assert false_alarms(rise, honest) == pytest.approx(1 / 3)
    assert false_alarms(dead, honest) == 0.0  # all alike: a tie is no alarm
