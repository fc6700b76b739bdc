"""Whether a client's batch holds records of a kind that no label tells."""

import numpy as np
import pytest
from torch import nn

from attacks.observation import Records
from attacks.property_inference import Training, infer
from clients.training import TrainingConfig, train
from clients.weights import load_vector, to_vector
from sim.score import auc

TRAINING = Training(records=32, batch_size=8, epochs=1, learning_rate=0.1)


def people(rng, count):
    """The label hangs on the first features; the kind shifts others, and tells nothing of the label."""
    y, kind = rng.integers(3, size=count), rng.random(count) < 0.3
    x = rng.normal(size=(count, 20))
    x[np.arange(count), y] += 2
    x[kind, 10:] += 0.7
    return Records(x.astype(np.float32), y), kind


@pytest.fixture(scope="module")
def world():
    rng = np.random.default_rng(0)
    model = nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 3))
    load_vector(model, rng.uniform(-0.25, 0.25, size=to_vector(model).size).astype(np.float32))
    population, kind = people(rng, 600)
    has = np.arange(40) % 2 == 1
    return model, population, kind, np.stack([update(model, rng, holds) for holds in has]), has


def update(model, rng, holds):
    """A real client's, trained by the clients' own code on its own records."""
    data, kind = people(rng, 400)
    rows = np.concatenate([np.flatnonzero(kind)[: 16 * holds], np.flatnonzero(~kind)[: 32 - 16 * holds]])
    weights = to_vector(model)
    local = nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 3))
    load_vector(local, weights)
    train(local, data.x[rows], data.y[rows], TrainingConfig(batch_size=8, learning_rate=0.1), rng)
    return weights - to_vector(local)


def test_clients_with_the_kind_are_told_from_others(world):
    model, population, kind, updates, has = world
    found = infer(model, to_vector(model), updates, population, kind, TRAINING, np.random.default_rng(1))
    assert found.simulated == 200
    assert found.auc > 0.8
    assert auc(found.scores, has) > 0.75


def test_a_kind_that_leaves_no_trace_is_not_found(world):
    model, population, kind, updates, _ = world
    rng = np.random.default_rng(2)
    found = infer(model, to_vector(model), updates, population, rng.permutation(kind), TRAINING, rng, 100)
    assert abs(found.auc - 0.5) < 3 * 0.058  # 50 updates on each side


def test_deterministic_and_leaves_the_model_alone(world):
    model, population, kind, updates, _ = world
    before = to_vector(model)
    first, second = (
        infer(model, before, updates, population, kind, TRAINING, np.random.default_rng(3), simulations=20)
        for _ in range(2)
    )
    np.testing.assert_array_equal(first.scores, second.scores)
    np.testing.assert_array_equal(to_vector(model), before)


def test_a_population_without_the_kind_is_refused(world):
    model, population, kind, updates, _ = world
    with pytest.raises(ValueError, match="0 records are of the kind and 300 are not"):
        infer(model, to_vector(model), updates, population, np.zeros_like(kind), TRAINING, np.random.default_rng(1))
