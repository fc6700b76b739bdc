"""Whether a client's batch holds records of a kind that no label tells."""

import numpy as np
import pytest
from torch import nn

from attacks.observation import Records
from attacks.property_inference import Simulation, infer
from clients.training import TrainingConfig, train
from clients.weights import load_vector, to_vector
from sim.score import auc


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
    has = np.arange(100) % 2 == 1
    return model, population, kind, np.stack([update(model, rng, holds) for holds in has]), has


def update(model, rng, holds):
    """A real client's, trained by the clients' own code on its own records."""
    data, kind = people(rng, 400)
    rows = np.concatenate([np.flatnonzero(kind)[: 16 * holds], np.flatnonzero(~kind)[: 32 - 16 * holds]])
    return trained(model, data[rows], rng)


def trained(model, records, rng):
    """What one client sends: broadcast weights minus its own."""
    weights = to_vector(model)
    local = nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 3))
    load_vector(local, weights)
    train(local, records.x, records.y, TrainingConfig(batch_size=8, learning_rate=0.1), rng)
    return weights - to_vector(local)


def simulation(model, **shares):
    return Simulation(train=lambda records, rng: trained(model, records, rng), records=32, **shares)


def test_clients_with_the_kind_are_told_from_others(world):
    model, population, kind, updates, has = world
    found = infer(updates, population, kind, simulation(model), np.random.default_rng(1))
    assert found.simulated == 200
    assert found.auc > 0.7  # four standard errors above a coin toss and more
    assert auc(found.scores, has) > 0.62  # two standard errors, of 50 clients on each side


def test_a_kind_that_leaves_no_trace_is_not_found(world):
    model, population, kind, updates, _ = world
    rng = np.random.default_rng(2)
    found = infer(updates, population, rng.permutation(kind), simulation(model), rng, 100)
    assert abs(found.auc - 0.5) < 3 * 0.058  # 50 updates on each side


def test_deterministic_and_leaves_the_model_alone(world):
    model, population, kind, updates, _ = world
    before = to_vector(model)
    first, second = (
        infer(updates, population, kind, simulation(model), np.random.default_rng(3), simulations=20) for _ in range(2)
    )
    np.testing.assert_array_equal(first.scores, second.scores)
    np.testing.assert_array_equal(to_vector(model), before)


def test_a_population_without_the_kind_is_refused(world):
    model, population, kind, updates, _ = world
    with pytest.raises(ValueError, match="0 records are of the kind and 300 are not"):
        infer(updates, population, np.zeros_like(kind), simulation(model), np.random.default_rng(1))


def test_shares_lie_within_their_ranges(world):
    """Of 32 records, 16 to 24 are of the kind with the property, 4 to 8 without it."""
    model, population, kind, updates, _ = world
    rows = {row.tobytes(): is_so for row, is_so in zip(population.x, kind, strict=True)}
    held = []

    def count(records, rng):
        held.append(sum(rows[row.tobytes()] for row in records.x))
        return trained(model, records, rng)

    made = Simulation(train=count, records=32, present=(0.5, 0.75), absent=(0.125, 0.25))
    infer(updates, population, kind, made, np.random.default_rng(1), simulations=20)
    assert all(16 <= some <= 24 for some in held[1::2]) and all(4 <= some <= 8 for some in held[::2])
    assert len(set(held)) > 6
