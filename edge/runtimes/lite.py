"""LiteRT and its predecessor tflite-runtime: what phones and larger boards run. They share one interface."""

from __future__ import annotations

import importlib.util
from typing import Any, Final

import numpy as np

from edge.artifact import Artifact, Levels
from edge.quiet import quiet_stderr
from edge.runtimes.runtime import CannotRunError, Runtime, needs
from edge.tflite.state import needs_fresh_start


def _run_litert(artifact: Artifact, inputs: Levels) -> Levels:
    from ai_edge_litert.interpreter import Interpreter

    return _run(Interpreter, artifact, inputs)


def _run_tflite_runtime(artifact: Artifact, inputs: Levels) -> Levels:
    from tflite_runtime.interpreter import Interpreter

    return _run(Interpreter, artifact, inputs)


def _run(kind: Any, artifact: Artifact, inputs: Levels) -> Levels:  # noqa: ANN401 - untyped libraries
    """One batch of the file's own size at a time: others fail where a shape is fixed."""
    fresh, batch = needs_fresh_start(artifact.model), artifact.batch
    outputs = np.empty((len(inputs), artifact.classes), dtype=artifact.output.numbers)
    try:
        interpreter = _started(kind, artifact)
        source, result = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
        for i in range(0, len(inputs), batch):
            if fresh and i > 0:
                interpreter = _started(kind, artifact)
            interpreter.set_tensor(source, inputs[i : i + batch])
            interpreter.invoke()
            outputs[i : i + batch] = interpreter.get_tensor(result).reshape(batch, -1)
    except (RuntimeError, ValueError) as error:
        raise CannotRunError(f"LiteRT refuses this model: {str(error).strip().splitlines()[0]}") from error
    return outputs


def _started(kind: Any, artifact: Artifact) -> Any:  # noqa: ANN401 - untyped libraries
    """An interpreter as after loading: `reset_all_variables` leaves resource variables as they are."""
    with quiet_stderr():
        interpreter = kind(model_content=artifact.model, num_threads=1)
        interpreter.allocate_tensors()
    return interpreter


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
