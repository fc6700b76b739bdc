"""How much working memory (the tensor arena) a model needs under TFLite Micro."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

PROBE: Final = Path(__file__).with_name("arena_probe.py")
MARK: Final = "seepage-arena-file"  # the probe writes it before each file
TOTAL: Final = re.compile(r"Arena allocation total (\d+) bytes")


class ArenaError(RuntimeError):
    """The arena of a model could not be measured; the message names the file and what happened."""


def measure_arenas(paths: Sequence[Path], timeout: float = 120.0) -> list[int]:
    """Arena bytes of each TFLite file, in order, as TFLite Micro itself counts them on this host after one inference.

    On a 32-bit device the same model needs less: activations are equal, pointers are half as large. The figure was
    at or above what Cortex-M4 firmware used, with reference and with CMSIS-NN kernels, for every one of eleven
    models measured, so it is an upper bound there. An arena of exactly this many bytes loads nearly every model; a
    few need some hundred more while they are being set up.

    All files are measured in one child process, because TFLite Micro may crash on a valid file. Raises `ArenaError`
    naming the file if the child crashes, refuses the model or is not done after `timeout` seconds.
    """
    if not paths:
        return []
    command = [sys.executable, "-P", str(PROBE), MARK, *(str(path.resolve()) for path in paths)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=timeout, check=False)  # noqa: S603 - our own script
    except subprocess.TimeoutExpired as expired:
        segments = _segments(expired.stderr)
        raise ArenaError(f"{_current(paths, segments)}: not measured within {timeout:g} seconds") from expired
    segments = _segments(done.stderr)
    totals = [TOTAL.search(segment) for segment in segments]
    if done.returncode != 0 or len(totals) != len(paths) or None in totals:
        raise ArenaError(f"{_current(paths, segments)}: {_reason(done.returncode, segments)}")
    return [int(total.group(1)) for total in totals if total]


def _segments(stderr: bytes | None) -> list[str]:
    """What was written to standard error, per file."""
    return (stderr or b"").decode(errors="replace").split(f"{MARK}\n")[1:]


def _current(paths: Sequence[Path], segments: Sequence[str]) -> Path:
    """The file the child was at when it stopped."""
    return paths[max(len(segments), 1) - 1]


def _reason(code: int, segments: Sequence[str]) -> str:
    if code < 0:
        return f"TFLite Micro crashed on this model (signal {-code})"
    lines = [line for line in (segments[-1] if segments else "").splitlines() if line.strip()]
    return f"TFLite Micro refused this model: {lines[-1] if lines else 'without a message'}"
