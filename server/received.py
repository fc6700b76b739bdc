"""What reached the server in one round, sorted: updates that can be used, and who dropped out and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from flwr.app import ArrayRecord, Message
from jaxtyping import Float

from clients.aggregation.payload import WEIGHT
from clients.weights import flatten

Vector = Float[np.ndarray, " params"]
NO_REPLY = "no reply came"
LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One round's contributions.

    `total` is the sum of the updates, each times its weight; an update is the broadcast minus the returned weights.
    `updates` and `metrics` are empty where the server received only the secure sum: then `sums` has the summed metrics.
    """

    clients: tuple[int, ...]  # whose updates are in the total, in increasing order
    total: Vector
    weight: float
    dropped: dict[int, str]
    updates: dict[int, Vector] = field(default_factory=dict)
    metrics: dict[int, dict[str, float]] = field(default_factory=dict)
    sums: dict[str, float] = field(default_factory=dict)

    @property
    def mean(self) -> Vector:
        """The weighted mean of the updates; zero where nobody contributed."""
        return self.total / self.weight if self.weight else np.zeros_like(self.total)


def receive(
    replies: Iterable[Message], broadcast: ArrayRecord, clients: Mapping[int, int], asked: Iterable[int]
) -> Received:
    """Sort the replies by client number (`clients`: node id -> client) and leave out what cannot be used.

    A reply is left out, with the reason, if it is an error, has other arrays than were broadcast, is not finite, or
    claims a weight that is not a positive number.
    """
    by_client = {clients.get(reply.metadata.src_node_id, -1): reply for reply in replies}
    faults = {client: _fault(by_client[client], broadcast) if client in by_client else NO_REPLY for client in asked}
    usable = sorted(client for client, fault in faults.items() if not fault)
    before = flatten(broadcast)
    updates = {client: before - flatten(_arrays(by_client[client])) for client in usable}
    metrics = {client: reported(by_client[client]) for client in usable}
    total = np.zeros(before.shape, np.float64)
    for client in usable:
        total += metrics[client][WEIGHT] * updates[client].astype(np.float64)
    return Received(
        clients=tuple(usable),
        total=total,
        weight=sum(metrics[client][WEIGHT] for client in usable),
        dropped={client: fault for client, fault in sorted(faults.items()) if fault},
        updates=updates,
        metrics=metrics,
    )


def reported(reply: Message) -> dict[str, float]:
    """A reply's metrics as plain floats."""
    metrics = next(iter(reply.content.metric_records.values()))
    return {name: float(value) for name, value in metrics.items() if isinstance(value, int | float)}


def reason(reply: Message) -> str:
    """Why a client answered with an error, in one line: a reason can be a whole traceback from another process."""
    lines = (reply.error.reason or "").strip("<>'\n ").splitlines()
    return lines[-1] if lines else "an error without a reason"


def _arrays(reply: Message) -> ArrayRecord:
    return next(iter(reply.content.array_records.values()))


def _fault(reply: Message, broadcast: ArrayRecord) -> str:
    """What makes a reply unusable, or nothing."""
    if reply.has_error():
        return reason(reply)
    records, metrics = reply.content.array_records, reply.content.metric_records
    if len(records) != 1 or len(metrics) != 1:
        return f"its reply has {len(records)} records of arrays and {len(metrics)} of metrics; one of each is asked for"
    shapes, due = _shapes(_arrays(reply)), _shapes(broadcast)
    if shapes != due:
        wrong = next((name for name in due if shapes.get(name) != due[name]), "one that the model has not")
        return f"its array {wrong} has shape {shapes.get(wrong)}, the model's has {due.get(wrong)}"
    if fault := _fault_inside(_arrays(reply), list(due.values())):
        return fault
    weight = reported(reply).get(WEIGHT, np.nan)
    return "" if np.isfinite(weight) and weight > 0 else f"its weight ({WEIGHT}) is {weight:g}, not a positive number"


def _fault_inside(arrays: ArrayRecord, due: list[tuple[int, ...]]) -> str:
    """What makes the values themselves unusable, or nothing: an array can hold other than it declares."""
    try:
        held = [np.asarray(array.numpy()) for array in arrays.values()]
    except Exception:  # noqa: BLE001  # NumPy raises as many kinds as there are kinds of bytes
        return "its arrays cannot be read as numbers"
    if any(values.dtype.kind not in "fiu" for values in held) or [values.shape for values in held] != due:
        return "its arrays do not hold the numbers that they declare"
    finite = all((np.abs(values) <= LARGEST).all() for values in held)  # false for NaN, too
    return "" if finite else "its update is not finite (NaN, infinity, or too large for float32)"


def _shapes(arrays: ArrayRecord) -> dict[str, tuple[int, ...]]:
    return {name: tuple(array.shape) for name, array in arrays.items()}
