"""LiteRT and its predecessor tflite-runtime: what phones and larger boards run. They share one interface."""

from __future__ import annotations

import importlib.util
from typing import Any, Final

import numpy as np

from edge.artifact import Artifact, Levels
from edge.quiet import quiet_stderr
from edge.runtimes.runtime import CannotRunError, Runtime, needs


def _run_litert(artifact: Artifact, inputs: Levels) -> Levels:
    from ai_edge_litert.interpreter import Interpreter

    return _run(Interpreter, artifact, inputs)


def _run_tflite_runtime(artifact: Artifact, inputs: Levels) -> Levels:
    from tflite_runtime.interpreter import Interpreter

    return _run(Interpreter, artifact, inputs)


def _run(kind: Any, artifact: Artifact, inputs: Levels) -> Levels:  # noqa: ANN401 - untyped libraries
    """One record at a time: batches fail where a shape is fixed."""
    try:
        with quiet_stderr():
            interpreter = kind(model_content=artifact.model, num_threads=1)
            interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise CannotRunError(f"LiteRT refuses this model: {str(error).strip().splitlines()[0]}") from error
    source, result = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    outputs = np.empty((len(inputs), artifact.classes), dtype=artifact.output.numbers)
    for i in range(len(inputs)):
        interpreter.set_tensor(source, inputs[i : i + 1])
        interpreter.invoke()
        outputs[i] = interpreter.get_tensor(result).reshape(-1)
    return outputs


def _tflite_runtime_missing() -> str | None:
    advice = "make an environment for it with `pip install tflite-runtime==2.14.0 'numpy<2'`"
    if int(np.__version__.split(".")[0]) >= 2:
        return f"it was built for NumPy 1 and this is NumPy {np.__version__}; {advice}"
    return None if importlib.util.find_spec("tflite_runtime") else f"it is not installed; {advice}"


LITERT: Final = Runtime(
    "LiteRT (formerly TensorFlow Lite): fast, but it rounds differently from the device",
    needs("ai_edge_litert", "ai-edge-litert"),
    _run_litert,
)
TFLITE_RUNTIME: Final = Runtime(
    "tflite-runtime 2.14: LiteRT's predecessor on older phones and boards; needs NumPy 1",
    _tflite_runtime_missing,
    _run_tflite_runtime,
)
