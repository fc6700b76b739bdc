"""The training recipe, as anybody can follow it on data of their own: average over devices, then fine-tune on one.

It is public: the attackers train their reference models with it, and the stranger control its own. The arithmetic is
the clients' own (`clients.training`, `clients.dp_sgd`); only Flower's messages and secure aggregation are left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from torch import nn

from attacks.observation import Records
from clients.training import TrainingConfig, train
from clients.update import clip
from clients.weights import load_vector, to_vector
from sim.given import federation_of, fresh_model
from sim.noise import Strengths
from sim.scenario import Scenario

Vector = Float[np.ndarray, " params"]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """What one walk through the recipe gives: a global model and one personal model, as flat weights."""

    global_: Vector
    personal: Vector


def follow(
    scenario: Scenario,
    noise: Strengths,
    records: Records,
    device: Int[np.ndarray, " records"],
    rng: np.random.Generator,
) -> Pipeline:
    """Federated averaging over the devices in `device`, then a fine-tune on one of them drawn by chance."""
    devices = [records[device == number] for number in np.unique(device)]
    model = fresh_model(scenario)
    weights = to_vector(model)
    for _ in range(scenario.federation.rounds):
        weights = _average(scenario, noise, model, weights, devices, rng)
    chosen = devices[rng.integers(len(devices))]
    return Pipeline(weights, personalise(scenario, noise, weights, chosen, rng))


def personalise(
    scenario: Scenario, noise: Strengths, weights: Vector, records: Records, rng: np.random.Generator
) -> Vector:
    """Fine-tune a global model on one device's records, as every client does."""
    return local(scenario, noise, fresh_model(scenario), weights, records, scenario.personalization, rng)


def _average(
    scenario: Scenario,
    noise: Strengths,
    model: nn.Module,
    weights: Vector,
    devices: list[Records],
    rng: np.random.Generator,
) -> Vector:
    count = max(1, round(len(devices) * scenario.federation.participation))
    sampled = [devices[i] for i in rng.choice(len(devices), count, replace=False)]
    trained = [local(scenario, noise, model, weights, records, scenario.training, rng) for records in sampled]
    if noise.client is not None:
        moved: Vector = weights - _private_mean(scenario, noise.client, [weights - each for each in trained], rng)
        return moved
    shares = None if noise.record else [len(records) for records in sampled]
    mean: Vector = np.average(trained, axis=0, weights=shares)
    return mean.astype(np.float32)


def _private_mean(scenario: Scenario, z: float, updates: list[Vector], rng: np.random.Generator) -> Vector:
    """Clipped, with as much noise as the target's mean has: whoever follows the recipe has fewer devices than it."""
    config = scenario.privacy.client
    assert config is not None
    norm = config.clipping_norm
    if config.clipping == "adaptive":
        norm = float(np.quantile([np.linalg.norm(update) for update in updates], config.quantile))
    expected = scenario.federation.participation * federation_of(scenario).participants
    spread = z * norm / (math.sqrt(expected) if config.where == "local" else expected)
    mean: Vector = np.mean([clip(update, norm) for update in updates], axis=0)
    return (mean + rng.normal(0.0, spread, mean.shape)).astype(np.float32)


def local(
    scenario: Scenario,
    noise: Strengths,
    model: nn.Module,
    weights: Vector,
    records: Records,
    config: TrainingConfig,
    rng: np.random.Generator,
) -> Vector:
    """One device's weights after training from `weights` on its records, in `model`, as `config` says."""
    load_vector(model, weights)
    if noise.record is None:
        train(model, records.x, records.y, config, rng)
    else:
        from clients.dp_sgd import train_privately  # Opacus takes seconds to import

        assert scenario.privacy.record is not None
        train_privately(model, records.x, records.y, config, scenario.privacy.record, noise.record, rng)
    return to_vector(model)
