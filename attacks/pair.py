"""What personalising did to a record: the personal model's answers beside those of the global model it came from.

Jagielski et al. 2023 (arXiv 2205.06369): a record that an update trained on changes more than others do. Unit: record.
Vantage: whoever can query both models. A global model that trained on the record itself hides the change, so these
attacks find people who only fine-tuned a finished model more easily than those who helped to train it.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from attacks import signals
from attacks.observation import Guess, Observation, Oracle
from attacks.thresholds import tails

Values = Float[np.ndarray, " records"]


def difference(observation: Observation, rng: np.random.Generator) -> Guess:  # noqa: ARG001 (nothing is random here)
    """Score: loss at the global model minus loss at the personal model, the fall that personalising brought.

    Difficulty calibration (Watson et al. 2022, arXiv 2111.08440) with the global model as the one reference.
    """
    before, after = _losses(observation)
    return _guess(observation, before - after)


def ratio(observation: Observation, rng: np.random.Generator) -> Guess:  # noqa: ARG001
    """Score: log of the loss at the global model over the loss at the personal model; a loss of 0 counts as 1e-300."""
    before, after = (np.log(np.maximum(loss, 1e-300)) for loss in _losses(observation))
    return _guess(observation, before - after)


def back_front(observation: Observation, rng: np.random.Generator) -> Guess:  # noqa: ARG001
    """Score: how unlike the attacker's own records a record is, by both models at once.

    The smaller of two -log tails among the population: of a low loss at the personal model (front), and of a high loss
    at the global model (back). One score for what the paper does with two thresholds.
    """
    front, back = (_surprise(observation, loss) for loss in _minus(*_losses(observation)))
    return _guess(observation, np.minimum(front, back))


def _minus(before: Values, after: Values) -> tuple[Values, Values]:
    return -after, before


def _surprise(observation: Observation, values: Values) -> Values:
    """-log of each record's upper tail among the population."""
    candidates = len(observation.candidates)
    return np.asarray(-np.log(np.concatenate(tails(values[:candidates], values[candidates:]))))


def _losses(observation: Observation) -> tuple[Values, Values]:
    """Loss before and after personalising, of the candidates and then of the population."""
    assert observation.before is not None
    assert observation.oracle is not None
    both = observation.candidates.joined(observation.population)

    def losses(model: Oracle) -> Values:
        return signals.loss(model(both.x), both.y, model.output, model.resolution)

    return losses(observation.before), losses(observation.oracle)


def _guess(observation: Observation, scores: Values) -> Guess:
    return Guess(scores[: len(observation.candidates)], scores[len(observation.candidates) :])
