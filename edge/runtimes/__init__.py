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
from edge.tflite.parser import DamagedError

_COPIED: Final = 64 << 20  # bytes of records, copied to fill batches, that are held at once

__all__ = ["RUNTIMES", "CannotRunError", "Runtime", "RuntimeMissingError", "predict", "run"]


def predict(
    artifact: Artifact, x: Float[np.ndarray, "records ..."], runtime: str = "tflm"
) -> Float[np.ndarray, "records classes"]:
    """Scores (float32 logits or probabilities) for records in torch's layout: quantise, run, dequantise.

    Raises `ValueError` for a runtime that does not exist, `RuntimeMissingError` for one that is not installed, and
    `CannotRunError` for one that cannot execute this model.
    """
    return artifact.dequantize(run(artifact, artifact.quantize_input(x), runtime))


def run(artifact: Artifact, inputs: Levels, runtime: str = "tflm", together: bool = False) -> Levels:
    """The answers to already quantised records, (records, classes), as numbers of the output's own format.

    An answer depends on its record alone: each is asked from a fresh state, and where the file takes several records at
    once, its whole batch is that record. `together` fills batches with different records instead, the last one with
    those of the first again: to see whether neighbours matter. Raises as `predict` does.
    """
    if runtime not in RUNTIMES:
        raise ValueError(f"runtime '{runtime}' does not exist; choose one of {', '.join(RUNTIMES)}")
    chosen = RUNTIMES[runtime]
    advice = chosen.missing()
    if advice is not None:
        raise RuntimeMissingError(f"runtime '{runtime}' cannot run here: {advice}")
    try:
        return _in_batches(artifact, inputs, chosen, together)
    except DamagedError as error:
        raise CannotRunError(str(error)) from error


def _in_batches(artifact: Artifact, inputs: Levels, chosen: Runtime, together: bool) -> Levels:
    batch = artifact.batch
    if batch == 1 or len(inputs) == 0:
        return chosen.run(artifact, inputs)
    if together:
        filled = np.arange(-(-len(inputs) // batch) * batch) % len(inputs)
        return chosen.run(artifact, inputs[filled])[: len(inputs)]
    size = max(1, _COPIED // max(1, batch * inputs[0].nbytes))
    parts = [inputs[start : start + size] for start in range(0, len(inputs), size)]
    return np.concatenate([chosen.run(artifact, part.repeat(batch, axis=0))[::batch] for part in parts])


RUNTIMES: Final[dict[str, Runtime]] = {
    "tflm": tflm.TFLM,
    "device-arithmetic": arithmetic.DEVICE_ARITHMETIC,
    "litert": lite.LITERT,
    "tflite-runtime": lite.TFLITE_RUNTIME,
    "qemu": qemu.QEMU,
}
