"""A model and its compressed self, asked together: `oracle` is the original, `before` the quantised one.

CompLeak (arXiv 2507.16872): to whoever sees both, the compressed model is a reference to the original. The paper
teaches a classifier on both answers of shadow models; these scores need none. Unit: record. Vantage: whoever can query
both models.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from attacks import signals
from attacks.errors import errors_before, target_errors
from attacks.observation import Guess, Observation, Oracle

Values = Float[np.ndarray, " records"]


def joint(observation: Observation, rng: np.random.Generator) -> Guess:  # noqa: ARG001 (nothing is random here)
    """Score: minus the sum of both losses: rounding to few levels ties records that the other model tells apart."""
    original, compressed = _losses(observation)
    return _guess(observation, -(original + compressed))


def difference(observation: Observation, rng: np.random.Generator) -> Guess:  # noqa: ARG001
    """Score: loss of the compressed model less that of the original: what compressing forgot was learnt by heart."""
    original, compressed = _losses(observation)
    return _guess(observation, compressed - original)


def ratio(observation: Observation, rng: np.random.Generator) -> Guess:  # noqa: ARG001
    """Score: log of the compressed model's loss over the original's; a loss of 0 counts as 1e-300."""
    original, compressed = (np.log(np.maximum(loss, 1e-300)) for loss in _losses(observation))
    return _guess(observation, compressed - original)


def error_joint(observation: Observation, rng: np.random.Generator) -> Guess:  # noqa: ARG001
    """`joint` for models that answer with numbers: minus the sum of both log errors."""
    return _guess(observation, -(target_errors(observation) + errors_before(observation)))


def error_ratio(observation: Observation, rng: np.random.Generator) -> Guess:  # noqa: ARG001
    """`ratio` for models that answer with numbers: log of the compressed model's error over the original's."""
    return _guess(observation, errors_before(observation) - target_errors(observation))


def _losses(observation: Observation) -> tuple[Values, Values]:
    """Of the original and of the compressed model; the candidates, then the population."""
    both = observation.candidates.joined(observation.population)

    def losses(model: Oracle | None) -> Values:
        assert model is not None
        return signals.loss(model(both.x), both.y, model.output, model.resolution)

    return losses(observation.oracle), losses(observation.before)


def _guess(observation: Observation, scores: Values) -> Guess:
    return Guess(scores[: len(observation.candidates)], scores[len(observation.candidates) :])
