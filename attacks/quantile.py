"""How sure should the target be of a record like this? Learnt from the attacker's own records, without references."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from attacks import signals
from attacks.observation import Guess, Observation, Records, VantageLacksError

FEWEST, MOST = 20, 2_000  # own records to learn from: with fewer there is nothing to learn, more take minutes
RECORDS_PER_FREEDOM = 3  # own records, at least, for each effective degree of freedom of a regression
PENALTIES = np.logspace(-3, 3, 13)
_RECORDS = 4096  # at a time
_LEAST = 1e-12

Values = Float[np.ndarray, " records"]
Kernel = Float[np.ndarray, "records learnt"]


def run(observation: Observation, rng: np.random.Generator) -> Guess:
    """Score (phi - mu(x, y)) / sigma(x, y), mu and sigma learnt on the attacker's own records. Unit: record.

    Bertran et al. 2023 (arXiv 2307.03694), Gaussian form: one fit gives the quantiles for all false-alarm rates,
    where a pinball fit for 1 % would rest on the handful of own records above it. mu and log sigma are kernel ridge
    regressions, because those are deterministic and give every record's prediction *without itself* in closed form:
    so own records score like non-members that the regression never saw. They are kept coarse (`ridge`): one as fine
    as predicts own records best follows the target's own answers into the neighbourhood of its members. Learns from
    2,000 own records at most, drawn by `rng`. Needs 20, else VantageLacksError. Vantage: whoever can query the
    model, and has records of its own.
    """
    oracle, own = observation.oracle, observation.population
    assert oracle is not None
    if len(own) < FEWEST:
        raise VantageLacksError(
            f"attack 'quantile' needs {FEWEST} records of the attacker's own, vantage '{observation.vantage}' has "
            f"{len(own)}"
        )
    both = observation.candidates.joined(own)
    phi = signals.scaled_confidence(oracle(both.x), both.y, oracle.output, oracle.resolution)
    learnt = np.sort(rng.permutation(len(own))[:MOST]) + len(observation.candidates)
    mean, deviation = conditional(both, phi, learnt)
    scores = (phi - mean) / deviation
    candidates = len(observation.candidates)
    return Guess(scores[:candidates], scores[candidates:])


def conditional(records: Records, phi: Values, learnt: Int[np.ndarray, " learnt"]) -> tuple[Values, Values]:
    """Mean and spread of phi to expect for each record, from the records numbered `learnt` other than itself.

    The spread is sigma up to a factor that is the same for all records.
    """
    x = _scaled(records.x, learnt)
    inside = kernel(x[learnt], records.y[learnt], x[learnt], records.y[learnt])
    decomposed = np.linalg.eigh(inside)
    weights, expected = ridge(*decomposed, phi[learnt])
    residual = np.abs(phi[learnt] - expected)
    log_weights, log_expected = ridge(*decomposed, np.log(residual + 1e-3 * residual.mean() + _LEAST))
    mean, log_spread = np.empty((2, len(records)))
    for start in range(0, len(records), _RECORDS):
        part = slice(start, start + _RECORDS)
        towards = kernel(x[part], records.y[part], x[learnt], records.y[learnt])
        mean[part], log_spread[part] = towards @ weights, towards @ log_weights
    mean[learnt], log_spread[learnt] = expected, log_expected
    return mean, np.exp(log_spread)


def ridge(values: Values, vectors: Kernel, target: Values) -> tuple[Values, Values]:
    """Kernel ridge regression: weights of the learnt records, and what each is predicted to be from the others.

    `values` and `vectors` are the eigenvalues and eigenvectors of the kernel between the learnt records. The penalty is
    the one of 13 with the least mean squared error of those predictions, among those that leave three records for each
    effective degree of freedom (Hastie and Tibshirani 1990, section 3.5). Error alone would choose a regression that
    knows what the model makes of records close by, and with it what members made of the model: on digits learnt by
    heart it errs 84 % less than one number for all, and tells members at an AUC of .65; this one, and phi alone, .75.
    """
    projected, squared = vectors.T @ target, vectors**2
    best = (np.inf, target, target)
    for penalty in PENALTIES:
        shrunk = 1 / (np.maximum(values, 0.0) + penalty)
        if np.maximum(values, 0.0) @ shrunk > len(target) / RECORDS_PER_FREEDOM:
            continue
        weights = vectors @ (shrunk * projected)
        error = weights / (squared @ shrunk)
        if (loss := float(error @ error)) < best[0]:
            best = (loss, weights, target - error)
    return best[1], best[2]


def kernel(
    x: Float[np.ndarray, "records features"],
    y: Int[np.ndarray, " records"],
    other_x: Float[np.ndarray, "learnt features"],
    other_y: Int[np.ndarray, " learnt"],
) -> Kernel:
    """1 + [same class] * (1 + exp(-distance^2 / 2)): a level for all, one per class, and a curve within the class."""
    distance = (x**2).sum(axis=1)[:, None] + (other_x**2).sum(axis=1) - 2 * x @ other_x.T
    return np.asarray(1 + (y[:, None] == other_y) * (1 + np.exp(-np.maximum(distance, 0.0) / 2)))


def _scaled(x: Float[np.ndarray, "records ..."], learnt: Int[np.ndarray, " learnt"]) -> Float[np.ndarray, "r f"]:
    """Flat, centred, with a mean squared length of one: unrelated records are about sqrt(2) apart."""
    flat = x.reshape(len(x), -1).astype(np.float64)
    flat -= flat[learnt].mean(axis=0)
    length = np.sqrt((flat[learnt] ** 2).sum(axis=1).mean())
    return np.asarray(flat / (length or 1.0))
