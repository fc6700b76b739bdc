"""How much working memory (the tensor arena) a model needs under TFLite Micro."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from edge import sandbox
from edge.sandbox import Limits, UnusableFileError


class ArenaError(RuntimeError):
    """The arena of a model could not be measured; the message names the file and what happened."""


def measure_arenas(paths: Sequence[Path], timeout: float = 120.0) -> list[int]:
    """The smallest arena, in bytes and to 16 bytes, in which TFLite Micro loads and runs each TFLite file on this host.

    On a 32-bit device the same model needs less: activations are equal, pointers are half as large. TFLite Micro's
    count on the host was at or above what Cortex-M4 firmware used, with reference and with CMSIS-NN kernels, for
    every one of eleven models measured, and this figure is never below that count: take it as an upper bound.

    Measured in the sandbox, because TFLite Micro may crash on a valid file. Raises `ArenaError` naming the file if
    it crashes, refuses the model, or not all of them are measured within `timeout` seconds.
    """
    end = time.monotonic() + timeout
    arenas = []
    for path in paths:
        try:
            arenas.append(sandbox.arena(path.read_bytes(), Limits(seconds=max(1e-3, end - time.monotonic()))))
        except (OSError, UnusableFileError) as error:
            raise ArenaError(f"{path}: {error}") from error
    return arenas
