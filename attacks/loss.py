"""Loss threshold: a record with a low loss was likely trained on."""

from __future__ import annotations

import numpy as np

from attacks import signals
from attacks.observation import Guess, Observation


def run(observation: Observation, rng: np.random.Generator) -> Guess:  # noqa: ARG001 (nothing is random here)
    """Score -loss (Yeom et al. 2018, arXiv 1709.01604, section 3.2). One query per record; unit: record.

    Vantage: whoever can query the model.
    """
    oracle = observation.oracle
    assert oracle is not None
    both = observation.candidates.joined(observation.population)
    scores = -signals.loss(oracle(both.x), both.y, oracle.output, oracle.resolution)
    candidates = len(observation.candidates)
    return Guess(scores[:candidates], scores[candidates:])
