"""Cosine test of a curious server: does a client's update point where this record would have pushed it?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import nn

from attacks.alignment import align
from attacks.broadcast import MAX_ROUNDS
from attacks.held import Column, Scores, Signal, mean_over_rounds, own
from attacks.observation import Guess, Observation, Records, ServerRound


def run(observation: Observation, rng: np.random.Generator, max_rounds: int = MAX_ROUNDS) -> Guess:
    """Score: mean over rounds of cos(g_x, U), g_x the record's gradient at the broadcast model in evaluation mode.

    Li et al. 2023 (arXiv 2202.12232); U is the broadcast weights minus the client's, so a member points the same way.
    A record whose gradient is zero scores 0 in that round. Unit: record. Vantage: a server that sees single updates.
    Rounds, clients without any, and errors as for `held.mean_over_rounds`.
    """
    return mean_over_rounds("cosine", observation, rng, cosines, max_rounds=max_rounds)


def calibrated(observation: Observation, rng: np.random.Generator, max_rounds: int = MAX_ROUNDS) -> Guess:
    """Score: mean over rounds of cos(g_x, U_c) - mean over the other clients j of cos(g_x, U_j).

    The other clients of the round are free references: what they share with the record (its class, an easy direction)
    is taken off. FedMIA II (Zhu et al. 2024, arXiv 2402.06289) without its standard deviation, which from a few clients
    is noise. Unit: record. Vantage: a server that sees single updates, two or more in a round. Otherwise as `run`.
    """
    return mean_over_rounds(
        "cosine-calibrated", observation, rng, cosines, over_others, others=1, max_rounds=max_rounds
    )


def cosines(model: nn.Module, seen: ServerRound, clients: Sequence[int], records: Records) -> Signal:
    """Cosine of each record's gradient at the broadcast model and each client's update."""
    return align(model, seen.weights, [seen.updates[client] for client in clients], records).cosine


def over_others(signal: Signal, column: Column) -> Scores:
    """The own client's signal above the mean of the others'."""
    mine = own(signal, column)
    return np.asarray(mine - (signal.sum(axis=1) - mine) / (signal.shape[1] - 1))
