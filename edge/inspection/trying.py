"""Each runtime's word on a file, and whether they compute the same."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from jaxtyping import Float, Shaped

from edge import sandbox
from edge.artifact import Port
from edge.inspection.found import Outcome, PortFound, Structure, Tried
from edge.runtimes import RuntimeMissingError
from edge.sandbox import Limits, UnusableFileError

WORK: Final = 2_000_000_000  # multiplications that the records drawn may cost a runtime
DRAWN: Final = 64  # records drawn, at the most
_ONLY_ZEROS: Final = "it loads; for want of records it was run on zeros, which may be no input for it, and said"
_OUTCOMES: Final[dict[str, Outcome]] = {"refused": "refuses", "crashed": "crashes", "stopped": "stopped"}
_ROUNDING: Final = 1e-4  # relative: floats that differ by less differ by the order of additions
AGAIN: Final = 4  # records that are asked a second time, in another order
_NOT_HELD: Final = "it is held to TFLite Micro's answers to single records, and there are none"

Records = Float[np.ndarray, "records size"]
Levels = Shaped[np.ndarray, "records classes"]


def draw(structure: Structure, macs: int | None, limits: Limits, rng: np.random.Generator) -> Records | None:
    """Records over the whole range of the input (of floating point: normal ones); None where one record is too much."""
    found = structure.inputs[0]
    port = port_of(found)
    per_record = 4 * max(port.size, port_of(structure.outputs[0]).size)
    if per_record * 2 > limits.output_bytes:
        return None
    count = min(DRAWN, max(2, WORK // max(1, macs or 1)), limits.output_bytes // per_record)
    if port.numbers == "float32":
        return np.asarray(rng.standard_normal((count, port.size)), dtype=np.float32)
    ends = np.iinfo(port.numbers)
    levels = rng.integers(ends.min, ends.max, (count, port.size), endpoint=True).astype(port.numbers)
    with np.errstate(over="ignore"):  # a hostile scale
        real = port.real(levels)
    return real if np.isfinite(real).all() else None


def port_of(found: PortFound) -> Port:
    """Only for a file that can be asked: its numbers are among those of a port."""
    numbers: Any = found.numbers
    return Port(found.shape, numbers, found.scale or 1.0, found.zero_point or 0)


def tried(model: bytes, limits: Limits, records: Records | None, batch: int = 1) -> tuple[Tried, ...]:
    """What every runtime made of a file, TFLite Micro first, to which the others are compared.

    `batch` is how many records the file takes at once, where it can be asked.
    """
    outcomes, device = [], None
    for runtime in sandbox.SANDBOXED:
        if runtime == "device-arithmetic" and (records is None or device is None):
            outcomes.append(Tried(runtime=runtime, outcome="not tried", reason=_NOT_HELD))
            continue
        outcome, levels = _one(model, limits, records, runtime)
        if records is not None and levels is not None and runtime != "device-arithmetic":
            outcome = _steady(model, limits, records, outcome, levels, batch)
            levels = levels if outcome.sound else None
        if runtime == "tflm":
            device = levels
        elif levels is not None and device is not None:
            outcome = outcome.model_copy(update=_difference(levels, device))
        outcomes.append(outcome)
    return tuple(outcomes)


def _one(model: bytes, limits: Limits, records: Records | None, runtime: str) -> tuple[Tried, Levels | None]:
    try:
        if records is not None:
            return Tried(runtime=runtime, outcome="takes"), sandbox.answers(model, records, runtime, limits).levels
        against = sandbox.can_load(model, runtime, limits)
    except UnusableFileError as error:
        return Tried(runtime=runtime, outcome=_OUTCOMES[error.ended], reason=str(error)), None
    except RuntimeMissingError as error:
        return Tried(runtime=runtime, outcome="not installed", reason=str(error)), None
    if against:
        return Tried(runtime=runtime, outcome="not tried", reason=f"{_ONLY_ZEROS}: {against}"), None
    return Tried(runtime=runtime, outcome="takes"), None


def _steady(model: bytes, limits: Limits, records: Records, asked: Tried, levels: Levels, batch: int) -> Tried:
    """Whether a few records asked again, the last first, and beside others in one batch, get the same answers."""
    turned = slice(min(AGAIN, len(records)) - 1, None, -1)
    try:
        again = sandbox.answers(model, records[turned], asked.runtime, limits).levels
        beside = (
            sandbox.answers(model, records[turned], asked.runtime, limits, together=True).levels if batch > 1 else again
        )
    except UnusableFileError as error:
        return Tried(runtime=asked.runtime, outcome=_OUTCOMES[error.ended], reason=str(error))
    found = {
        "repeats": bool((_bits(again) == _bits(levels[turned])).all()),
        "alone": _same(beside, again),
        "constant": len(levels) > 1 and bool((_bits(levels) == _bits(levels[:1])).all()),
    }
    return asked.model_copy(update=found)


def _difference(levels: Levels, device: Levels) -> dict[str, float | int | None]:
    """Rows, labels and the largest difference; of answers that are not finite those are left out."""
    if levels.shape != device.shape:
        return {"rows_differing": len(device)}
    with np.errstate(over="ignore", invalid="ignore"):
        away = np.abs(levels.astype(np.float64) - device.astype(np.float64))
    labels = int((levels.argmax(1) != device.argmax(1)).sum()) if device.shape[1] > 1 else None
    largest = float(away[np.isfinite(away)].max(initial=0.0))
    rows = int((_bits(levels) != _bits(device)).any(1).sum())
    return {"rows_differing": rows, "labels_differing": labels, "largest_difference": largest}


def _same(levels: Levels, others: Levels) -> bool:
    """Whether answers are equal, those in floating point up to the order of additions: kernels may work by rows."""
    if levels.dtype.kind != "f":
        return bool((levels == others).all())
    return bool(
        np.allclose(levels, others, rtol=_ROUNDING, atol=_ROUNDING * float(np.abs(others).max()), equal_nan=True)
    )


def _bits(levels: Levels) -> Shaped[np.ndarray, "records bytes"]:
    """The answers as bytes: what is no number is equal to itself."""
    return np.ascontiguousarray(levels).view(np.uint8).reshape(len(levels), -1)
