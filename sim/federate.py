"""The first stages of a run: federate and personalise, with the transcript and the models written as they come."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from flwr.app import ArrayRecord
from safetensors.torch import load_file, save_file
from torch import nn

from clients.app import ClientRecipe, LocalData, client_app
from clients.models import build_model
from clients.randomness import generator, torch_generator
from clients.weights import load_arrays, to_arrays
from server.app import ServerRecipe, server_app
from server.strategy import RoundRecord
from sim import transcript
from sim.data.federation import Federation, build_federation
from sim.engines import Engine
from sim.folder import RunFolder
from sim.progress import Progress
from sim.scenario import Scenario

GLOBAL = "global.safetensors"


@lru_cache(maxsize=2)
def federation_of(scenario: Scenario) -> Federation:
    """The scenario's federation, built once per process: it follows from the scenario and its seed alone."""
    return build_federation(scenario.data, scenario.population, scenario.seed)


def fresh_model(scenario: Scenario) -> nn.Module:
    """The model every party starts from: the architecture and the first weights are public."""
    return copy.deepcopy(_first_model(scenario))


@lru_cache(maxsize=1)
def _first_model(scenario: Scenario) -> nn.Module:
    federation = federation_of(scenario)
    draw = torch_generator(generator(scenario.seed, "initial weights"))
    return build_model(scenario.model, federation.clients[0].x.shape[1:], len(federation.classes), draw)


def stored_model(scenario: Scenario, file: Path) -> nn.Module:
    """A model of this run, read from its file."""
    model = fresh_model(scenario)
    model.load_state_dict(load_file(file))
    return model.eval()


def federate(scenario: Scenario, engine: Engine, folder: RunFolder, progress: Progress) -> None:
    """Run the federation and the personalisation; fills `transcript/` and `models/`."""
    torch.set_num_threads(1)

    def observe(record: RoundRecord) -> None:
        summary = transcript.append(folder.transcript, record)
        progress.step(f"accuracy {summary.accuracy:.3f}")

    def finish(arrays: ArrayRecord, _: dict[int, dict[str, float]]) -> None:
        model = fresh_model(scenario)
        load_arrays(model, arrays)
        save_file(model.state_dict(), folder.models / GLOBAL)
        progress.step("personalised")

    clients = len(federation_of(scenario).clients)
    server = server_app(
        ServerRecipe(
            seed=scenario.seed,
            clients=clients,
            plan=scenario.federation,
            initial=to_arrays(fresh_model(scenario)),
            observe=observe,
            finish=finish,
        )
    )
    engine(server, client_app(client_recipe(scenario, folder)), clients)


def client_recipe(scenario: Scenario, folder: RunFolder) -> ClientRecipe:
    """What each client needs, in parts small enough to send to a worker."""
    return ClientRecipe(
        seed=scenario.seed,
        load=_Load(scenario),
        build=_Build(scenario),
        training=scenario.training,
        personalization=scenario.personalization,
        keep=_Keep(folder),
    )


@dataclass(frozen=True, slots=True)
class _Load:
    """A client's own data: rebuilt from the scenario wherever the client runs, never sent."""

    scenario: Scenario

    def __call__(self, client: int) -> LocalData:
        data = federation_of(self.scenario).clients[client]
        return LocalData(data.members, data.held_out)


@dataclass(frozen=True, slots=True)
class _Build:
    scenario: Scenario

    def __call__(self) -> nn.Module:
        return fresh_model(self.scenario)


@dataclass(frozen=True, slots=True)
class _Keep:
    folder: RunFolder

    def __call__(self, client: int, model: nn.Module) -> None:
        save_file(model.state_dict(), self.folder.personal_model(client))
