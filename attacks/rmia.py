"""Robust membership inference, offline: does the target favour a record more than it favours the attacker's own?"""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import expit
from scipy.stats import rankdata

from attacks import signals
from attacks.observation import Guess, Observation, VantageLacksError
from attacks.references import left_out, mean_left_out

GAMMA = 1.0  # as in the authors' code (ml_privacy_meter)
DEFAULT_A = 0.3
GRID = np.arange(11) / 10
_TUNED_ON = 4  # more references attacked would change `a` little and cost their share

Values = Float[np.ndarray, " records"]


def run(
    observation: Observation,
    rng: np.random.Generator,  # noqa: ARG001 (nothing is random here)
    gamma: float = GAMMA,
    a: float | None = None,
) -> Guess:
    """Share of population records z with LR(x, z) = [p(x|target)/p(x)] / [p(z|target)/p(z)] >= gamma. Unit: record.

    Zarifzadeh et al. 2024 (arXiv 2312.03262), offline form: p(x) = ((1+a) * mean P_out(x) + (1-a)) / 2. `a`, unless
    given, is tuned on the references alone (`tuned_a`), never on the target. Every population record is compared with
    that some reference left out. The share takes few values and soon reaches 1, so ties are broken with the raw ratio.
    A population record's own score leaves itself out; it is NaN where every reference trained on the record. It rests
    on half as many references as a candidate's and so spreads wider: a threshold set on it errs towards too few alarms.

    Needs at least one population record left out by a reference, else VantageLacksError. Use 500 or more. Vantage:
    whoever can query the model and train references with its recipe.
    """
    oracle = observation.oracle
    assert oracle is not None
    both = observation.candidates.joined(observation.population)
    log_p = -signals.loss(oracle(both.x), both.y, oracle.output, oracle.resolution)
    reference_p = np.stack(
        [
            signals.true_label_probability(r.predict(both.x), both.y, oracle.output, oracle.resolution)
            for r in observation.references
        ]
    )
    candidates = len(observation.candidates)
    out = left_out(observation)
    a = tuned_a(reference_p[:, candidates:], ~out[:, candidates:]) if a is None else a
    ratio = log_ratio(log_p, mean_left_out(reference_p, out)[0], a)
    return Guess(*dominance(ratio[:candidates], ratio[candidates:], gamma))


def log_ratio(log_p: Values, out_p: Values, a: float) -> Values:
    """Logarithm of p(x|target) / p(x), with p(x) approximated from the references that left x out."""
    prior = ((1 + a) * out_p + (1 - a)) / 2
    return log_p - np.log(np.maximum(prior, np.finfo(np.float64).tiny))


def online_log_ratio(
    log_p: Values,
    reference_p: Float[np.ndarray, "references records"],
    trained_on: Bool[np.ndarray, "references records"],
) -> Values:
    """Logarithm of p(x|target) / p(x) with p(x) = (mean P_in + mean P_out) / 2; NaN where one of them has no reference.

    The paper's online form. An attacker's references trained on no candidate, so it is no entry in ATTACKS.
    """
    inside, _ = mean_left_out(reference_p, trained_on)
    outside, _ = mean_left_out(reference_p, ~trained_on)
    return np.asarray(log_p - np.log(np.maximum((inside + outside) / 2, np.finfo(np.float64).tiny)))


def share(x: Values, z: Values, gamma: float = GAMMA, compat: Literal["privacy-meter"] | None = None) -> Values:
    """Share of z with LR(x, z) >= gamma, from log ratios without NaN: the paper's score; `dominance` breaks its ties.

    `compat="privacy-meter"` counts LR(x, z) > gamma instead, as the authors' ml_privacy_meter does (with gamma = 1).
    """
    above = np.searchsorted(np.sort(z), x - np.log(gamma), side="left" if compat else "right")
    return np.asarray(above / len(z))


def dominance(x: Values, z: Values, gamma: float = GAMMA) -> tuple[Values, Values]:
    """Scores of the candidates and of the population, both in [0, 1], from their log ratios (NaN in `z`: not usable).

    A candidate's score is (number of z it dominates + tie-break in (0, 1)) / (number of z + 1). Counting is a binary
    search in the sorted z: memory grows with candidates + population, not with their product.
    """
    usable = np.flatnonzero(~np.isnan(z))
    if not len(usable):
        raise VantageLacksError("attack 'rmia' needs population records that a reference left out, there are none")
    ordered = np.sort(z[usable])
    own = np.full(len(z), np.nan)
    itself = float(np.log(gamma) <= 0)  # LR(z, z) = 1
    own[usable] = (_dominated(z[usable], ordered, gamma) - itself + expit(z[usable])) / len(usable)
    return (_dominated(x, ordered, gamma) + expit(x)) / (len(usable) + 1), own


def _dominated(x: Values, ordered: Values, gamma: float) -> Values:
    return np.asarray(np.searchsorted(ordered, x - np.log(gamma), side="right"), dtype=np.float64)


def tuned_a(
    reference_p: Float[np.ndarray, "references population"],
    trained_on: Bool[np.ndarray, "references population"],
) -> float:
    """The `a` in 0, .1, ..., 1 with the best mean AUC when the others attack one of the first four references.

    A reference's complement takes no part against it: it left out the members only, and its count would give them
    away. So a single reference, or one complementary pair, leaves nothing to tune on: 0.3, the authors' default.
    """
    totals = np.zeros(len(GRID))
    for target in range(min(len(reference_p), _TUNED_ON)):
        member = trained_on[target]
        others = (trained_on != ~member).any(axis=1)
        others[target] = False
        out_p, count = mean_left_out(reference_p[others], ~trained_on[others])
        usable = count > 0
        if member[usable].any() and not member[usable].all():
            log_p = np.log(np.maximum(reference_p[target, usable], np.finfo(np.float64).tiny))
            totals += [_auc(log_ratio(log_p, out_p[usable], a), member[usable]) for a in GRID]
    return float(GRID[totals.argmax()]) if totals.any() else DEFAULT_A


def _auc(scores: Values, member: Bool[np.ndarray, " records"]) -> float:
    """Area under the ROC curve by ranks, ties counted half (Mann-Whitney)."""
    members, others = member.sum(), (~member).sum()
    return float((rankdata(scores)[member].sum() - members * (members + 1) / 2) / (members * others))
