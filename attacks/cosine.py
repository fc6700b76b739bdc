"""Cosine test of a curious server: does a client's update point where this record would have pushed it?"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float

from attacks.broadcast import MAX_ROUNDS, Parameters, evenly_spaced, gradients, parameters, resting
from attacks.observation import Guess, Observation, Records, ServerRound, VantageLacksError


def run(observation: Observation, rng: np.random.Generator, max_rounds: int = MAX_ROUNDS) -> Guess:  # noqa: ARG001
    """Score: mean over rounds of cos(g_x, U), g_x the record's gradient at the broadcast model in evaluation mode.

    Li et al. 2023 (arXiv 2202.12232); U is the broadcast weights minus the client's, so a member points the same way.
    At most `max_rounds` rounds, evenly spaced over those in which the client took part; a record whose gradient is
    zero scores 0 there. Unit: record. Vantage: a server that sees single updates. Raises VantageLacksError where it
    has none of this client.
    """
    client, architecture = observation.client, observation.architecture
    assert client is not None
    assert architecture is not None
    joined = [r for r in observation.rounds if client in r.updates]
    if not joined:
        raise VantageLacksError(
            f"attack 'cosine' needs updates of client {client}, vantage '{observation.vantage}' has no round with one"
        )
    both = observation.candidates.joined(observation.population)
    model = resting(architecture)
    scores = np.mean([_cosines(model, r, client, both) for r in evenly_spaced(joined, max_rounds)], axis=0)
    return Guess(scores[: len(observation.candidates)], scores[len(observation.candidates) :])


def _cosines(model: torch.nn.Module, seen: ServerRound, client: int, records: Records) -> Float[np.ndarray, " records"]:
    weights = parameters(model, seen.weights)
    update = parameters(model, seen.updates[client])
    return torch.cat([_cosine(chunk, update) for chunk in gradients(model, weights, records)]).double().numpy()


def _cosine(gradient: Parameters, update: Parameters) -> Float[torch.Tensor, " records"]:
    """Parameter by parameter: putting the gradients of many records into one matrix costs more than making them."""
    flat = {name: part.flatten(start_dim=1) for name, part in gradient.items()}
    dot = torch.stack([flat[name] @ part.flatten() for name, part in update.items()]).sum(dim=0)
    length = torch.stack([part.norm(dim=1) for part in flat.values()]).norm(dim=0)
    width = torch.stack([part.norm() for part in update.values()]).norm()
    cosine: torch.Tensor = dot / (length * width).clamp_min(torch.finfo(dot.dtype).tiny)
    return cosine
