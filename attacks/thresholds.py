"""Thresholds on one answer of the target: no reference models, one query per record."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int
from scipy.special import expit

from attacks import signals
from attacks.observation import Guess, Observation

ALPHA = 0.01  # the false-positive rate that a class's own threshold is meant for
_RECORDS_PER_ALARM = 20  # a class with fewer than 20 / alpha records leans on the others

Values = Float[np.ndarray, " records"]
Labels = Int[np.ndarray, " records"]


def confidence(observation: Observation, rng: np.random.Generator) -> Guess:  # noqa: ARG001 (nothing is random here)
    """Score: the largest probability, as log-odds (Salem et al. 2019, arXiv 1806.01246, adversary 3). Unit: record.

    The label plays no part. Vantage: whoever can query the model.
    """
    return _guess(observation, _signal(observation, signals.top_confidence))


def entropy(observation: Observation, rng: np.random.Generator) -> Guess:  # noqa: ARG001
    """Score: minus the entropy of the answer (Salem et al. 2019, arXiv 1806.01246, adversary 3). Unit: record.

    The label plays no part. Vantage: whoever can query the model.
    """
    return _guess(observation, -_signal(observation, signals.entropy))


def modified_entropy(observation: Observation, rng: np.random.Generator) -> Guess:  # noqa: ARG001
    """Score: minus the modified entropy (Song and Mittal 2021, arXiv 2003.10595, equation 8). Unit: record.

    Vantage: whoever can query the model.
    """
    return _guess(observation, -_signal(observation, signals.modified_entropy))


def gap(observation: Observation, rng: np.random.Generator) -> Guess:  # noqa: ARG001
    """Score: whether the model's answer is the true label (Yeom et al. 2018, arXiv 1709.01604). Unit: record.

    Where the label shares the first place, its share of it. Vantage: whoever can query the model, for labels too.
    """
    return _guess(observation, _signal(observation, lambda answers, labels, *_: signals.correctness(answers, labels)))


def loss_per_class(observation: Observation, rng: np.random.Generator, alpha: float = ALPHA) -> Guess:  # noqa: ARG001
    """Score: -log of the share of the attacker's own records, of the same class, that have a lower loss. Unit: record.

    A threshold per class (Song and Mittal 2021, arXiv 2003.10595, section 3), as one score that compares across
    classes: the tail of the population's distribution. See `per_class`. Vantage: whoever can query the model.
    """
    phi = _signal(observation, signals.scaled_confidence)  # orders records as the loss does
    candidates = len(observation.candidates)
    x, z = phi[:candidates], phi[candidates:]
    return Guess(*per_class(x, observation.candidates.y, z, observation.population.y, alpha))


def per_class(x: Values, x_labels: Labels, z: Values, z_labels: Labels, alpha: float = ALPHA) -> tuple[Values, Values]:
    """-log of each record's tail among the z of its own class; x are the candidates, z the attacker's own records.

    A class with n < 20 / alpha records says little about its tail: it is mixed with the tail among all z, with weight
    min(1, n * alpha / 20) for its own.
    """
    x_tail, z_tail = tails(x, z)
    for label in np.unique(np.concatenate([x_labels, z_labels])):
        of_x, of_z = x_labels == label, z_labels == label
        weight = min(1.0, of_z.sum() * alpha / _RECORDS_PER_ALARM)
        own_x, own_z = tails(x[of_x], z[of_z])
        x_tail[of_x] = weight * own_x + (1 - weight) * x_tail[of_x]
        z_tail[of_z] = weight * own_z + (1 - weight) * z_tail[of_z]
    return -np.log(x_tail), -np.log(z_tail)


def tails(x: Values, z: Values) -> tuple[Values, Values]:
    """(number of z above + 1/(1 + e^x)) / (number of z + 1), for each x and for each z, that equals stay equal.

    The second term, between 0 and 1, orders records that the same z are above: of the surest ones no z is.
    """
    ordered = np.sort(z)

    def above(values: Values) -> Values:
        return np.asarray(len(z) - np.searchsorted(ordered, values, side="right") + _small(values), dtype=np.float64)

    return above(x) / (len(z) + 1), above(z) / (len(z) + 1)


def _small(values: Values) -> Values:
    return np.asarray(np.maximum(expit(-values), np.finfo(np.float64).tiny))


def _signal(observation: Observation, signal: Callable[..., Values]) -> Values:
    oracle = observation.oracle
    assert oracle is not None
    both = observation.candidates.joined(observation.population)
    return signal(oracle(both.x), both.y, oracle.output, oracle.resolution)


def _guess(observation: Observation, scores: Values) -> Guess:
    candidates = len(observation.candidates)
    return Guess(scores[:candidates], scores[candidates:])
