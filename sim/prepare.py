"""What the attackers, and the stranger control, train before they attack. Kept in the run folder and reused."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from safetensors.numpy import load_file

from attacks.observation import Records
from attacks.references import halves
from clients.randomness import generator
from sim.data.federation import ClientData
from sim.diverged import whose
from sim.files import save_arrays
from sim.folder import RunFolder
from sim.given import federation_of
from sim.noise import Strengths, strengths
from sim.progress import Progress
from sim.recipe import Pipeline, follow
from sim.scenario import Scenario
from sim.tampering import scored
from sim.tuned import Tuned, asks_for_tuned, tune
from sim.twin import train_twin, untrained


@dataclass(frozen=True, slots=True)
class Prepared:
    """Reference models (row r of each array is reference r) and the two stranger models, as flat weights."""

    trained_on: Bool[np.ndarray, "references population"]
    global_: Float[np.ndarray, "references params"]
    personal: Float[np.ndarray, "references params"]
    strangers: Float[np.ndarray, "2 params"]
    tuned: Tuned | None  # None where no attack of the scenario asks for them


def prepare(scenario: Scenario, folder: RunFolder, progress: Progress) -> Prepared:
    """The references and the strangers of this run, trained now if they are not there yet."""
    if not _file(scenario, folder).exists():
        with preparing(scenario, folder, progress):
            pass
    tensors = load_file(_file(scenario, folder))
    return Prepared(
        tensors["trained_on"].astype(bool),
        tensors["global"],
        tensors["personal"],
        tensors["strangers"],
        tune(scenario, folder, progress) if asks_for_tuned(scenario) else None,
    )


@contextmanager
def preparing(scenario: Scenario, folder: RunFolder, progress: Progress) -> Iterator[None]:
    """Train references, strangers and a protected run's twin in other processes while the block runs: they need
    nothing of the target.

    One process per core, and each model has its own generator, so the weights do not depend on who does what when.
    """
    count = scenario.attacks.references
    noise = strengths(scenario)  # solved once, not in every process
    jobs: list[Callable[[], Pipeline]] = [partial(_reference, scenario, noise, number) for number in range(count)]
    jobs += [partial(_stranger, scenario, noise, number) for number in range(2)]
    context = multiprocessing.get_context("spawn")  # a fork would copy torch's and TensorFlow's locked threads
    with ProcessPoolExecutor(min(len(jobs), os.cpu_count() or 1), context, initializer=_begin_work) as pool:
        with _interrupts_ignored():  # workers inherit this: a Ctrl-C is for the main process, which then ends them
            twins = [pool.submit(train_twin, scenario, folder, name) for name in untrained(scenario, folder)]
            futures = [pool.submit(job) for job in jobs]
        try:
            yield
            with progress.stage("training the attackers' reference models", len(jobs) + len(twins)):
                everything: list[Future[Any]] = [*twins, *futures]
                for number, done in enumerate(as_completed(everything), start=1):
                    done.result()
                    progress.step(f"{number} of {len(jobs) + len(twins)} models")
        except BaseException:
            for worker in multiprocessing.active_children():  # nobody waits for work that nobody wants any more
                worker.terminate()
            raise
    _store(scenario, _file(scenario, folder), [future.result() for future in futures])


def stranger_side(scenario: Scenario, clients: tuple[ClientData, ...]) -> Bool[np.ndarray, " clients"]:
    """Which of two groups of people each client belongs to; the stranger of one group trained on the other."""
    people = sorted({client.person for client in clients})
    first = set(generator(scenario.seed, "strangers").permutation(people)[: len(people) // 2].tolist())
    return np.array([client.person in first for client in clients])


def _file(scenario: Scenario, folder: RunFolder) -> Path:
    return folder.models / f"attackers-{scenario.attacks.references}.safetensors"


def _store(scenario: Scenario, file: Path, pipelines: list[Pipeline]) -> None:
    count = scenario.attacks.references
    content = {
        "trained_on": _halves(scenario).astype(np.uint8),
        "global": np.stack([pipeline.global_ for pipeline in pipelines[:count]]),
        "personal": np.stack([pipeline.personal for pipeline in pipelines[:count]]),
        "strangers": np.stack([pipeline.personal for pipeline in pipelines[count:]]),
    }
    save_arrays(file, content)


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _begin_work() -> None:
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A run that is killed outright leaves no worker behind."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _halves(scenario: Scenario) -> Bool[np.ndarray, "references population"]:
    own = federation_of(scenario).population
    return halves(scenario.attacks.references, len(own), generator(scenario.seed, "reference halves"), own.device)


def _reference(scenario: Scenario, noise: Strengths, number: int) -> Pipeline:
    """A reference follows the recipe on its half of the attacker's own population."""
    own, half = federation_of(scenario).population, _halves(scenario)[number]
    rng = generator(scenario.seed, "reference", number)
    with whose(scenario, f"the attacker's reference model {number}, trained on half of the attacker's own records"):
        return follow(scenario, noise, Records(own.x[half], own.y[half]), own.device[half], rng)


def _stranger(scenario: Scenario, noise: Strengths, number: int) -> Pipeline:
    """Stranger 0 never saw the first group of people, stranger 1 never saw the second."""
    clients = scored(scenario).clients
    side = stranger_side(scenario, clients)
    teachers = [client for client, first in zip(clients, side, strict=True) if first == bool(number)]
    members = [client.members for client in teachers]
    records = Records(np.concatenate([x for x, _ in members]), np.concatenate([y for _, y in members]))
    device = np.repeat([client.client for client in teachers], [len(y) for _, y in members])
    with whose(scenario, f"stranger {number} (a control), trained on the members of some of the clients"):
        return follow(scenario, noise, records, device, generator(scenario.seed, "stranger", number))
