"""Loss series of a curious server: a record whose loss was low all along, or fell fast, was likely trained on."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from attacks import signals
from attacks.broadcast import MAX_ROUNDS, answers, evenly_spaced, parameters, resting
from attacks.observation import Guess, Observation


def run(observation: Observation, rng: np.random.Generator, max_rounds: int = MAX_ROUNDS) -> Guess:  # noqa: ARG001
    """Score: minus the mean loss over the broadcast models, at most `max_rounds` evenly spaced and the last of them.

    After Zari et al. 2021 (arXiv 2111.00430), without their attack network. Needs no single update, so secure
    aggregation does not stop it. Unit: record. Vantage: whoever receives every global model.
    """
    return _guess(observation, -_series(observation, max_rounds).mean(axis=0))


def slope(observation: Observation, rng: np.random.Generator, max_rounds: int = MAX_ROUNDS) -> Guess:  # noqa: ARG001
    """Score: how fast the loss fell, minus the least-squares slope of the broadcast models' losses over the rounds.

    The simplest use of the shape of the series, after Zari et al. 2021 (arXiv 2111.00430): what was easy from the start
    is taken off. All score 0 where there is one round only. Rounds, unit and vantage as for `run`.
    """
    series = _series(observation, max_rounds)
    number = np.array([seen.number for seen in evenly_spaced(observation.rounds, max_rounds)], dtype=np.float64)
    centred = number - number.mean()
    return _guess(observation, -(centred @ series) / max((centred**2).sum(), 1.0))


def _series(observation: Observation, max_rounds: int) -> Float[np.ndarray, "rounds records"]:
    assert observation.architecture is not None
    both = observation.candidates.joined(observation.population)
    model = resting(observation.architecture)
    return np.stack(
        [
            signals.loss(answers(model, parameters(model, r.weights), both.x), both.y)
            for r in evenly_spaced(observation.rounds, max_rounds)
        ]
    )


def _guess(observation: Observation, scores: Float[np.ndarray, " records"]) -> Guess:
    return Guess(scores[: len(observation.candidates)], scores[len(observation.candidates) :])
