"""The runtimes that can execute an artefact here. TFLite Micro is the reference: it computes what the device does.

LiteRT rounds once where TFLite Micro and CMSIS-NN round twice (see docs/decisions/device-arithmetic-is-tflm.md), so
it is fast and approximate. All runtimes are given the same input bytes.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from jaxtyping import Float

from edge.artifact import Artifact, Levels
from edge.runtimes import arithmetic, lite, qemu, tflm
from edge.runtimes.runtime import CannotRunError, Runtime, RuntimeMissingError

__all__ = ["RUNTIMES", "CannotRunError", "Runtime", "RuntimeMissingError", "predict", "run"]


def predict(
    artifact: Artifact, x: Float[np.ndarray, "records ..."], runtime: str = "tflm"
) -> Float[np.ndarray, "records classes"]:
    """Scores (float32 logits or probabilities) for records in torch's layout: quantise, run, dequantise.

    Raises `ValueError` for a runtime that does not exist, `RuntimeMissingError` for one that is not installed, and
    `CannotRunError` for one that cannot execute this model.
    """
    return artifact.dequantize(run(artifact, artifact.quantize_input(x), runtime))


def run(artifact: Artifact, inputs: Levels, runtime: str = "tflm") -> Levels:
    """The answers to already quantised records, (records, classes), as numbers of the output's own format.

    Raises as `predict` does.
    """
    if runtime not in RUNTIMES:
        raise ValueError(f"runtime '{runtime}' does not exist; choose one of {', '.join(RUNTIMES)}")
    chosen = RUNTIMES[runtime]
    advice = chosen.missing()
    if advice is not None:
        raise RuntimeMissingError(f"runtime '{runtime}' cannot run here: {advice}")
    return chosen.run(artifact, inputs)


RUNTIMES: Final[dict[str, Runtime]] = {
    "tflm": tflm.TFLM,
    "device-arithmetic": arithmetic.DEVICE_ARITHMETIC,
    "litert": lite.LITERT,
    "tflite-runtime": lite.TFLITE_RUNTIME,
    "qemu": qemu.QEMU,
}
