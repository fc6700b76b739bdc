"""What can be done with a file, in the process of one job. Everything in here sees hostile bytes.

Whatever it needs is imported by the child beforehand: behind closed doors no module can be loaded.
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Final

import numpy as np

from edge.artifact import Artifact, ArtifactError
from edge.inspection import structure
from edge.runtimes import CannotRunError, run, tflm
from edge.sandbox import warm
from edge.sandbox.limits import UnusableFileError
from edge.sandbox.wire import HEADER_BYTES, Header, message
from edge.tflite.parser import DamagedError

SAID_BESIDES: Final = 2 * HEADER_BYTES + 8  # bytes that a job may say beside its answers
LIBRARIES: Final = {
    "tflm": (
        "tflite_micro.python.tflite_micro.runtime",
        "tflite_micro.tensorflow.lite.micro.python.schema_py_generated",
    ),
    "litert": ("ai_edge_litert.interpreter",),
    "device-arithmetic": ("edge.arithmetic", "numpy.random"),
}
_TOTAL: Final = re.compile(rb"Arena allocation total (\d+) bytes")
_WORDS: Final = 500  # characters of a reason
Answer = tuple[Header, list[bytes]]


def prepare(job: Header) -> None:
    """Import what a job needs, before it is forked; what is not installed will be missed there."""
    wanted = [*LIBRARIES["tflm"], *LIBRARIES[job.get("runtime", "tflm")]]
    if job["job"] == "work":
        wanted += ["edge.cost", "edge.reading"]  # the latter for counting
    for name in wanted:
        with suppress(ImportError):
            importlib.import_module(name)
    if job.get("runtime") == "litert":
        warm.litert()


def do(job: Header, blocks: list[bytes]) -> bytes:
    """The message that answers a job: what was found, or why there is nothing."""
    try:
        found, answers = JOBS[job["job"]](job, *blocks)
        return message({"found": found}, *answers)
    except MemoryError:
        return message({"refused": f"it needs more than {_megabytes(job)} of memory"})
    except (UnusableFileError, ArtifactError, CannotRunError, DamagedError) as error:
        return message({"refused": printable(str(error), _WORDS)})
    except ImportError as error:
        return message({"refused": f"not installed here: {printable(str(error), _WORDS)}"})
    except PermissionError as error:
        return message(
            {"refused": f"it asked for something that is not permitted here: {printable(str(error), _WORDS)}"}
        )
    except Exception as error:  # noqa: BLE001 - a library may raise anything over a damaged file
        return message({"refused": f"damaged: {type(error).__name__}: {printable(str(error), _WORDS)}"})


def printable(text: str, most: int) -> str:
    """At most so many characters, each a printable one of ASCII."""
    return structure.printable(text, most)


def _megabytes(job: Header) -> str:
    return f"{job['limits']['memory_bytes'] >> 20} MB"


def _structure(_: Header, model: bytes) -> Answer:
    return structure.read(model), []


def _work(_: Header, model: bytes) -> Answer:
    from edge.cost import count

    return asdict(count(model)), []


def _answers(job: Header, model: bytes, inputs: bytes) -> Answer:
    """The runtime's answers to real numbers, in the output's own format."""
    artifact = Artifact.from_bytes(model)
    records, size = job["shape"]
    _check_size(artifact, records, size, job["limits"]["output_bytes"])
    rows = np.frombuffer(inputs, np.float32).reshape(records, *artifact.input.shape[1:])
    levels = run(artifact, artifact.input.levels(rows), job["runtime"], job["together"])
    output = artifact.output
    shown = {"numbers": output.numbers, "scale": output.scale, "zero_point": output.zero_point}
    return {**shown, "answers": artifact.answers, "size": artifact.classes}, [np.ascontiguousarray(levels).tobytes()]


def _check_size(artifact: Artifact, records: int, size: int, most: int) -> None:
    for port in (artifact.input, artifact.output):
        if min(port.shape) < 1:
            raise UnusableFileError(f"damaged: a tensor of shape {port.shape}")
    if size != artifact.input.size:
        raise UnusableFileError(f"records of {size} numbers do not fit a model that takes {artifact.input.shape}")
    needed = records * artifact.classes * np.dtype(artifact.output.numbers).itemsize
    if needed > most:
        raise UnusableFileError(f"its answers are {needed} bytes; {most} are allowed. Ask fewer records at a time")


def _tries(job: Header, model: bytes) -> Answer:
    """Whether a runtime loads a file of any inputs and outputs, and what it said against running it on zeros."""
    return {"against_zeros": printable(_TRIES[job["runtime"]](model), _WORDS)}, []


def _try_tflm(model: bytes) -> str:
    try:
        interpreter = _loaded(model, max(tflm.MIN_ARENA, 10 * len(model)))
    except RuntimeError as error:
        raise CannotRunError(f"TFLite Micro refuses this model: {_last_line(_spoken()) or error}") from error
    try:
        _invoke_on_zeros(model, interpreter)
    except RuntimeError as error:
        return _last_line(_spoken()) or str(error)
    return ""


def _try_litert(model: bytes) -> str:
    from ai_edge_litert.interpreter import Interpreter

    try:
        interpreter = Interpreter(model_content=model, num_threads=1)
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise CannotRunError(f"LiteRT refuses this model: {_first_line(error)}") from error
    try:
        for each in interpreter.get_input_details():
            interpreter.set_tensor(each["index"], np.zeros(each["shape"], each["dtype"]))
        interpreter.invoke()
    except (RuntimeError, ValueError) as error:
        return _first_line(error)
    return ""


def _counts(_: Header, model: bytes) -> Answer:
    """TFLite Micro's own count of the arena, which it writes to standard error and nowhere else."""
    try:
        _on_zeros(model, max(tflm.MIN_ARENA, 10 * len(model))).print_allocations()
    except RuntimeError as error:
        raise CannotRunError(_last_line(_spoken()) or str(error)) from error
    found = _TOTAL.search(_spoken())
    if found is None:
        raise CannotRunError("TFLite Micro did not report its allocations")
    return {"bytes": int(found.group(1))}, []


def _fits(job: Header, model: bytes) -> Answer:
    """Whether one inference works in an arena of this size; one too small may crash."""
    _on_zeros(model, job["arena"])
    return {}, []


def _on_zeros(model: bytes, arena: int) -> Any:  # noqa: ANN401 - untyped library
    """An interpreter after one inference."""
    interpreter = _loaded(model, arena)
    _invoke_on_zeros(model, interpreter)
    return interpreter


def _loaded(model: bytes, arena: int) -> Any:  # noqa: ANN401 - untyped library
    from tflite_micro.python.tflite_micro import runtime

    return runtime.Interpreter.from_bytes(model, arena_size=arena)


def _invoke_on_zeros(model: bytes, interpreter: Any) -> None:  # noqa: ANN401 - untyped library
    for index in range(structure.inputs_of(model)):
        details = interpreter.get_input_details(index)
        interpreter.set_input(np.zeros(details["shape"], details["dtype"]), index)
    interpreter.invoke()


def _spoken() -> bytes:
    """What has been written to standard error, which is a file in memory."""
    return os.pread(2, os.fstat(2).st_size, 0)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _last_line(spoken: bytes) -> str:
    lines = [line for line in spoken.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else ""


JOBS: Final[dict[str, Callable[..., Answer]]] = {
    "structure": _structure,
    "work": _work,
    "answers": _answers,
    "tries": _tries,
    "counts": _counts,
    "fits": _fits,
}
_TRIES: Final[dict[str, Callable[[bytes], str]]] = {"tflm": _try_tflm, "litert": _try_litert}
