"""Models that answer with numbers, not classes: a record that is reproduced or predicted well was likely trained on.

The observation's `y` are the targets, float of shape (records, numbers): for an autoencoder the records themselves, for
a regressor what it should say. What an easy record is, references tell, as for classifiers.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from attacks.bavaria import predictive
from attacks.observation import Guess, Observation, Oracle
from attacks.references import left_out, mean_left_out, same_tail, wider

Values = Float[np.ndarray, " records"]
Numbers = Float[np.ndarray, "records numbers"]

ROUNDING_VARIANCE = 1 / 12  # of a number rounded to whole steps, in squared steps
BAVARIA_FREEDOM = 4.0  # degrees of freedom of the prior: 2 alpha in `attacks.bavaria`


def log_error(answers: Numbers, targets: Numbers, resolution: float = 0.0) -> Values:
    """Logarithm of each record's mean squared error, with what rounding answers to `resolution` puts in added.

    An exact answer in floating point counts as the smallest normal number. Raises ValueError where shapes differ.
    """
    if answers.shape != targets.shape:
        raise ValueError(f"answers of shape {answers.shape} for targets of shape {targets.shape}: the same, please")
    floor = resolution**2 * ROUNDING_VARIANCE or float(np.finfo(np.float64).tiny)
    squared = (answers.astype(np.float64) - targets) ** 2
    return np.asarray(np.log(squared.mean(axis=1) + floor))


def error(observation: Observation, rng: np.random.Generator) -> Guess:  # noqa: ARG001 (nothing is random here)
    """Score: minus the log error, the loss threshold (Yeom et al. 2018, arXiv 1709.01604) for any loss.

    One query per record; unit: record. Vantage: whoever can query the model and knows what it should answer.
    """
    return _guess(observation, -target_errors(observation))


def relative(observation: Observation, rng: np.random.Generator) -> Guess:  # noqa: ARG001
    """Score: minus the log of the error over the target's own variance: what a plain record makes easy is taken off.

    A calibration without references, for targets of several numbers; the baseline answers the target's mean.
    """
    oracle, both = observation.oracle, observation.candidates.joined(observation.population)
    assert oracle is not None
    level = np.repeat(both.y.mean(axis=1, keepdims=True), both.y.shape[1], axis=1)
    return _guess(observation, log_error(level, both.y, oracle.resolution) - target_errors(observation))


def calibrated(observation: Observation, rng: np.random.Generator) -> Guess:  # noqa: ARG001
    """Score: mean log error of the references that left the record out, minus the target's. Unit: record.

    Difficulty calibration (Watson et al. 2022, arXiv 2111.08440, equation 4). Own records have fewer such references
    and spread wider by chance: their scores are scaled back. Vantage: as `error`, with references.
    """
    own, others, out = _answered(observation)
    mean, count = mean_left_out(others, out)
    return _guess(observation, (mean - own) * wider(np.array(len(others))) / wider(count))


def likelihood(observation: Observation, rng: np.random.Generator) -> Guess:  # noqa: ARG001
    """Score: how far minus the log error is above what the references predict for a non-member. Unit: record.

    LiRA (Carlini et al. 2022, arXiv 2112.03570), offline and one-sided, with the Bayesian variance of `attacks.bavaria`
    and minus the log error in the place of the scaled confidence. Vantage: as `error`, with references.
    """
    own, others, out = _answered(observation)
    t, freedom = predictive(-own, -others, out)
    return _guess(observation, same_tail(t, freedom, BAVARIA_FREEDOM + len(others)))


def target_errors(observation: Observation) -> Values:
    """Log errors of the model's answers about the candidates, and then the population."""
    assert observation.oracle is not None
    return _errors(observation, observation.oracle)


def errors_before(observation: Observation) -> Values:
    """The same of the other model of a pair."""
    assert observation.before is not None
    return _errors(observation, observation.before)


def _errors(observation: Observation, model: Oracle) -> Values:
    both = observation.candidates.joined(observation.population)
    return log_error(model(both.x), both.y, model.resolution)


def _answered(
    observation: Observation,
) -> tuple[Values, Float[np.ndarray, "references records"], Bool[np.ndarray, "references records"]]:
    oracle, both = observation.oracle, observation.candidates.joined(observation.population)
    assert oracle is not None
    others = [log_error(r.predict(both.x), both.y, oracle.resolution) for r in observation.references]
    return target_errors(observation), np.stack(others), left_out(observation)


def _guess(observation: Observation, scores: Values) -> Guess:
    return Guess(scores[: len(observation.candidates)], scores[len(observation.candidates) :])
