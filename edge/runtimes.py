"""The runtimes that can execute an artefact here. TFLite Micro is the reference: it computes what the device does.

LiteRT rounds once where TFLite Micro and CMSIS-NN round twice (see docs/decisions/device-arithmetic-is-tflm.md), so
it is fast and approximate. All runtimes are given the same int8 bytes.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from jaxtyping import Float, Int8

from edge.artifact import Artifact
from edge.quiet import quiet_stderr

Inputs = Int8[np.ndarray, "records ..."]
Outputs = Int8[np.ndarray, "records classes"]
MIN_ARENA = 4 << 20  # bytes; a small arena saves nothing on the host, and one far too small crashes TFLite Micro


class RuntimeMissingError(RuntimeError):
    """The runtime is not installed here; the message says how to get it."""


@dataclass(frozen=True)
class Runtime:
    """One way to execute an artefact: `run` takes quantised records, channels last, and returns int8 scores.

    `missing` says what to do where the runtime is not available, and None where it is.
    """

    description: str
    missing: Callable[[], str | None]
    run: Callable[[Artifact, Inputs], Outputs]


def predict(
    artifact: Artifact, x: Float[np.ndarray, "records ..."], runtime: str = "tflm"
) -> Float[np.ndarray, "records classes"]:
    """Scores (float32 logits or probabilities) for records in torch's layout: quantise, run, dequantise.

    Raises `ValueError` for a runtime that does not exist and `RuntimeMissingError` for one that is not installed.
    """
    return artifact.dequantize(run(artifact, artifact.quantize_input(x), runtime))


def run(artifact: Artifact, inputs: Inputs, runtime: str = "tflm") -> Outputs:
    """The int8 scores of already quantised records. Raises as `predict` does."""
    if runtime not in RUNTIMES:
        raise ValueError(f"runtime '{runtime}' does not exist; choose one of {', '.join(RUNTIMES)}")
    chosen = RUNTIMES[runtime]
    advice = chosen.missing()
    if advice is not None:
        raise RuntimeMissingError(f"runtime '{runtime}' cannot run here: {advice}")
    return chosen.run(artifact, inputs)


def _run_tflm(artifact: Artifact, inputs: Inputs) -> Outputs:
    from tflite_micro.python.tflite_micro import runtime

    arena = max(MIN_ARENA, 10 * len(artifact.model))
    interpreter = runtime.Interpreter.from_bytes(artifact.model, arena_size=arena)
    outputs = np.empty((len(inputs), artifact.classes), dtype=np.int8)
    for i in range(len(inputs)):
        interpreter.set_input(inputs[i : i + 1], 0)  # before every run: the arena is used again for activations
        interpreter.invoke()
        outputs[i] = interpreter.get_output(0)[0]
    return outputs


def _run_litert(artifact: Artifact, inputs: Inputs) -> Outputs:
    from ai_edge_litert.interpreter import Interpreter

    return _run_lite(Interpreter(model_content=artifact.model, num_threads=1), artifact, inputs)


def _run_tflite_runtime(artifact: Artifact, inputs: Inputs) -> Outputs:
    from tflite_runtime.interpreter import Interpreter

    return _run_lite(Interpreter(model_content=artifact.model, num_threads=1), artifact, inputs)


def _run_lite(interpreter: Any, artifact: Artifact, inputs: Inputs) -> Outputs:  # noqa: ANN401 - untyped library
    """LiteRT and its predecessor share one interface. One record at a time: batches fail where a shape is fixed."""
    with quiet_stderr():
        interpreter.allocate_tensors()
    source, result = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    outputs = np.empty((len(inputs), artifact.classes), dtype=np.int8)
    for i in range(len(inputs)):
        interpreter.set_tensor(source, inputs[i : i + 1])
        interpreter.invoke()
        outputs[i] = interpreter.get_tensor(result)[0]
    return outputs


def _needs(module: str, package: str) -> Callable[[], str | None]:
    return lambda: None if importlib.util.find_spec(module) else f"install it with `pip install {package}`"


def _tflite_runtime_missing() -> str | None:
    advice = "make an environment for it with `pip install tflite-runtime==2.14.0 'numpy<2'`"
    if int(np.__version__.split(".")[0]) >= 2:
        return f"it was built for NumPy 1 and this is NumPy {np.__version__}; {advice}"
    return None if importlib.util.find_spec("tflite_runtime") else f"it is not installed; {advice}"


RUNTIMES: Final[dict[str, Runtime]] = {
    "tflm": Runtime(
        "TFLite Micro: bit for bit what the microcontroller computes; the reference",
        _needs("tflite_micro", "tflite-micro"),
        _run_tflm,
    ),
    "litert": Runtime(
        "LiteRT (formerly TensorFlow Lite): fast, but it rounds differently from the device",
        _needs("ai_edge_litert", "ai-edge-litert"),
        _run_litert,
    ),
    "tflite-runtime": Runtime(
        "tflite-runtime 2.14: LiteRT's predecessor on older phones and boards; needs NumPy 1",
        _tflite_runtime_missing,
        _run_tflite_runtime,
    ),
}
