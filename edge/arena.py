"""How much working memory (the tensor arena) a model needs under TFLite Micro."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

PROBE: Final = Path(__file__).with_name("arena_probe.py")


class ArenaError(RuntimeError):
    """The arena of a model could not be measured; the message names the file and what happened."""


def measure_arenas(paths: Sequence[Path], timeout: float = 120.0) -> list[int]:
    """The smallest arena, in bytes and to 16 bytes, in which TFLite Micro loads and runs each TFLite file on this host.

    On a 32-bit device the same model needs less: activations are equal, pointers are half as large. TFLite Micro's
    count on the host was at or above what Cortex-M4 firmware used, with reference and with CMSIS-NN kernels, for
    every one of eleven models measured, and this figure is never below that count: take it as an upper bound.

    All files are measured in one child process, because TFLite Micro may crash on a valid file. Raises `ArenaError`
    naming the file if the child crashes, refuses the model or is not done with all of them after `timeout` seconds.
    """
    if not paths:
        return []
    command = [sys.executable, "-P", str(PROBE), *(str(path.resolve()) for path in paths)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=timeout, check=False)  # noqa: S603 - our own script
    except subprocess.TimeoutExpired as expired:
        at = paths[len((expired.stdout or b"").split())]
        raise ArenaError(f"{at}: not measured within {timeout:g} seconds") from expired
    arenas = [int(line) for line in done.stdout.split()]
    if len(arenas) < len(paths):
        raise ArenaError(f"{paths[len(arenas)]}: {_reason(done.returncode, done.stderr)}")
    return arenas


def _reason(code: int, stderr: bytes) -> str:
    if code < 0:
        return f"TFLite Micro crashed on this model (signal {-code})"
    lines = [line for line in stderr.decode(errors="replace").splitlines() if line.strip()]
    return f"TFLite Micro refused this model: {lines[-1] if lines else 'without a message'}"
