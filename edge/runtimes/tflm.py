"""TFLite Micro, one batch of the file at a time: the reference for what the device computes."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from edge.artifact import Artifact, Levels
from edge.quiet import quiet_stderr
from edge.runtimes.runtime import CannotRunError, Runtime, needs
from edge.tflite.state import needs_fresh_start

MIN_ARENA = 4 << 20  # bytes; a small arena saves nothing on the host, and one far too small crashes TFLite Micro
ZEROED_ARENA = 48 << 20  # bytes: above 32 MB (glibc) an allocation is always new pages, which are zero until touched


def _run(artifact: Artifact, inputs: Levels) -> Levels:
    fresh, batch = needs_fresh_start(artifact.model), artifact.batch
    outputs = np.empty((len(inputs), artifact.classes), dtype=artifact.output.numbers)
    try:
        interpreter = _started(artifact, fresh)
        for i in range(0, len(inputs), batch):
            if fresh and i > 0:
                interpreter = _started(artifact, fresh)
            interpreter.set_input(inputs[i : i + batch], 0)  # before every run: the arena is used for activations too
            interpreter.invoke()
            outputs[i : i + batch] = interpreter.get_output(0).reshape(batch, -1)
    except RuntimeError as error:
        said = [line for note in getattr(error, "__notes__", ()) for line in note.splitlines() if line.strip()]
        raise CannotRunError(f"TFLite Micro refuses this model: {said[-1] if said else error}") from error
    return outputs


def _started(artifact: Artifact, fresh: bool) -> Any:  # noqa: ANN401 - untyped library
    """An interpreter as after switching on: its own `reset` does not bring every operator back to that.

    TFLite Micro does not clear its arena, and operators such as CIRCULAR_BUFFER begin with what is in it: zeros on a
    device, the last interpreter's numbers where malloc hands out the same memory again.
    """
    from tflite_micro.python.tflite_micro import runtime

    arena = max(ZEROED_ARENA if fresh else MIN_ARENA, 10 * len(artifact.model))
    with quiet_stderr():
        return runtime.Interpreter.from_bytes(artifact.model, arena_size=arena)


TFLM: Final = Runtime(
    "TFLite Micro: bit for bit what the microcontroller computes; the reference",
    needs("tflite_micro", "tflite-micro"),
    _run,
)
