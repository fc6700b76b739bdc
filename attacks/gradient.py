"""A curious server's tests on a record's gradient: how long it is, and how far an update goes along it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from torch import nn

from attacks.alignment import align
from attacks.broadcast import MAX_ROUNDS, evenly_spaced, resting
from attacks.held import Signal, mean_over_rounds
from attacks.observation import Guess, Observation, Records, ServerRound


def difference(
    observation: Observation,
    rng: np.random.Generator,
    max_rounds: int = MAX_ROUNDS,
    compat: Literal["reference_code"] | None = None,
) -> Guess:
    """Score: mean over rounds of <U, g_x> / |g_x|, g_x the record's gradient at the broadcast model.

    Li et al. 2023 (arXiv 2202.12232) compare |U|^2 with |U - g_x|^2; the difference is 2 <U, g_x> - |g_x|^2. An update
    is learning rate times a mean of many gradients, so as it stands the second term drowns the first and the test is
    one of the gradient's norm. The server knows neither factor; dividing by |g_x| does away with both terms' scale.
    `compat="reference_code"` gives the difference as it stands.

    Unit: record. Vantage: a server that sees single updates. Otherwise as `cosine.run`.
    """
    measure = _raw if compat == "reference_code" else _projections
    return mean_over_rounds("gradient-difference", observation, rng, measure, max_rounds=max_rounds)


def norm(observation: Observation, rng: np.random.Generator, max_rounds: int = MAX_ROUNDS) -> Guess:  # noqa: ARG001
    """Score: minus the mean over the broadcast models of log |g_x|; a model leaves little to learn from a member.

    The baseline of Nasr et al. 2019 (arXiv 1812.00910), and of `difference` where it degenerates. A gradient of zero
    counts as the smallest float32. Needs no update, so secure aggregation does not stop it. Unit: record. Vantage:
    whoever receives every global model. Rounds as for `loss_series.run`.
    """
    assert observation.architecture is not None
    both, model = observation.candidates.joined(observation.population), resting(observation.architecture)
    picked = evenly_spaced(observation.rounds, max_rounds)
    lengths = [align(model, seen.weights, [seen.mean], both).length for seen in picked]
    scores = -np.mean(np.log(np.maximum(lengths, np.finfo(np.float32).tiny)), axis=0)
    return Guess(scores[: len(observation.candidates)], scores[len(observation.candidates) :])


def _projections(model: nn.Module, seen: ServerRound, clients: Sequence[int], records: Records) -> Signal:
    return align(model, seen.weights, [seen.updates[client] for client in clients], records).projection


def _raw(model: nn.Module, seen: ServerRound, clients: Sequence[int], records: Records) -> Signal:
    aligned = align(model, seen.weights, [seen.updates[client] for client in clients], records)
    return np.asarray(2 * aligned.dot - aligned.length[:, None] ** 2)
