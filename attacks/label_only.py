"""Membership from labels alone: how much noise does a record bear before the model answers something else?

Also what attacks by robustness share: which own records they score, what the query budget leaves, and calibration.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

from attacks.observation import Guess, Observation, Oracle, Predictor, Records, Reference
from attacks.references import mean_left_out, wider

COPIES = 50  # of each record
LEVELS = 2.0 ** np.arange(-5, 3)  # of noise, in standard deviations of the population's features
SURVIVAL = 0.9
FEWEST_OWN = 100  # own records that are scored at least: for a threshold at 1 % false alarms
SOUNDED, SOUNDING_COPIES = 32, 12  # own records and copies of each from which the noise level is chosen
SOUNDED_REFERENCES, SOUNDED_OF_EACH = 4, 128  # references that it is chosen on, and their members and others

Values = Float[np.ndarray, " records"]
Features = Float[np.ndarray, "records ..."]
Noise = Float[np.ndarray, "copies ..."]
Own = Int[np.ndarray, " scored"]


def run(observation: Observation, rng: np.random.Generator, copies: int = COPIES) -> Guess:
    """Score: share of noisy copies x + N(0, sigma^2) that are answered with x's label; 0 where x is not. Unit: record.

    Choquette-Choo et al. 2021 (arXiv 2007.14321): robustness to noise stands for the distance to the decision boundary.
    Sigma is chosen without the candidates, see `level`; a copy's noise lies between half and twice of it, which leaves
    fewer ties. Where there are references, the mean share among those that left the record out is taken off, see
    `calibrated`; together they are asked about as many copies as the target. All records get the same noise: what
    differs between their scores comes from the records.

    `copies` of a record, or as many as the budget leaves. Vantage: whoever can query the model, for labels too.
    """
    oracle = observation.oracle
    assert oracle is not None
    own, references = scored(observation, rng), alike(observation)
    records = observation.candidates.joined(observation.population[own])
    sigma = level(observation, references or observation.references, rng)
    noise = sigma * directions(affordable(oracle, len(records), copies + 1) - 1, records, rng)
    robust, number = survival(oracle, records, noise), len(references)
    others = [survival(each.predict, records, noise[i::number]) for i, each in enumerate(references)]
    return calibrated(observation, own, robust, references, others)


def survival(predict: Predictor, records: Records, noise: Noise) -> Values:
    """Share of `noise` under which the model answers the record's label; 0 where it does not without noise."""
    right, kept = answers(predict, records.x, records.y), np.zeros(len(records))
    for each in noise:
        kept += answers(predict, records.x + each, records.y)
    return np.asarray(right * kept / max(len(noise), 1))


def answers(predict: Predictor, x: Features, labels: Int[np.ndarray, " records"]) -> Bool[np.ndarray, " records"]:
    """Whether the model answers each record with its label; of equal answers the first counts, as on a device."""
    return np.asarray(predict(x.astype(np.float32)).argmax(axis=1) == labels)


def directions(copies: int, records: Records, rng: np.random.Generator) -> Noise:
    """Gaussian noise, one for each copy, with deviations evenly between 1/2 and 2 on a logarithmic scale."""
    spread = 2.0 ** np.linspace(-1, 1, copies) if copies > 1 else np.ones(copies)
    return rng.normal(size=(copies, *records.x.shape[1:])) * spread.reshape(-1, *[1] * (records.x.ndim - 1))


def level(observation: Observation, references: tuple[Reference, ...], rng: np.random.Generator) -> float:
    """The noise, per feature, that tells the references' own members from the records they left out best, by AUC.

    The mean over up to four references, on 128 of the attacker's own records of either kind for each; the target is not
    asked. `steady_level` where no other is better by more than a standard error, or references trained on all of the
    records or on none.
    """
    steady = steady_level(observation, references, rng)
    own, areas = observation.population, []
    levels, noise = LEVELS * float(own.x.std(axis=0).mean()), directions(SOUNDING_COPIES, own, rng)
    for reference in references[:SOUNDED_REFERENCES]:
        member = reference.trained_on
        if member.any() and not member.all():
            rows = np.concatenate([rng.permutation(np.flatnonzero(s))[:SOUNDED_OF_EACH] for s in (member, ~member)])
            kept = [survival(reference.predict, own[rows], each * noise) for each in levels]
            areas.append([_area(values, member[rows]) for values in kept])
    if not areas:
        return steady
    mean, error = np.mean(areas, axis=0), 1 / np.sqrt(6 * SOUNDED_OF_EACH * len(areas))
    better = mean.max() > mean[np.abs(levels - steady).argmin()] + error
    return float(levels[mean.argmax()]) if better else steady


def _area(values: Values, member: Bool[np.ndarray, " records"]) -> float:
    """P(a member's value is larger) + P(equal) / 2."""
    from scipy.stats import rankdata  # takes half a second, and few attacks need it

    members = int(member.sum())
    below = rankdata(values)[member].sum() - members * (members + 1) / 2
    return float(below / (members * (len(member) - members)))


def steady_level(observation: Observation, references: tuple[Reference, ...], rng: np.random.Generator) -> float:
    """The largest noise, per feature, under which own records that are answered rightly survive nine times in ten.

    More noise drowns the record, less moves no answer. It is sounded on records that a reference left out, or without
    references by queries to the target.
    """
    own = observation.population
    predict = references[0].predict if references else observation.oracle
    assert predict is not None
    unseen = ~references[0].trained_on if references else np.ones(len(own), dtype=bool)
    unseen |= not unseen.any()  # a reference that trained on all there is has to do
    sample = own[rng.permutation(np.flatnonzero(unseen))[:SOUNDED]]
    levels, noise = LEVELS * float(own.x.std(axis=0).mean()), directions(SOUNDING_COPIES, own, rng)
    kept = np.stack([survival(predict, sample, each * noise) for each in levels])
    right = answers(predict, sample.x, sample.y)
    steady = kept[:, right].mean(axis=1) >= SURVIVAL if right.any() else np.zeros(len(levels), dtype=bool)
    return float(levels[max(np.flatnonzero(steady), default=0)])


def scored(observation: Observation, rng: np.random.Generator) -> Own:
    """Which own records are scored: as many as there are candidates, a hundred at least. Each costs many queries."""
    most = max(len(observation.candidates), FEWEST_OWN)
    return np.sort(rng.permutation(len(observation.population))[:most])


def affordable(oracle: Oracle, records: int, wanted: int) -> int:
    """Queries for each of `records`: as many as wanted or as the budget leaves, and one at least."""
    return wanted if oracle.left is None else max(min(wanted, oracle.left // records), 1)


def alike(observation: Observation) -> tuple[Reference, ...]:
    """The references that had the target's whole recipe: for a personal model those tuned from the global model.

    A model trained from the first weights on other people's records knows too little of what a personal model does.
    """
    return observation.references if observation.before is None else observation.tuned


def calibrated(
    observation: Observation, own: Own, robust: Values, references: tuple[Reference, ...], others: list[Values]
) -> Guess:
    """The target's values less the mean of the references' that left the record out: plain without references.

    Difficulty calibration as in `difficulty.calibration`, Watson et al. 2022 (arXiv 2111.08440). Values are of the
    candidates, then of the population records `own`; the others are not scored (NaN).
    """
    candidates = len(observation.candidates)
    if references:
        out = np.stack([np.append(np.ones(candidates, dtype=bool), ~each.trained_on[own]) for each in references])
        mean, count = mean_left_out(np.stack(others), out)
        robust = (robust - mean) * wider(np.array(len(references))) / wider(count)
    population = np.full(len(observation.population), np.nan)
    population[own] = robust[candidates:]
    return Guess(robust[:candidates], population, references=len(references))
