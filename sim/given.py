"""What follows from the scenario alone: the federation with its coins, and the model that everybody starts from."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from safetensors.torch import load_file
from torch import nn

from clients.models import build_model
from clients.randomness import generator, torch_generator
from sim.data.federation import Federation, build_federation
from sim.data.scaling import standardised, uneven
from sim.manifest import data_hash
from sim.scenario import Scenario


@lru_cache(maxsize=2)
def federation_of(scenario: Scenario) -> Federation:
    """The scenario's federation, built once per process: it follows from the scenario and its seed alone."""
    return read_now(scenario)


def read_now(scenario: Scenario) -> Federation:
    """The scenario's federation, from its data as they lie there at this moment."""
    federation = build_federation(scenario.data, scenario.population, scenario.seed)
    if scenario.data.standardise:
        return standardised(federation)
    warning = uneven(federation)
    return replace(federation, notes=(*federation.notes, warning)) if warning else federation


@lru_cache(maxsize=8)
def data_hash_of(scenario: Scenario) -> str:
    """SHA-256 of the scenario's federation: records as loaded, whose they are, and the coins."""
    return data_hash(federation_of(scenario))


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
