"""Batched answers are used only for models on which they have been seen to equal TFLite Micro's."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from edge.arithmetic.graph import Compiled, compiled
from edge.artifact import Artifact, Levels, Port
from edge.runtimes.runtime import CannotRunError
from edge.runtimes.tflm import TFLM

_RECORDS = 12


@lru_cache(maxsize=64)
def checked(artifact: Artifact) -> Compiled:
    """The model as a function on batches, after it gave TFLite Micro's answers to a dozen random records.

    Raises `CannotRunError` where an operator is not supported, or an answer differed.
    """
    batched, inputs = compiled(artifact.model), _records(artifact.input)
    wanted = TFLM.run(artifact, inputs)
    try:
        differing = int((batched(inputs) != wanted).any(axis=1).sum())
    except (IndexError, ValueError) as error:
        raise CannotRunError(f"device-arithmetic cannot run this model: {error}") from error
    if differing:
        raise CannotRunError(
            f"device-arithmetic differs from TFLite Micro in {differing} of {len(inputs)} random records of this model"
        )
    return batched


def exact(artifact: Artifact) -> str:
    """The quickest runtime whose answers are the device's: "device-arithmetic" where it is able, else "tflm"."""
    try:
        checked(artifact)
    except CannotRunError:
        return "tflm"
    return "device-arithmetic"


def _records(port: Port) -> Levels:
    """Records over the whole range, two of which hold one of its ends throughout."""
    rng = np.random.default_rng(0)
    shape = (_RECORDS, *port.shape[1:])
    if port.numbers == "float32":
        return rng.normal(size=shape).astype(np.float32) * np.logspace(-1, 1, _RECORDS).reshape(
            -1, *[1] * (len(shape) - 1)
        ).astype(np.float32)
    ends = np.iinfo(port.numbers)
    levels = rng.integers(ends.min, ends.max + 1, shape)
    levels[0], levels[1] = ends.min, ends.max
    return levels.astype(port.numbers)
