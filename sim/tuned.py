"""Reference models fine-tuned from the run's own global model, which every user has, on the attacker's own devices.

They share with a personal model what the global one knew before, so what is left between the two is the fine-tune.
Cheap: a personalisation each. They need the finished global model, so unlike the other references they cannot train
beside the federation.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from safetensors.numpy import load_file

from attacks.observation import Records
from attacks.registry import ATTACKS, TUNED
from clients.randomness import generator
from clients.weights import to_vector
from sim.data.federation import Population
from sim.diverged import whose
from sim.federate import GLOBAL
from sim.files import save_arrays
from sim.folder import RunFolder
from sim.given import federation_of, stored_model
from sim.noise import strengths
from sim.progress import Progress
from sim.recipe import personalise
from sim.scenario import Scenario


@dataclass(frozen=True, slots=True)
class Tuned:
    """Row r of each array is reference r: which of the attacker's records it fine-tuned on, and its weights."""

    trained_on: Bool[np.ndarray, "references population"]
    personal: Float[np.ndarray, "references params"]


def asks_for_tuned(scenario: Scenario) -> bool:
    """Whether any attack of the scenario needs such references."""
    return any(TUNED[-1] in ATTACKS[name].needs for name in scenario.attacks.names if name in ATTACKS)


def tune(scenario: Scenario, folder: RunFolder, progress: Progress) -> Tuned:
    """The fine-tuned references of this run, trained now if they are not there yet."""
    file = _file(scenario, folder)
    if not file.exists():
        _store(file, _tune(scenario, folder, progress))
    tensors = load_file(file)
    return Tuned(tensors["trained_on"].astype(bool), tensors["personal"])


def parts(own: Population, count: int, share: float, rng: np.random.Generator) -> Bool[np.ndarray, "count population"]:
    """The records each of `count` references fine-tunes on: of one device, each by a coin with probability `share`.

    The devices take turns, in an order drawn by `rng`. As with the clients' own coins, a part may lack a class; it has
    one record at least.
    """
    devices = rng.permutation(np.unique(own.device))
    rows = np.zeros((count, len(own)), dtype=bool)
    for number, row in enumerate(rows):
        held = np.flatnonzero(own.device == devices[number % len(devices)])
        row[held] = rng.random(len(held)) < share
        row[held[0]] |= not row.any()
    return rows


def _tune(scenario: Scenario, folder: RunFolder, progress: Progress) -> Tuned:
    torch.set_num_threads(1)
    own, noise, count = federation_of(scenario).population, strengths(scenario), scenario.attacks.references
    shared = to_vector(stored_model(scenario, folder.models / GLOBAL))
    rows = parts(own, count, scenario.data.member_share, generator(scenario.seed, "tuned parts"))
    tuned = []
    with progress.stage("fine-tuning reference models from the global model", count):
        for number, row in enumerate(rows):
            rng = generator(scenario.seed, "tuned", number)
            with whose(scenario, f"the attacker's reference model {number}, fine-tuned on the attacker's own records"):
                tuned.append(personalise(scenario, noise, shared, Records(own.x[row], own.y[row]), rng))
            progress.step(f"{number + 1} of {count} models")
    return Tuned(rows, np.stack(tuned))


def _store(file: Path, tuned: Tuned) -> None:
    save_arrays(file, {"trained_on": tuned.trained_on.astype(np.uint8), "personal": tuned.personal})


def _file(scenario: Scenario, folder: RunFolder) -> Path:
    return folder.models / f"tuned-{scenario.attacks.references}.safetensors"
