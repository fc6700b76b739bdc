"""What a client contributes to a secure sum: one vector with its update, its metrics and its weight, all weighted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from flwr.app import ArrayRecord, RecordDict
from jaxtyping import Float

from clients.weights import flatten

WEIGHT = "num-examples"

Vector = Float[np.ndarray, " values"]


class NotFiniteError(ValueError):
    """A client's update holds NaN or infinity."""


@dataclass(frozen=True, slots=True)
class Sums:
    """What the sum of several payloads says: all three are sums over clients, weighted by each client's weight."""

    update: Float[np.ndarray, " params"]
    metrics: dict[str, float]
    weight: float


def pack(broadcast: ArrayRecord, reply: RecordDict, metrics: tuple[str, ...]) -> Vector:
    """A client's payload, float64: weight times (broadcast minus returned weights), weight times metrics, weight.

    `reply` is what a Flower client answers: one record of arrays, one of metrics with `num-examples`. `metrics` names
    the others that are shared, in this order: a public constant, so that every payload has the same layout.

    Raises:
        NotFiniteError: the update or a metric is not finite.
        ValueError: the reply's arrays have another size than the broadcast ones, or a metric is missing.
    """
    before, after = flatten(broadcast), flatten(next(iter(reply.array_records.values())))
    if before.shape != after.shape:
        raise ValueError(f"the update has {len(after)} values, the model {len(before)}")
    values = next(iter(reply.metric_records.values()))
    if missing := [name for name in (*metrics, WEIGHT) if name not in values]:
        raise ValueError(f"the client reports no {', '.join(missing)}")
    shared = [float(values[name]) for name in metrics]  # type: ignore[arg-type]  # metrics are numbers here
    weight = float(values[WEIGHT])  # type: ignore[arg-type]
    payload = weight * np.concatenate([before.astype(np.float64) - after, shared, [1.0]])
    if not np.isfinite(payload).all():
        raise NotFiniteError("the update or a metric is not finite: training diverged")
    return payload


def unpack(total: Vector, metrics: tuple[str, ...]) -> Sums:
    """Take the sum of payloads apart again."""
    tail = len(metrics) + 1
    return Sums(total[:-tail], dict(zip(metrics, total[-tail:-1].tolist(), strict=True)), float(total[-1]))
