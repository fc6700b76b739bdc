"""Cosine test of a curious server: does a client's update point where this record would have pushed it?"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import torch
from jaxtyping import Float, Int

from attacks.broadcast import MAX_ROUNDS, Parameters, evenly_spaced, gradients, parameters, resting
from attacks.observation import Guess, Observation, Records, ServerRound, VantageLacksError

Owners = Int[np.ndarray, " records"]


def run(observation: Observation, rng: np.random.Generator, max_rounds: int = MAX_ROUNDS) -> Guess:
    """Score: mean over rounds of cos(g_x, U), g_x the record's gradient at the broadcast model in evaluation mode.

    Li et al. 2023 (arXiv 2202.12232); U is the broadcast weights minus the client's, so a member points the same way.
    At most `max_rounds` rounds per client, evenly spaced over those in which it took part; a record whose gradient is
    zero scores 0 there. Records of a client that was never sampled score 0 too: no update, no signal. Each population
    record is held against the updates of one client drawn by `rng`: that is a non-member of that client. Unit: record.
    Vantage: a server that sees single updates. Raises VantageLacksError where it has none of any client asked about.
    """
    assert observation.client is not None
    assert observation.architecture is not None
    joined = _took_part(observation)
    owners = np.concatenate([observation.client, rng.choice(sorted(joined), len(observation.population))])
    both, model = observation.candidates.joined(observation.population), resting(observation.architecture)
    total, rounds = np.zeros(len(both)), np.zeros(len(both))
    for position, picked in _plan(joined, max_rounds).items():
        rows = np.flatnonzero(np.isin(owners, picked))
        total[rows] += _cosines(model, observation.rounds[position], owners[rows], both[rows])
        rounds[rows] += 1
    scores = np.divide(total, rounds, out=np.zeros(len(both)), where=rounds > 0)
    return Guess(scores[: len(observation.candidates)], scores[len(observation.candidates) :])


def _took_part(observation: Observation) -> dict[int, list[int]]:
    """Client -> positions of the rounds it was sampled in; only clients asked about that were sampled at all."""
    assert observation.client is not None
    asked, joined = set(np.unique(observation.client).tolist()), defaultdict(list)
    for position, seen in enumerate(observation.rounds):
        for client in asked & seen.updates.keys():
            joined[client].append(position)
    if not joined:
        raise VantageLacksError(
            f"attack 'cosine' needs updates of the candidates' clients, vantage '{observation.vantage}' has none: "
            f"{', '.join(map(str, sorted(asked)))} never took part. Leave 'cosine' out, or train for more rounds"
        )
    return joined


def _plan(joined: dict[int, list[int]], max_rounds: int) -> dict[int, list[int]]:
    """Which clients are looked at in which round: round position -> clients."""
    plan: dict[int, list[int]] = defaultdict(list)
    for client in sorted(joined):
        for position in evenly_spaced(joined[client], max_rounds):
            plan[position].append(client)
    return plan


def _cosines(
    model: torch.nn.Module, seen: ServerRound, owners: Owners, records: Records
) -> Float[np.ndarray, " records"]:
    weights = parameters(model, seen.weights)
    clients, column = np.unique(owners, return_inverse=True)
    each = [parameters(model, seen.updates[int(client)]) for client in clients]
    updates = {name: torch.stack([update[name].flatten() for update in each], dim=1) for name in weights}
    cosines = torch.cat([_against_all(chunk, updates) for chunk in gradients(model, weights, records)])
    return cosines.double().numpy()[np.arange(len(records)), column]


def _against_all(gradient: Parameters, updates: Parameters) -> Float[torch.Tensor, "records clients"]:
    """Parameter by parameter: putting the gradients of many records into one matrix costs more than making them."""
    flat = {name: part.flatten(start_dim=1) for name, part in gradient.items()}
    dot = torch.stack([flat[name] @ part for name, part in updates.items()]).sum(dim=0)
    length = torch.stack([part.norm(dim=1) for part in flat.values()]).norm(dim=0)
    width = torch.stack([part.norm(dim=0) for part in updates.values()]).norm(dim=0)
    cosine: torch.Tensor = dot / torch.outer(length, width).clamp_min(torch.finfo(dot.dtype).tiny)
    return cosine
