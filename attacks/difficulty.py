"""Scores set against what models that never saw the record make of it: how hard it is, is no sign of membership."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import expit

from attacks import signals
from attacks.observation import Guess, Observation
from attacks.references import answered, left_out, mean_left_out, wider

Values = Float[np.ndarray, " records"]


def calibration(observation: Observation, rng: np.random.Generator) -> Guess:  # noqa: ARG001 (nothing is random here)
    """Score: the mean loss of the references that left the record out, minus the target's loss. Unit: record.

    Difficulty calibration, Watson et al. 2022 (arXiv 2111.08440), equation 4. Population records have fewer such
    references (NaN where none) and so spread wider by chance: their scores are scaled back to a candidate's spread.
    Vantage: whoever can query the model and train references with its recipe.
    """
    loss, reference_loss = answered(observation, signals.loss)
    mean, count = mean_left_out(reference_loss, left_out(observation))
    scores = (mean - loss) * wider(np.array(len(reference_loss))) / wider(count)
    candidates = len(observation.candidates)
    return Guess(scores[:candidates], scores[candidates:])


def attack_r(observation: Observation, rng: np.random.Generator) -> Guess:  # noqa: ARG001
    """Score: share of the references that left the record out whose loss is not below the target's. Unit: record.

    Attack R, Ye et al. 2022 (arXiv 2111.09679): the reference models' losses are the distribution under which the
    target's is tested, record by record. See `beaten` for ties. Population records are scored by the references that
    left them out, NaN where none did; with few references the tie-break decides, and a threshold set on them is rough.
    Vantage: whoever can query the model and train references with its recipe.
    """
    loss, reference_loss = answered(observation, signals.loss)
    scores = beaten(loss, reference_loss, left_out(observation))
    candidates = len(observation.candidates)
    return Guess(scores[:candidates], scores[candidates:])


def beaten(
    loss: Values,
    reference_loss: Float[np.ndarray, "references records"],
    out: Bool[np.ndarray, "references records"],
) -> Values:
    """-log of (references in `out` with a lower loss + tie-break) / (references in `out` + 1): larger, more are beaten.

    Equal losses are no lower. A share of few references takes few values: between records with the same, the tie-break
    1/(1 + e^d) in (0, 1) decides by d, the mean loss of the references minus the target's. NaN where `out` is empty.
    """
    mean, count = mean_left_out(reference_loss, out)
    lower = (out & (reference_loss < loss)).sum(axis=0)
    tail = np.maximum(expit(loss - mean), np.finfo(np.float64).tiny)
    return np.asarray(-np.log((lower + tail) / (count + 1)))
