"""Online LiRA with every model the target in turn, and all the others its references: no loop over records."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from attacks.likelihood import LEAST_DEVIATION, Variance

BLOCK = 100  # records at a time: with 256 models all intermediate values stay in the second cache

Phi = Float[np.ndarray, "models records"]
Member = Bool[np.ndarray, "models records"]
PerModel = Float[np.ndarray, " models"]
PerRecord = Float[np.ndarray, " records"]


@dataclass(frozen=True, slots=True)
class Side:
    """Of each record: how many models are on this side, the mean of their phi, and the squares about it, summed."""

    count: PerRecord
    mean: PerRecord
    squares: PerRecord


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
    for start in range(0, phi.shape[1], block):
        part = slice(start, start + block)
        scores[:, part] = _block(_centred(phi[:, part]), member[:, part], fixed)
    return _without_lonely(scores, member)


def _without_lonely(scores: Phi, member: Member) -> Phi:
    """NaN for a model that is alone on its side of a record, and for all models where a side is empty."""
    for side in (member, ~member):
        count = side.sum(axis=0)
        few = np.flatnonzero(count < 2)
        scores[:, few] = np.where(side[:, few] | (count[few] == 0), np.nan, scores[:, few])
    return scores


def _block(x: Phi, m: Member, fixed: tuple[PerModel, PerModel] | None) -> Phi:
    """Own side less the other for a member, the other way round for the rest. Only the own side lacks the target."""
    inside, outside = _sides(x, m)
    from_in, from_out, weight = _squared(x, inside), _squared(x, outside), m.astype(np.float64)
    in_left, out_left = (np.maximum(side.count - 1, 1) for side in (inside, outside))
    # Without the target the mean is n / (n - 1) further away, and the squares about it are d^2 n / (n - 1) fewer.
    taken = _pick(weight, from_in * (inside.count / in_left), from_out * (outside.count / out_left))
    left = _pick(weight, in_left, out_left)
    if fixed is None:
        own_variance = np.maximum((_pick(weight, inside.squares, outside.squares) - taken) / left, LEAST_DEVIATION**2)
        in_variance, out_variance = (_variance(side) for side in (inside, outside))
    else:
        in_variance, out_variance = (side[:, None] for side in fixed)
        own_variance = _pick(weight, in_variance, out_variance)
    own = taken * (left + 1) / (left * own_variance) + np.log(own_variance)
    from_out, from_in = from_out / out_variance + np.log(out_variance), from_in / in_variance + np.log(in_variance)
    return np.asarray((_pick(weight, from_out, from_in) - own) * (weight - 0.5))


def _pick(weight: Phi, member: Phi | PerRecord, other: Phi | PerRecord) -> Phi:
    """Of two finite values the first where `weight` is 1, the second where it is 0: `np.where` is four times slower."""
    return np.asarray(weight * member + (1 - weight) * other)


def _variance(side: Side) -> PerRecord:
    return np.asarray(np.maximum(side.squares / np.maximum(side.count, 1), LEAST_DEVIATION**2))


def _centred(phi: Phi) -> Phi:
    x = phi.astype(np.float64)
    return np.asarray(x - x.mean(axis=0))


def _squared(x: Phi, side: Side) -> Phi:
    distance = x - side.mean
    return np.asarray(distance * distance)


def _sides(x: Phi, m: Member) -> tuple[Side, Side]:
    """The models that trained on each record, and the others."""
    weight = m.astype(np.float64)
    count, total = weight.sum(axis=0), np.einsum("ij,ij->j", x, weight)
    squares = np.einsum("ij,ij,ij->j", x, x, weight)
    rest, rest_total = len(x) - count, x.sum(axis=0) - total
    rest_squares = np.einsum("ij,ij->j", x, x) - squares
    return _side(count, total, squares), _side(rest, rest_total, rest_squares)


def _side(count: PerRecord, total: PerRecord, squares: PerRecord) -> Side:
    mean = total / np.maximum(count, 1)
    return Side(count, mean, squares - total * mean)


def _pooled(phi: Phi, member: Member, block: int) -> tuple[PerModel, PerModel]:
    """For each model as the target: the others' variance within records, IN and OUT, pooled over all records."""
    squares, freedom = np.zeros((2, len(phi))), np.zeros((2, len(phi)))
    for start in range(0, phi.shape[1], block):
        x, m = _centred(phi[:, start : start + block]), member[:, start : start + block]
        weight = m.astype(np.float64)
        for number, (side, on_it) in enumerate(zip(_sides(x, m), (weight, 1 - weight), strict=True)):
            taken = on_it * _squared(x, side) * (side.count / np.maximum(side.count - 1, 1))
            squares[number] += (side.squares - taken).sum(axis=1)
            freedom[number] += np.maximum(side.count - on_it - 1, 0).sum(axis=1)
    ratio = np.divide(squares, freedom, out=np.ones_like(squares), where=(freedom > 0) & (squares > 0))
    return ratio[0], ratio[1]
