"""TFLite Micro, one record at a time: the reference for what the device computes."""

from __future__ import annotations

from typing import Final

import numpy as np

from edge.artifact import Artifact, Levels
from edge.quiet import quiet_stderr
from edge.runtimes.runtime import CannotRunError, Runtime, needs

MIN_ARENA = 4 << 20  # bytes; a small arena saves nothing on the host, and one far too small crashes TFLite Micro


def _run(artifact: Artifact, inputs: Levels) -> Levels:
    from tflite_micro.python.tflite_micro import runtime

    arena = max(MIN_ARENA, 10 * len(artifact.model))
    outputs = np.empty((len(inputs), artifact.classes), dtype=artifact.output.numbers)
    try:
        with quiet_stderr():
            interpreter = runtime.Interpreter.from_bytes(artifact.model, arena_size=arena)
        for i in range(len(inputs)):
            interpreter.set_input(inputs[i : i + 1], 0)  # before every run: the arena is used again for activations
            interpreter.invoke()
            outputs[i] = interpreter.get_output(0).reshape(-1)
    except RuntimeError as error:
        said = [line for note in getattr(error, "__notes__", ()) for line in note.splitlines() if line.strip()]
        raise CannotRunError(f"TFLite Micro refuses this model: {said[-1] if said else error}") from error
    return outputs


TFLM: Final = Runtime(
    "TFLite Micro: bit for bit what the microcontroller computes; the reference",
    needs("tflite_micro", "tflite-micro"),
    _run,
)
