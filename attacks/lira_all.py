"""Online LiRA with every model the target in turn, and all the others its references: no loop over records."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from attacks.likelihood import LEAST_DEVIATION, Variance

BLOCK = 100  # records at a time: with 256 models all intermediate values stay in the second cache

Phi = Float[np.ndarray, "models records"]
Member = Bool[np.ndarray, "models records"]
PerRecord = Float[np.ndarray, " records"]
Sums = tuple[PerRecord, PerRecord, PerRecord]  # how many models, sum and sum of squares of their phi


def lira_all(phi: Phi, member: Member, variance: Variance = "per-record", block: int = BLOCK) -> Phi:
    """Scores [models, records]: `likelihood.online` of each model against all the others, equal to 1e-8.

    Carlini et al. 2022 (arXiv 2112.03570), algorithm 1. `phi` are scaled confidences, `member` says which model trained
    on which record. NaN where leaving the target out leaves no model on one side. What one target leaves out is taken
    off sums (float64, of values less the record's mean) instead of being summed again for every target.
    """
    if phi.shape != member.shape or phi.ndim != 2:
        raise ValueError(f"phi of shape {phi.shape} with memberships of shape {member.shape}: both (models, records)")
    scores = np.empty(phi.shape)
    fixed = _pooled(phi, member, block) if variance == "fixed" else None
    with np.errstate(divide="ignore", invalid="ignore"):
        for start in range(0, phi.shape[1], block):
            part = slice(start, start + block)
            scores[:, part] = _block(_centred(phi[:, part]), member[:, part], fixed)
    return scores


def _block(x: Phi, m: Member, fixed: tuple[PerRecord, PerRecord] | None) -> Phi:
    """Own side less the other for a member, the other way round for the rest. Only the own side lacks the target."""
    inside, outside = _sums(x, m)
    own_mean, own_variance = _moments(*_left_out(x, m, inside, outside))
    (in_mean, in_variance), (out_mean, out_variance) = _moments(*inside), _moments(*outside)
    if fixed is None:
        other_variance = np.where(m, out_variance, in_variance)
        other_log = np.where(m, np.log(out_variance), np.log(in_variance))
        own_log = np.log(own_variance)
    else:
        in_fixed, out_fixed = (side[:, None] for side in fixed)
        own_variance, other_variance = np.where(m, in_fixed, out_fixed), np.where(m, out_fixed, in_fixed)
        own_log, other_log = np.log(own_variance), np.log(other_variance)
    own = (x - own_mean) ** 2 / own_variance + own_log
    other = (x - np.where(m, out_mean, in_mean)) ** 2 / other_variance + other_log
    return np.asarray((other - own) * np.where(m, 0.5, -0.5))


def _centred(phi: Phi) -> Phi:
    x = phi.astype(np.float64)
    return np.asarray(x - x.mean(axis=0))


def _sums(x: Phi, m: Member) -> tuple[Sums, Sums]:
    """Those of the models that trained on each record, and of the others."""
    inside, square = m.astype(np.float64), x * x
    count, total, squares = inside.sum(axis=0), (x * inside).sum(axis=0), (square * inside).sum(axis=0)
    return (count, total, squares), (len(x) - count, x.sum(axis=0) - total, square.sum(axis=0) - squares)


def _left_out(x: Phi, m: Member, inside: Sums, outside: Sums) -> tuple[Phi, Phi, Phi]:
    """The sums of each model's own side without the model."""
    count, total, squares = (np.where(m, one, other) for one, other in zip(inside, outside, strict=True))
    return count - 1, total - x, squares - x * x


def _moments(count: Phi | PerRecord, total: Phi | PerRecord, squares: Phi | PerRecord) -> tuple[Phi, Phi]:
    """Mean and variance (divisor n); NaN where `count` is 0."""
    count = np.where(count > 0, count, np.nan)
    mean = total / count
    return mean, np.maximum(squares / count - mean * mean, LEAST_DEVIATION**2)


def _pooled(phi: Phi, member: Member, block: int) -> tuple[PerRecord, PerRecord]:
    """For each model as the target: the others' variance within records, IN and OUT, pooled over all records."""
    squares, freedom = np.zeros((2, len(phi))), np.zeros((2, len(phi)))
    for start in range(0, phi.shape[1], block):
        x, m = _centred(phi[:, start : start + block]), member[:, start : start + block]
        for side, (count, total, square) in enumerate(_sums(x, m)):
            took_part = m if side == 0 else ~m
            left = count - took_part
            sums, both = np.where(took_part, total - x, total), np.where(took_part, square - x * x, square)
            within = both - np.divide(sums * sums, left, out=np.zeros_like(sums), where=left > 0)
            squares[side] += np.where(left > 0, within, 0.0).sum(axis=1)
            freedom[side] += np.maximum(left - 1, 0).sum(axis=1)
    ratio = np.divide(squares, freedom, out=np.ones_like(squares), where=(freedom > 0) & (squares > 0))
    return ratio[0], ratio[1]
