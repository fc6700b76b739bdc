"""What runs on devices: every exported variant of a model, and last layers that devices trained themselves."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float
from safetensors.numpy import load_file

from clients.randomness import generator
from edge.arithmetic import exact
from edge.artifact import Artifact
from edge.head import Flashed, Head, flashed, train
from edge.runtimes import predict
from sim.data.federation import ClientData
from sim.files import save_arrays
from sim.folder import RunFolder, personal_name
from sim.results import Precision
from sim.scenario import Scenario

HEAD: Precision = "head"
Batch = Float[np.ndarray, "records ..."]
Answer = Callable[[Batch], Float[np.ndarray, "records classes"]]


def stem(scenario: Scenario, name: str, variant: str) -> str:
    """An artefact's name without its suffix: the model's own for the variant that ships, else with the variant's."""
    return name if variant == scenario.edge.variants[0] else f"{name}-{variant}"


def of_devices(scenario: Scenario) -> tuple[Precision, ...]:
    """In how many ways personal models run on devices; the one that ships comes first."""
    return (*scenario.edge.variants, *((HEAD,) if scenario.edge.head else ()))


def artifact(scenario: Scenario, folder: RunFolder, name: str, variant: str) -> Artifact:
    """An exported model."""
    file = folder.artifact(stem(scenario, name, variant))
    return Artifact.from_bytes(file.read_bytes(), scenario.edge.output)


def answers(scenario: Scenario, folder: RunFolder, name: str, precision: Precision) -> Answer:
    """What a device answers, in the device's own arithmetic."""
    if precision == HEAD:
        split, head = flash(scenario, folder), load_head(folder, name)
        runtime = exact(split.frozen)
        return lambda x: split.answers(head, split.features(x, runtime))
    return on_device(artifact(scenario, folder, name, precision))


def on_device(model: Artifact) -> Answer:
    """The answers of one exported model, bit for bit those of the device."""
    runtime = exact(model)
    return lambda x: predict(model, x, runtime)


def train_heads(scenario: Scenario, folder: RunFolder, clients: tuple[ClientData, ...]) -> None:
    """Each client's device trains its own last layer on its members, from the global model as it was flashed."""
    config = scenario.edge.head
    assert config is not None
    split = flash(scenario, folder)
    runtime = exact(split.frozen)
    for client in clients:
        x, y = client.members
        rng = generator(scenario.seed, "on-device head", client.client)
        head = train(split.head, split.features(x, runtime), y, config, rng)
        file = _head_file(folder, personal_name(client.client))
        save_arrays(file, {"weight": head.weight, "bias": head.bias})


def flash(scenario: Scenario, folder: RunFolder) -> Flashed:
    """The global model in every device's flash."""
    return _flashed(folder.artifact("global").read_bytes(), scenario)


@lru_cache(maxsize=2)
def _flashed(model: bytes, scenario: Scenario) -> Flashed:
    return flashed(Artifact.from_bytes(model, scenario.edge.output))


def load_head(folder: RunFolder, name: str) -> Head:
    """The last layer that a client's device trained."""
    found = load_file(_head_file(folder, name))
    return Head(found["weight"], found["bias"])


def _head_file(folder: RunFolder, name: str) -> Path:
    return folder.edge / f"{name}-{HEAD}.safetensors"
