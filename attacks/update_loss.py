"""Losses of records at the models that single clients sent back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import nn

from attacks import signals
from attacks.broadcast import MAX_ROUNDS, answers, parameters
from attacks.held import Signal, mean_over_rounds
from attacks.observation import Guess, Observation, Records, ServerRound


def run(observation: Observation, rng: np.random.Generator, max_rounds: int = MAX_ROUNDS) -> Guess:
    """Score: mean over rounds of how much the client's local training lowered the record's loss.

    l(x; w) - l(x; w - U), w the broadcast weights: difficulty calibration (Watson et al. 2022, arXiv 2111.08440) with
    the broadcast model as the one reference. Unit: record. Vantage: a server that sees single updates. Rounds, clients
    without any, and errors as for `held.mean_over_rounds`.
    """
    return mean_over_rounds("update-loss", observation, rng, _drops, max_rounds=max_rounds)


def minus_losses(model: nn.Module, seen: ServerRound, clients: Sequence[int], records: Records) -> Signal:
    """Minus each record's loss at each client's model, broadcast weights minus its update."""
    sent_back = [seen.weights - seen.updates[client] for client in clients]
    return np.stack([-_losses(model, weights, records) for weights in sent_back], axis=1)


def _drops(model: nn.Module, seen: ServerRound, clients: Sequence[int], records: Records) -> Signal:
    before = _losses(model, seen.weights, records)
    return np.asarray(before[:, None] + minus_losses(model, seen, clients, records))


def _losses(model: nn.Module, weights: np.ndarray, records: Records) -> np.ndarray:
    return signals.loss(answers(model, parameters(model, weights), records.x), records.y)
