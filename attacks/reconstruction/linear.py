"""Exact recovery: the gradient of a linear layer is its input, times one number per unit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

_MOVED = 1e-3  # of the largest: units that moved less are ratios of rounding errors
_AGREE = 1e-3  # of the range of a value: ratios this close are the same record's


@dataclass(frozen=True, slots=True)
class LinearRecovery:
    """The layer's input, as far as the update tells it.

    `record` is the ratio at the unit with the largest bias gradient; `rows` are the ratios of all units, NaN where a
    unit's bias gradient is zero. `disagreement` is the largest difference between two units' ratios, relative to the
    largest entry: 0, up to rounding, if there was one record and one step; otherwise `record` is a mixture of records.
    """

    record: Float[np.ndarray, " inputs"]
    rows: Float[np.ndarray, "units inputs"]
    disagreement: float


def recover(weight: Float[np.ndarray, "units inputs"], bias: Float[np.ndarray, " units"]) -> LinearRecovery:
    """The input x of a layer W x + b from its part of an update: x = dL/dW_i / dL/db_i for every unit i.

    Phong et al. 2018 (IEEE TIFS 13(5), section III). The scale of the update (learning rate, weight of the client)
    cancels. With several records each row is their mixture, weighted by how much each moved that unit: a unit that only
    one record moved gives that record exactly. Holds for the first layer of an MLP; after convolutions it is their
    output that is recovered. Unit: record. Vantage: a server that sees single updates. Raises ValueError where no unit
    moved.
    """
    weight, bias = weight.astype(np.float64), bias.astype(np.float64)
    if not bias.any():
        raise ValueError("no unit's bias moved: no record got through this layer, and nothing can be recovered")
    rows = np.divide(weight, bias[:, None], out=np.full(weight.shape, np.nan), where=bias[:, None] != 0)
    record = rows[np.abs(bias).argmax()]
    moved = rows[np.abs(bias) > _MOVED * np.abs(bias).max()]
    spread = (moved.max(axis=0) - moved.min(axis=0)).max()
    return LinearRecovery(record, rows, float(spread / max(np.abs(moved).max(), np.finfo(np.float64).tiny)))


def singled_out(
    weight: Float[np.ndarray, "units inputs"],
    bias: Float[np.ndarray, " units"],
    count: int,
    bounds: tuple[float, float],
) -> Float[np.ndarray, "records inputs"]:
    """At most `count` of the units' ratios: those most likely to be one record, by what the attacker can see.

    Two units whose ratios agree were moved by the same record alone: mixtures of several differ from unit to unit. So
    ratios that agree come first, then those that lie most within `bounds`, the range of a value, which mixtures with
    weights of both signs leave. Boenisch et al. 2023 (arXiv 2112.02918) count on such units, and make more of them by
    tampering. Raises ValueError where no unit moved.
    """
    rows = recover(weight, bias).rows
    strength = np.abs(bias.astype(np.float64))
    order = [unit for unit in np.argsort(-strength, kind="stable") if strength[unit] > _MOVED * strength.max()]
    span = bounds[1] - bounds[0]
    apart: list[int] = []  # the unit that moved most, of those that agree
    agreeing: list[int] = []
    for unit in order:
        near = [i for i, other in enumerate(apart) if np.abs(rows[unit] - rows[other]).max() < _AGREE * span]
        if near:
            agreeing[near[0]] += 1
        else:
            apart.append(int(unit))
            agreeing.append(1)
    found = rows[apart]
    outside = (np.maximum(bounds[0] - found, 0) + np.maximum(found - bounds[1], 0)).mean(axis=1)
    return found[np.lexsort((outside, np.array(agreeing) == 1))][:count]
