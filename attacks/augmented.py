"""Membership from labels alone with a fixed set of queries: all noisy copies are asked about at once."""

from __future__ import annotations

import numpy as np

from attacks.label_only import Noise, Values, alike, calibrated, scored
from attacks.observation import Guess, Observation, Predictor, Records

COPIES = 16  # of each record
WEAKEST, STRONGEST = 2.0**-5, 2.0**1  # noise, in mean standard deviations of the population's or candidates' features


def run(observation: Observation, rng: np.random.Generator, copies: int = COPIES) -> Guess:
    """Score: share of noisy copies that are answered with the record's label; 0 where the record is not. Unit: record.

    As `label_only` (Choquette-Choo et al. 2021, arXiv 2007.14321), but no level of noise is sought: copies run from
    hardly any noise to twice a deviation, so the share tells roughly how far the boundary is, and all questions can be
    put to a slow model in one go. With references, their mean share is taken off. Vantage: whoever can query the model.
    """
    oracle = observation.oracle
    assert oracle is not None
    own = scored(observation, rng)
    records = observation.candidates.joined(observation.population[own])
    noise = levels(records, copies, rng)
    references = alike(observation)
    others = [_survival(each.predict, records, noise) for each in references]
    return calibrated(observation, own, _survival(oracle, records, noise), references, others)


def levels(records: Records, copies: int, rng: np.random.Generator) -> Noise:
    """Gaussian noise for each copy, of evenly spaced strengths on a logarithmic scale; the same for all records."""
    strength = np.geomspace(WEAKEST, STRONGEST, copies) * float(records.x.std(axis=0).mean())
    noise = rng.normal(size=(copies, *records.x.shape[1:]))
    return np.asarray((noise * strength.reshape(-1, *[1] * (records.x.ndim - 1))).astype(np.float32))


def _survival(predict: Predictor, records: Records, noise: Noise) -> Values:
    """Share of copies with the record's label, in one question about all of them and the records themselves."""
    still = np.concatenate([np.zeros_like(noise[:1]), noise])
    x = (records.x[:, None] + still).astype(np.float32)
    found = predict(x.reshape(-1, *records.x.shape[1:])).argmax(axis=1).reshape(len(records), len(still))
    right = found == records.y[:, None]
    return np.asarray(right[:, 0] * right[:, 1:].mean(axis=1))
