"""The training recipe, as anybody can follow it on data of their own: average over devices, then fine-tune on one.

It is public: the attackers train their reference models with it, and the stranger control its own. The arithmetic is
the clients' own (`clients.training`); only Flower's messages are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from torch import nn

from attacks.observation import Records
from clients.training import TrainingConfig, train
from clients.weights import load_vector, to_vector
from sim.federate import fresh_model
from sim.scenario import Scenario

Vector = Float[np.ndarray, " params"]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """What one walk through the recipe gives: a global model and one personal model, as flat weights."""

    global_: Vector
    personal: Vector


def follow(
    scenario: Scenario, records: Records, device: Int[np.ndarray, " records"], rng: np.random.Generator
) -> Pipeline:
    """Federated averaging over the devices in `device`, then a fine-tune on one of them drawn by chance."""
    devices = [records[device == number] for number in np.unique(device)]
    model = fresh_model(scenario)
    weights = to_vector(model)
    for _ in range(scenario.federation.rounds):
        weights = _average(scenario, model, weights, devices, rng)
    chosen = devices[rng.integers(len(devices))]
    return Pipeline(weights, _local(model, weights, chosen, scenario.personalization, rng))


def _average(
    scenario: Scenario, model: nn.Module, weights: Vector, devices: list[Records], rng: np.random.Generator
) -> Vector:
    count = max(1, round(len(devices) * scenario.federation.participation))
    sampled = [devices[i] for i in rng.choice(len(devices), count, replace=False)]
    trained = [_local(model, weights, records, scenario.training, rng) for records in sampled]
    return np.average(trained, axis=0, weights=[len(records) for records in sampled]).astype(np.float32)


def _local(
    model: nn.Module, weights: Vector, records: Records, config: TrainingConfig, rng: np.random.Generator
) -> Vector:
    train(load_vector(model, weights), records.x, records.y, config, rng)
    return to_vector(model)
