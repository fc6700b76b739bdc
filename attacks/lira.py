"""Likelihood-ratio attack, offline: is the target surer of a record than models that never saw it?"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from attacks import signals
from attacks.observation import Guess, Observation
from attacks.references import left_out, mean_left_out


def run(observation: Observation, rng: np.random.Generator) -> Guess:  # noqa: ARG001 (nothing is random here)
    """Score z = (phi - mu_out) / sigma, one-sided, one sigma for all records. Unit: record.

    Carlini et al. 2022 (arXiv 2112.03570), section VI-A, test by Phi(z): only an unusually *high* confidence speaks
    for membership. The score is z itself, which orders records as Phi(z) does but does not run into ties at 1.
    Population records are scored with the references that did not train on them (NaN where all did). They have fewer
    of those, so their z spreads wider by chance alone: it is scaled back to the spread of a non-member candidate,
    sqrt(1 + 1/references), that the attacker's own threshold may hold for candidates.

    Vantage: whoever can query the model and train references with its recipe.
    """
    oracle = observation.oracle
    assert oracle is not None
    both = observation.candidates.joined(observation.population)
    answered = [oracle(both.x), *(reference.predict(both.x) for reference in observation.references)]
    phi, *reference_phi = (signals.scaled_confidence(a, both.y, oracle.output, oracle.resolution) for a in answered)
    z, count = one_sided(phi, np.stack(reference_phi), left_out(observation))
    candidates, references = len(observation.candidates), len(observation.references)
    spread = np.sqrt((1 + 1 / references) / (1 + 1 / np.maximum(count, 1)))
    return Guess(z[:candidates], (z * spread)[candidates:])


def one_sided(
    phi: Float[np.ndarray, " records"],
    reference_phi: Float[np.ndarray, "references records"],
    out: Bool[np.ndarray, "references records"],
) -> tuple[Float[np.ndarray, " records"], Float[np.ndarray, " records"]]:
    """The z of each record, and the number of references behind it."""
    mean, count = mean_left_out(reference_phi, out)
    return (phi - mean) / pooled_deviation(reference_phi, out), count


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
