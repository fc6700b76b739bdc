"""Likelihood-ratio attack, offline: is the target surer of a record than models that never saw it?"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from attacks import signals
from attacks.observation import Guess, Observation, VantageLacksError
from attacks.references import answered, left_out, mean_left_out, same_tail, wider


def run(observation: Observation, rng: np.random.Generator) -> Guess:  # noqa: ARG001 (nothing is random here)
    """Score z = (phi - mu_out) / sigma, one-sided, one sigma for all records. Unit: record.

    Carlini et al. 2022 (arXiv 2112.03570), section VI-A, test by Phi(z): only an unusually *high* confidence speaks
    for membership. The score is z itself, which orders records as Phi(z) does but does not run into ties at 1.
    Population records are scored with the references that did not train on them (NaN where all did). They have fewer
    of those, so their z spreads wider by chance alone: it is scaled back to the spread of a non-member candidate,
    sqrt(1 + 1/references), that the attacker's own threshold may hold for candidates.

    Vantage: whoever can query the model and train references with its recipe.
    """
    phi, reference_phi = answered(observation, signals.scaled_confidence)
    z, count = one_sided(phi, reference_phi, left_out(observation))
    scale = wider(np.array(len(reference_phi))) / wider(count)
    candidates = len(observation.candidates)
    return Guess(z[:candidates], (z * scale)[candidates:])


def run_per_record(observation: Observation, rng: np.random.Generator) -> Guess:  # noqa: ARG001
    """Score z = (phi - mu_out) / sigma_out, one-sided, each record with a deviation of its own. Unit: record.

    Carlini et al. 2022 (arXiv 2112.03570), algorithm 1 and section VI-A: for 64 references or more. With few it is the
    weaker form (section VI-C). A record whose references answer alike, or that has only one, has no deviation: it
    takes the pooled one. Every z but a candidate's own kind is then put on the candidates' scale, at the same tail
    probability of Student's t: the fewer the references behind a deviation, the further z strays by chance.

    Vantage: whoever can query the model and train two references with its recipe.
    """
    references = len(observation.references)
    if references < 2:
        raise VantageLacksError(
            f"attack 'lira-per-record' needs two reference models, vantage '{observation.vantage}' has {references}. "
            "Train more, or use 'lira'"
        )
    phi, reference_phi = answered(observation, signals.scaled_confidence)
    out = left_out(observation)
    mean, count = mean_left_out(reference_phi, out)
    own = deviation(reference_phi, out)
    alone = ~(own > 0)
    sigma = np.where(alone, pooled_deviation(reference_phi, out), own * np.sqrt(count / np.maximum(count - 1, 1)))
    t = (phi - mean) / (sigma * wider(count))
    t = same_tail(t, np.where(alone, np.inf, np.maximum(count - 1, 1)), references - 1)
    z = t * wider(np.array(references)) * np.sqrt(references / (references - 1))
    candidates = len(observation.candidates)
    return Guess(z[:candidates], z[candidates:])


def one_sided(
    phi: Float[np.ndarray, " records"],
    reference_phi: Float[np.ndarray, "references records"],
    out: Bool[np.ndarray, "references records"],
) -> tuple[Float[np.ndarray, " records"], Float[np.ndarray, " records"]]:
    """The z of each record, and the number of references behind it."""
    mean, count = mean_left_out(reference_phi, out)
    return (phi - mean) / pooled_deviation(reference_phi, out), count


def deviation(
    reference_phi: Float[np.ndarray, "references records"], out: Bool[np.ndarray, "references records"]
) -> Float[np.ndarray, " records"]:
    """Standard deviation of phi within each record, over the references in `out` (divisor n); NaN where there are none.

    Exactly 0 where they all answer alike.
    """
    mean, _ = mean_left_out(reference_phi, out)
    variance, _ = mean_left_out((reference_phi - mean) ** 2, out)
    low, high = (np.where(out, reference_phi, gone) for gone in (np.inf, -np.inf))
    return np.where(low.min(axis=0) == high.max(axis=0), 0.0, np.sqrt(variance))


def pooled_deviation(
    reference_phi: Float[np.ndarray, "references records"], out: Bool[np.ndarray, "references records"]
) -> float:
    """Standard deviation of phi within a record, pooled over records once each record's mean is taken off.

    The published code pools without taking the means off, which measures how unlike the *records* are. Where no
    record has two references there is no spread within records to pool: 1, which leaves the order within one model as
    it is.
    """
    mean, count = mean_left_out(reference_phi, out)
    squares = np.where(out, (reference_phi - mean) ** 2, 0.0).sum()
    freedom = np.maximum(count - 1, 0).sum()
    return float(np.sqrt(squares / freedom)) if freedom and squares else 1.0
