"""Likelihood ratios on arrays, for who has references that trained on the record too: parity, audits, studies.

An attacker's Observation holds no such references, so none of this is in ATTACKS; `attacks.lira` is the form that is.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from attacks.lira import deviation, pooled_deviation
from attacks.references import mean_left_out

Variance = Literal["fixed", "per-record"]
Compat = Literal["carlini-plot"]
Phi = Float[np.ndarray, "records *queries"]
ReferencePhi = Float[np.ndarray, "references records *queries"]
TrainedOn = Bool[np.ndarray, "references records"]
Values = Float[np.ndarray, " columns"]

LEAST_DEVIATION = 1e-6  # of scaled confidence, in nats: references that all answer alike prove no certainty
_REFERENCE_CODE_LEAST = 1e-30


def online(
    phi: Phi,
    reference_phi: ReferencePhi,
    trained_on: TrainedOn,
    variance: Variance = "per-record",
    compat: Compat | None = None,
) -> Float[np.ndarray, " records"]:
    """Score log N(phi; mu_in, sigma_in) - log N(phi; mu_out, sigma_out), its mean over the queries.

    Carlini et al. 2022 (arXiv 2112.03570), algorithm 1. "per-record" takes each record's own deviation (divisor n),
    "fixed" one for all records on each side, pooled within records, for fewer than about 64 references. NaN for a
    record that no reference, or every one, trained on. `compat="carlini-plot"` is the authors' plot.py to the letter:
    medians for means, only the first references of each record (as many as the record with fewest has), and for
    "fixed" the deviation of all IN values together, unlike records and all, on *both* sides.
    """
    columns, references, trained = _columns(phi, reference_phi, trained_on)
    inside, outside = (_side(references, side, variance, compat) for side in (trained, ~trained))
    if compat and variance == "fixed":
        outside = outside[0], inside[1]
    ratio = log_normal(columns, *inside) - log_normal(columns, *outside)
    return np.asarray(ratio.reshape(len(phi), -1).mean(axis=1))


def offline(
    phi: Phi,
    reference_phi: ReferencePhi,
    trained_on: TrainedOn,
    variance: Variance = "fixed",
    compat: Compat | None = None,
) -> Float[np.ndarray, " records"]:
    """(phi - mu_out) / sigma_out, its mean over the queries: one-sided, from the references that left the record out.

    Arguments as for `online`. `compat="carlini-plot"` is the authors' plot.py: -log N(phi; median, sigma), which is
    *two-sided*, so that unusually unsure records count as members, and for "fixed" the deviation of all OUT values.
    """
    columns, references, trained = _columns(phi, reference_phi, trained_on)
    mean, sigma = _side(references, ~trained, variance, compat)
    scores = -log_normal(columns, mean, sigma) if compat else (columns - mean) / sigma
    return np.asarray(scores.reshape(len(phi), -1).mean(axis=1))


def log_normal(value: Values, mean: Values, sigma: Values) -> Values:
    """Logarithm of the normal density."""
    return np.asarray(-np.log(sigma) - ((value - mean) / sigma) ** 2 / 2 - np.log(2 * np.pi) / 2)


def _columns(
    phi: Phi, reference_phi: ReferencePhi, trained_on: TrainedOn
) -> tuple[Values, Float[np.ndarray, "references columns"], Bool[np.ndarray, "references columns"]]:
    """Each query of each record as a column of its own."""
    if reference_phi.shape[1:] != phi.shape or trained_on.shape != reference_phi.shape[:2]:
        raise ValueError(
            f"phi of shape {phi.shape} with references of {reference_phi.shape} and memberships of {trained_on.shape}; "
            "wanted: (records, ...), (references, records, ...) and (references, records)"
        )
    queries = phi[0].size if len(phi) else 1
    flat = reference_phi.reshape(len(reference_phi), -1).astype(np.float64)
    return phi.reshape(-1).astype(np.float64), flat, np.repeat(trained_on, queries, axis=1)


def _side(
    references: Float[np.ndarray, "references columns"],
    side: Bool[np.ndarray, "references columns"],
    variance: Variance,
    compat: Compat | None,
) -> tuple[Values, Values]:
    """Mean and deviation of each column over the references in `side`."""
    if compat:
        return _reference_code(references, side, variance)
    mean, _ = mean_left_out(references, side)
    if variance == "fixed":
        return mean, np.full(len(mean), pooled_deviation(references, side))
    return mean, np.maximum(deviation(references, side), LEAST_DEVIATION)


def _reference_code(
    references: Float[np.ndarray, "references columns"],
    side: Bool[np.ndarray, "references columns"],
    variance: Variance,
) -> tuple[Values, Values]:
    fewest = side.sum(axis=0).min()
    rows = np.argsort(~side, axis=0, kind="stable")[:fewest]
    kept = np.take_along_axis(references, rows, axis=0)
    sigma = np.full(kept.shape[1], kept.std()) if variance == "fixed" else kept.std(axis=0)
    return np.median(kept, axis=0), sigma + _REFERENCE_CODE_LEAST
