"""Twins of a run: the same seed, data and settings but for one thing, to say what that does.

The unprotected twin is without any protection, the untampered one without tampering clients. They are trained beside
the run itself, and only asked what they answer about the records that are scored.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from rich.console import Console
from safetensors.numpy import load_file
from torch import nn

from clients.privacy import PrivacyConfig
from clients.training import logits
from server.aggregation.config import AggregationConfig
from sim.data.federation import ClientData
from sim.engines import ENGINES
from sim.federate import GLOBAL, federate
from sim.files import save_arrays
from sim.folder import RunFolder
from sim.given import stored_model
from sim.progress import Progress
from sim.scenario import Scenario
from sim.tampering import Labeller, scored, successes

UNPROTECTED = "unprotected"
UNTAMPERED = "untampered"


@dataclass(frozen=True, slots=True)
class Answered:
    """How one model of a twin does."""

    right: Bool[np.ndarray, " records"]  # about each scored record, in client order
    success: Bool[np.ndarray, " trials"]  # whether it answers as tampering clients would have it


Answers = dict[str, Answered]  # "global" and "personal"


def twins(scenario: Scenario) -> dict[str, Scenario]:
    """The twins that a scenario's results need, by name."""
    found = {}
    if scenario.protected:
        plain = {"privacy": PrivacyConfig(), "aggregation": AggregationConfig()}
        found[UNPROTECTED] = scenario.model_copy(update=plain)
    if scenario.tampering:
        found[UNTAMPERED] = scenario.model_copy(update={"tampering": None})
    return found


def untrained(scenario: Scenario, folder: RunFolder) -> list[str]:
    """The names of the twins that have not been trained to their end."""
    return [name for name in twins(scenario) if not _file(folder, name).exists()]


def train_twin(scenario: Scenario, folder: RunFolder, name: str) -> None:
    """Train a twin and note what it answers; its models and updates are not kept."""
    place = RunFolder(folder.models / name)
    for part in (place.transcript, place.models):
        part.mkdir(parents=True, exist_ok=True)
    federate(twins(scenario)[name], ENGINES["inprocess"], place, Progress(Console(quiet=True)))
    content = {}
    for model, answered in answers(scenario, place).items():
        content[f"{model} right"], content[f"{model} success"] = answered.right, answered.success
    save_arrays(_file(folder, name), {key: values.astype(np.uint8) for key, values in content.items()})
    shutil.rmtree(place.path)


def twin_answers(folder: RunFolder, name: str) -> Answers:
    """What a twin's models answered."""
    kept = {key: values.astype(bool) for key, values in load_file(_file(folder, name)).items()}
    return {m: Answered(kept[f"{m} right"], kept[f"{m} success"]) for m in ("global", "personal")}


def answers(scenario: Scenario, folder: RunFolder) -> Answers:
    """What the models in a folder answer about the records that the scenario scores."""
    shared = stored_model(scenario, folder.models / GLOBAL)
    return {
        "global": _ask(scenario, lambda _: shared),
        "personal": _ask(scenario, lambda client: stored_model(scenario, folder.personal_model(client.client))),
    }


def _ask(scenario: Scenario, model: Callable[[ClientData], nn.Module]) -> Answered:
    def labeller(client: ClientData) -> Labeller:
        network = model(client)
        return lambda x: logits(network, x).argmax(1)

    right = [labeller(client)(client.x) == client.y for client in scored(scenario).clients]
    success = successes(scenario, labeller) if scenario.tampering else np.zeros(0, bool)
    return Answered(np.concatenate(right), success)


def _file(folder: RunFolder, name: str) -> Path:
    return folder.models / f"{name}.safetensors"
