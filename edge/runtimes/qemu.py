"""Firmware in QEMU: the model compiled for a Cortex-M4 with CMSIS-NN, all records in one start of the emulator."""

from __future__ import annotations

import tempfile
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from edge.artifact import Artifact, Levels
from edge.runtimes.runtime import CannotRunError, Runtime
from edge.tflite.state import listed, states_of

if TYPE_CHECKING:
    from edge.firmware import Firmware

CORE: Final = "cortex-m4"


def _run(artifact: Artifact, inputs: Levels) -> Levels:
    from edge.firmware import FirmwareError, run

    if len(inputs) == 0:
        return np.empty((0, artifact.classes), dtype=artifact.output.numbers)
    if found := states_of(artifact.model):
        raise CannotRunError(f"firmware of this model cannot be made: it keeps a state ({listed(found)})")
    if artifact.batch != 1:
        raise CannotRunError(f"firmware of this model cannot be made: it takes {artifact.batch} records at once, not 1")
    try:
        return run(_built(artifact.model), inputs).outputs
    except FirmwareError as error:
        raise CannotRunError(f"firmware of this model does not run: {error}") from error


@lru_cache(maxsize=32)
def _built(model: bytes) -> Firmware:
    """Compiled once as long as the process remembers it."""
    from edge.firmware import build

    return build(model, Path(tempfile.mkdtemp(dir=_folder().name)), CORE)


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """Removed when the process ends."""
    return tempfile.TemporaryDirectory(prefix="seepage-firmware-")


def _missing() -> str | None:
    from edge.firmware import missing

    return missing()


QEMU: Final = Runtime(
    "firmware (bakenn, CMSIS-NN, gcc) on an emulated Cortex-M4: what the device computes, instruction by instruction",
    _missing,
    _run,
)
