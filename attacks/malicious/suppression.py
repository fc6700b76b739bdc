"""Gradient suppression: all clients but one get a model that cannot learn, and the sum is the one's update.

Pasquini et al. 2022 (arXiv 2111.07380). It needs clients that do not compare what they were sent: under our own secure
aggregation they sign it, and no such sum is unmasked.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import nn

from attacks.broadcast import evenly_spaced, parameters, resting
from attacks.cosine import cosines
from attacks.held import mean_over_rounds
from attacks.malicious.layers import after, last_hidden, to_vector
from attacks.malicious.targets import probes_of
from attacks.observation import Guess, Observation, Probe, ServerRound, VantageLacksError

NAME = "gradient-suppression"
DEAD = -1.0  # the bias of a unit that has no weights: it never passes its ReLU, whatever the record
Vector = Float[np.ndarray, " params"]


def craft(model: nn.Module, weights: Vector) -> Vector:
    """The weights w with the units before the last ReLU dead: no record has a gradient, but for the biases behind them.

    Pasquini et al. 2022 (arXiv 2111.07380), section 4. They push biases far below zero; without weights a small one
    does, for every record. A client that decays its weights still sends that decay.

    Raises:
        VantageLacksError: the model has no such layer.
    """
    still, layer = resting(model), _hidden(model)
    dead = dict(parameters(still, weights))
    dead[f"{layer}.weight"] = torch.zeros_like(dead[f"{layer}.weight"])
    dead[f"{layer}.bias"] = torch.full_like(dead[f"{layer}.bias"], DEAD)
    return to_vector(dead)


def victims(clients: list[int], most: int) -> list[int]:
    """Whom the server isolates, one in each round: evenly spaced."""
    return sorted(evenly_spaced(sorted(clients), most))


def isolated(model: nn.Module, probe: Probe) -> tuple[int, Vector]:
    """The client that got the true weights, and its update as the mean shows it: times its share of the weight.

    Biases behind the dead layer move at every client, so their sum tells nothing of one: they are zero here.
    """
    victim = next(c for c, sent in sorted(probe.sent.items()) if np.array_equal(sent, probe.weights))
    assert probe.mean is not None
    return victim, np.where(_hers_alone(model), probe.mean, 0.0).astype(np.float32)


def run(observation: Observation, rng: np.random.Generator) -> Guess:
    """Score: cos(g_x, U), as `attacks.cosine`, U being what is left of the sum when all others are silent.

    Unit: record. Vantage: a server that deviates and sees the secure sum only. Records of clients that were not
    isolated score 0. Pasquini et al. 2022 (arXiv 2111.07380); Li et al. 2023 (arXiv 2202.12232) for the test.
    """
    assert observation.architecture is not None
    model, rounds = observation.architecture, []
    for number, probe in enumerate(probes_of(NAME, observation)):
        victim, update = isolated(model, probe)
        if victim in probe.clients:
            rounds.append(ServerRound(number, probe.weights, (victim,), update, {victim: update}))
    return mean_over_rounds(NAME, replace(observation, rounds=rounds), rng, cosines)


def covered(observation: Observation) -> Bool[np.ndarray, " candidates"]:
    """Which candidates are of clients that were isolated, and answered."""
    assert observation.architecture is not None
    assert observation.client is not None
    model, probes = observation.architecture, probes_of(NAME, observation)
    alone = [victim for probe in probes if (victim := isolated(model, probe)[0]) in probe.clients]
    return np.isin(observation.client, alone)


def _hidden(model: nn.Module) -> str:
    layer = last_hidden(model)
    if layer is None:
        raise VantageLacksError(
            f"attack '{NAME}' needs a layer with a bias that goes through a ReLU, the model has none"
        )
    return layer


def _hers_alone(model: nn.Module) -> Bool[np.ndarray, " params"]:
    """Which of the parameters cannot move at a client whose hidden units are dead."""
    biases = {f"{name}.bias" for name in after(model, _hidden(model))}
    parts = [np.full(p.numel(), name not in biases) for name, p in model.named_parameters()]
    return np.concatenate(parts)
