"""Files made by somebody else, read and run in a process that can do nothing else.

A file is hostile until shown otherwise. This process never parses one: a child does, which forks once per job, and
the fork gives up files, network, other processes, and all but a share of time and memory before it looks at the file.
What comes back is checked JSON and arrays of bounded size.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Final

import numpy as np
from jaxtyping import Float, Shaped
from pydantic import BaseModel, Field

from edge.artifact import Numbers, Port
from edge.runtimes import RUNTIMES, RuntimeMissingError
from edge.sandbox import parent
from edge.sandbox.limits import Limits, UnusableFileError
from edge.sandbox.wire import Header

__all__ = ["SANDBOXED", "Answers", "Limits", "UnusableFileError", "answers", "arena", "can_load"]

SANDBOXED: Final = ("tflm", "device-arithmetic", "litert")
_MARGIN: Final = 1 << 16  # bytes that setting a model up may need beyond running it; the most seen was 4,700
_SAID: Final = 1000  # characters of a runtime's words
_STEP: Final = 16  # bytes; what allocations are aligned to


@dataclass(frozen=True)
class Answers:
    """What a file answered: `levels` in its own numbers, (records, size), and `real`, the same as float32.

    `limits` says what held for the process it ran in.
    """

    real: Float[np.ndarray, "records size"] = field(repr=False)
    levels: Shaped[np.ndarray, "records size"] = field(repr=False)
    limits: tuple[str, ...] = ()


def answers(
    model: bytes,
    inputs: Float[np.ndarray, "records ..."],
    runtime: str = "tflm",
    limits: Limits | None = None,
    together: bool = False,
) -> Answers:
    """Ask a file made by somebody else: real numbers in the file's own layout, channels last, one row per record.

    Each record is asked alone and from a fresh state; with `together`, a file that takes several records at once is
    given different ones (see `edge.runtimes.run`).

    The limits hold for all records together: allow more seconds for more of them. Raises `ValueError` for a runtime
    that cannot run in a sandbox and for records that are not finite or fill more than a quarter of the memory allowed,
    `RuntimeMissingError` for a runtime that is not installed, and `UnusableFileError` where the file is damaged,
    refused, of another shape, or ended its process.
    """
    _check_runtime(runtime)
    limits = limits or Limits()
    rows = _rows(inputs, limits)
    job = {"job": "answers", "runtime": runtime, "shape": list(rows.shape), "together": together}
    found, blocks, held = parent.do(job, limits, model, rows.tobytes())
    port, levels = _levels(found, blocks, len(rows))
    with np.errstate(over="ignore", invalid="ignore"):  # a hostile scale
        return Answers(port.real(levels), levels, held)


def can_load(model: bytes, runtime: str, limits: Limits | None = None) -> str:
    """Load a file with any inputs and outputs, and run it on zeros; raises `UnusableFileError` where it does not load.

    Returns what the runtime said against the zeros, or nothing: a shape or an index of zero may be no input that the
    file is for, and a runtime that refuses those has not refused the file.
    """
    _check_runtime(runtime)
    said = parent.do({"job": "tries", "runtime": runtime}, limits or Limits(), model)[0].get("against_zeros", "")
    if not isinstance(said, str) or len(said) > _SAID or not said.isascii() or not said.isprintable():
        raise UnusableFileError("its process gave an answer that cannot be read", "crashed")
    return said


def arena(model: bytes, limits: Limits | None = None) -> int:
    """The smallest arena, in bytes and to 16 bytes, in which TFLite Micro loads and runs a file on this host.

    Starts from TFLite Micro's own count, as setting up can need more than running. Raises `UnusableFileError`.
    """
    limits = limits or Limits()
    count = parent.do({"job": "counts"}, limits, model)[0].get("bytes")
    if type(count) is not int or not 0 < count <= limits.memory_bytes:
        raise UnusableFileError("TFLite Micro's count of the arena cannot be read")
    low, more = count - _STEP, 0  # does not fit; what was added to the count
    while not _fits(model, count + more, limits):
        if more >= max(count, _MARGIN):
            raise UnusableFileError(f"TFLite Micro counts {count} bytes of arena and does not load with {more} more")
        low, more = count + more, max(_STEP, 2 * more)
    return _smallest(model, low, count + more, limits)


def _smallest(model: bytes, low: int, high: int, limits: Limits) -> int:
    """By halves, between an arena that is too small and one that is not."""
    while high - low > _STEP:
        middle = low + (high - low) // _STEP // 2 * _STEP
        low, high = (low, middle) if _fits(model, middle, limits) else (middle, high)
    return high


def _fits(model: bytes, size: int, limits: Limits) -> bool:
    try:
        parent.do({"job": "fits", "arena": size}, limits, model)
    except UnusableFileError as error:
        if error.ended == "stopped":
            raise
        return False
    return True


def _check_runtime(runtime: str) -> None:
    if runtime not in SANDBOXED:
        raise ValueError(f"runtime '{runtime}' does not run in a sandbox; choose one of {', '.join(SANDBOXED)}")
    advice = RUNTIMES[runtime].missing()
    if advice is not None:
        raise RuntimeMissingError(f"runtime '{runtime}' cannot run here: {advice}")


def _rows(inputs: Float[np.ndarray, "records ..."], limits: Limits) -> Float[np.ndarray, "records size"]:
    rows = np.asarray(inputs)
    if rows.ndim < 2 or rows.size == 0 or rows.dtype.kind not in "fiub":
        raise ValueError(f"inputs of shape {rows.shape} and type {rows.dtype}: wanted numbers, one row per record")
    if 4 * rows.size > limits.memory_bytes // 4:
        raise ValueError(
            f"inputs of {4 * rows.size} bytes: {limits.memory_bytes // 4} at the most. Ask fewer at a time"
        )
    with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite, and is refused
        rows = np.ascontiguousarray(rows.reshape(len(rows), -1), dtype=np.float32)
    if not np.isfinite(rows).all():
        raise ValueError("inputs hold numbers that are not finite; leave these records out or fill them")
    return rows


class _Shown(BaseModel):
    """What a job says of the answers it sends along."""

    numbers: Numbers
    scale: Annotated[float, Field(allow_inf_nan=False)]
    zero_point: Annotated[int, Field(ge=-(1 << 31), lt=1 << 31)]
    size: Annotated[int, Field(gt=0)]


def _levels(found: Header, blocks: list[bytes], records: int) -> tuple[Port, np.ndarray[Any, Any]]:
    """The answers, if they are what they should be; the process that gave them may be anybody's."""
    try:
        shown = _Shown.model_validate(found)
        (block,) = blocks
        levels = np.frombuffer(block, np.dtype(shown.numbers)).reshape(records, shown.size)
    except ValueError as error:
        raise UnusableFileError("its process gave answers that cannot be read", "crashed") from error
    return Port((1, shown.size), shown.numbers, shown.scale, shown.zero_point), levels
