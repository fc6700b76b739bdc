"""Bayesian variance: a likelihood-ratio attack for few references, between one deviation for all and one for each."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from attacks import signals
from attacks.lira import pooled_deviation
from attacks.observation import Guess, Observation
from attacks.references import answered, left_out, mean_left_out, same_tail

# Prior: the mean counts as much as one reference, the deviation as much as four.
KAPPA, ALPHA = 1.0, 2.0

Values = Float[np.ndarray, " records"]


def run(observation: Observation, rng: np.random.Generator) -> Guess:  # noqa: ARG001 (nothing is random here)
    """Score: how far phi is above the Student t that the references predict for a non-member. Unit: record.

    After Brännvall 2026 (arXiv 2603.11799), the t form, offline and one-sided; the prior is ours (`predictive`). The
    score is the t itself, which orders records as its distribution function does and does not run into ties at 1. A
    population record has fewer references that left it out (NaN where none): its t is given the candidates' degrees of
    freedom at the same tail probability. Vantage: whoever can query the model and train references with its recipe.
    """
    phi, reference_phi = answered(observation, signals.scaled_confidence)
    t, freedom = predictive(phi, reference_phi, left_out(observation))
    scores = same_tail(t, freedom, 2 * ALPHA + len(reference_phi))
    candidates = len(observation.candidates)
    return Guess(scores[:candidates], scores[candidates:])


def predictive(
    phi: Values,
    reference_phi: Float[np.ndarray, "references records"],
    out: Bool[np.ndarray, "references records"],
) -> tuple[Values, Values]:
    """Student's t of each record's phi under the posterior predictive, and its degrees of freedom, 2 alpha + n.

    Normal-inverse-gamma prior for a record's mean and variance: mean that of all references and records, with weight
    kappa = 1; variance the pooled one, with alpha = 2 and beta = alpha * variance. n references in `out` update it.
    """
    mean, n = mean_left_out(reference_phi, out)
    prior_mean = reference_phi[out].mean() if out.any() else 0.0
    squares = np.where(out, (reference_phi - mean) ** 2, 0.0).sum(axis=0)
    kappa, alpha = KAPPA + n, ALPHA + n / 2
    centre = (KAPPA * prior_mean + n * mean) / kappa
    beta = ALPHA * pooled_deviation(reference_phi, out) ** 2
    beta = beta + squares / 2 + KAPPA * n * (mean - prior_mean) ** 2 / (2 * kappa)
    return np.asarray((phi - centre) / np.sqrt(beta * (kappa + 1) / (alpha * kappa))), np.asarray(2 * alpha)
