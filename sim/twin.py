"""The unprotected twin of a run: the same seed, data and settings without any protection, to say what protection costs.

It is trained beside the run itself, and only asked how often it is right about the held-out records.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from rich.console import Console
from safetensors.numpy import load_file, save_file

from clients.privacy import PrivacyConfig
from clients.training import logits
from server.aggregation.config import AggregationConfig
from sim.engines import ENGINES
from sim.federate import GLOBAL, federate
from sim.folder import RunFolder
from sim.given import federation_of, stored_model
from sim.progress import Progress
from sim.scenario import Scenario

Correct = dict[str, Bool[np.ndarray, " records"]]  # "global" and "personal" -> for each record, whether it is right


def train_twin(scenario: Scenario, folder: RunFolder) -> None:
    """Train the twin and note what it gets right; its models and updates are not kept."""
    twin, place = _unprotected(scenario), RunFolder(folder.models / "unprotected")
    for part in (place.transcript, place.models):
        part.mkdir(parents=True, exist_ok=True)
    federate(twin, ENGINES["inprocess"], place, Progress(Console(quiet=True)))
    save_file({model: right.astype(np.uint8) for model, right in _correct(twin, place).items()}, _file(folder))
    shutil.rmtree(place.path)


def twin_correct(folder: RunFolder) -> Correct:
    """For all clients' records in client order, whether the twin's models are right about them."""
    return {model: right.astype(bool) for model, right in load_file(_file(folder)).items()}


def trained(folder: RunFolder) -> bool:
    """Whether the twin was trained to its end."""
    return _file(folder).exists()


def _unprotected(scenario: Scenario) -> Scenario:
    return scenario.model_copy(update={"privacy": PrivacyConfig(), "aggregation": AggregationConfig()})


def _correct(scenario: Scenario, folder: RunFolder) -> Correct:
    shared = stored_model(scenario, folder.models / GLOBAL)
    clients = federation_of(scenario).clients
    right = {"global": [], "personal": []}  # type: dict[str, list[Bool[np.ndarray, " records"]]]
    for client in clients:
        own = stored_model(scenario, folder.personal_model(client.client))
        right["global"].append(logits(shared, client.x).argmax(1) == client.y)
        right["personal"].append(logits(own, client.x).argmax(1) == client.y)
    return {model: np.concatenate(parts) for model, parts in right.items()}


def _file(folder: RunFolder) -> Path:
    return folder.models / "unprotected.safetensors"
