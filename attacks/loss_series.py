"""Loss series of a curious server: a record whose loss was low all along was likely trained on."""

from __future__ import annotations

import numpy as np

from attacks import signals
from attacks.broadcast import MAX_ROUNDS, answers, evenly_spaced, parameters, resting
from attacks.observation import Guess, Observation


def run(observation: Observation, rng: np.random.Generator, max_rounds: int = MAX_ROUNDS) -> Guess:  # noqa: ARG001
    """Score: minus the mean loss over the broadcast models, at most `max_rounds` evenly spaced and the last of them.

    After Zari et al. 2021 (arXiv 2111.00430), without their attack network. Needs no single update, so secure
    aggregation does not stop it. Unit: record. Vantage: whoever receives every global model.
    """
    assert observation.architecture is not None
    both = observation.candidates.joined(observation.population)
    model = resting(observation.architecture)
    losses = [
        signals.loss(answers(model, parameters(model, r.weights), both.x), both.y)
        for r in evenly_spaced(observation.rounds, max_rounds)
    ]
    scores = -np.mean(losses, axis=0)
    return Guess(scores[: len(observation.candidates)], scores[len(observation.candidates) :])
