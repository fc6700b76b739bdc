"""What the attackers, and the stranger control, train before they attack. Kept in the run folder and reused."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from safetensors.numpy import load_file, save_file

from attacks.observation import Records
from attacks.references import halves
from clients.randomness import generator
from sim.data.federation import ClientData
from sim.federate import federation_of
from sim.folder import RunFolder
from sim.progress import Progress
from sim.recipe import Pipeline, follow
from sim.scenario import Scenario


@dataclass(frozen=True, slots=True)
class Prepared:
    """Reference models (row r of each array is reference r) and the two stranger models, as flat weights."""

    trained_on: Bool[np.ndarray, "references population"]
    global_: Float[np.ndarray, "references params"]
    personal: Float[np.ndarray, "references params"]
    strangers: Float[np.ndarray, "2 params"]


def prepare(scenario: Scenario, folder: RunFolder, progress: Progress) -> Prepared:
    """Train the references and the strangers, or read them if this run already has them."""
    file = folder.models / f"attackers-{scenario.attacks.references}.safetensors"
    if not file.exists():
        with progress.stage("training the attackers' reference models", scenario.attacks.references + 2):
            _train(scenario, file, progress)
    tensors = load_file(file)
    return Prepared(tensors["trained_on"].astype(bool), tensors["global"], tensors["personal"], tensors["strangers"])


def stranger_side(scenario: Scenario, clients: tuple[ClientData, ...]) -> Bool[np.ndarray, " clients"]:
    """Which of two groups of people each client belongs to; the stranger of one group trained on the other."""
    people = sorted({client.person for client in clients})
    first = set(generator(scenario.seed, "strangers").permutation(people)[: len(people) // 2].tolist())
    return np.array([client.person in first for client in clients])


def _train(scenario: Scenario, file: Path, progress: Progress) -> None:
    pipelines, trained_on = _references(scenario, progress)
    content = {
        "trained_on": trained_on.astype(np.uint8),
        "global": np.stack([pipeline.global_ for pipeline in pipelines]),
        "personal": np.stack([pipeline.personal for pipeline in pipelines]),
        "strangers": _strangers(scenario, progress),
    }
    part = file.with_suffix(".part")
    save_file(content, part)
    part.replace(file)


def _references(
    scenario: Scenario, progress: Progress
) -> tuple[list[Pipeline], Bool[np.ndarray, "references population"]]:
    """Each reference follows the recipe on its half of the attacker's own population."""
    own = federation_of(scenario).population
    population = Records(own.x, own.y)
    trained_on = halves(
        scenario.attacks.references, len(population), generator(scenario.seed, "reference halves"), own.device
    )
    pipelines = []
    for number, half in enumerate(trained_on):
        rng = generator(scenario.seed, "reference", number)
        pipelines.append(follow(scenario, population[half], own.device[half], rng))
        progress.step(f"reference {number + 1}")
    return pipelines, trained_on


def _strangers(scenario: Scenario, progress: Progress) -> Float[np.ndarray, "2 params"]:
    """Row 0 never saw the first group of people, row 1 never saw the second."""
    clients = federation_of(scenario).clients
    side = stranger_side(scenario, clients)
    models = []
    for number, taught in enumerate((~side, side)):
        teachers = [client for client, picked in zip(clients, taught, strict=True) if picked]
        members = [client.members for client in teachers]
        records = Records(np.concatenate([x for x, _ in members]), np.concatenate([y for _, y in members]))
        device = np.repeat([client.client for client in teachers], [len(y) for _, y in members])
        models.append(follow(scenario, records, device, generator(scenario.seed, "stranger", number)).personal)
        progress.step(f"stranger {number + 1}")
    return np.stack(models)
