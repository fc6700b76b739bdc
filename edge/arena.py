"""How much working memory (the tensor arena) a model needs under TFLite Micro."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge import sandbox
from edge.sandbox import Limits, UnusableFileError
from edge.tensors import packed, type_names, unpacked

SECONDS: Final = 60.0  # of CPU time, for each look at one file; a large one takes a second
SAMPLE: Final = 3  # further files of a structure that are measured as well
_READ_WHEN_LOADED: Final = ("INT32", "INT64", "BOOL")  # constants of these may be shapes, axes and paddings


class ArenaError(RuntimeError):
    """The arena of a model could not be measured; the message names the file and what happened."""


def measure_arenas(
    paths: Sequence[Path], seconds: float = SECONDS, done: Callable[[int], None] | None = None
) -> list[int]:
    """The smallest arena, in bytes and to 16 bytes, in which TFLite Micro loads and runs each TFLite file on this host.

    On a 32-bit device the same model needs less: activations are equal, pointers are half as large. TFLite Micro's
    count on the host was at or above what Cortex-M4 firmware used, with reference and with CMSIS-NN kernels, for
    every one of eleven models measured, and this figure is never below that count: take it as an upper bound.

    Files of one structure (operators, options, shapes and types, whatever the numbers in weights, scales and zero
    points) have one arena, which is measured once and checked on `SAMPLE` others of them; where one of these differs,
    all of that structure are measured. Measured in the sandbox, because TFLite Micro may crash on a valid file.
    `seconds` of CPU time are for each run of one file. `done` is told how many files are through.

    Raises `ArenaError` naming the file if it crashes, refuses the model, or takes longer.
    """
    groups: dict[str, list[int]] = {}
    for index, path in enumerate(paths):
        groups.setdefault(_structure(path), []).append(index)
    found: dict[int, int] = {}
    for members in groups.values():
        chosen = [members[at] for at in np.unique(np.linspace(0, len(members) - 1, SAMPLE + 1).astype(int))]
        measured = {index: _measured(paths[index], seconds) for index in chosen}
        if len(set(measured.values())) > 1:
            measured |= {index: _measured(paths[index], seconds) for index in members if index not in measured}
        found |= dict.fromkeys(members, measured[members[0]]) | measured
        if done is not None:
            done(len(found))
    return [found[index] for index in range(len(paths))]


def _measured(path: Path, seconds: float) -> int:
    try:
        return sandbox.arena(path.read_bytes(), Limits(seconds=seconds))
    except (OSError, UnusableFileError) as error:
        raise ArenaError(f"{path}: {error}") from error


def _structure(path: Path) -> str:
    """A hash of what TFLite Micro plans its memory by; of the whole file where that cannot be taken apart."""
    try:
        model = path.read_bytes()
    except OSError as error:
        raise ArenaError(f"{path}: {error}") from error
    try:
        return hashlib.sha256(packed(_without_numbers(unpacked(model)))).hexdigest()
    except Exception:  # noqa: BLE001 - a damaged file may raise anything here; it is measured by itself
        return hashlib.sha256(model).hexdigest()


def _without_numbers(whole: Any) -> Any:  # noqa: ANN401 - generated code, untyped
    """The same file with zeros for weights, and for scales and zero points as many ones and zeros."""
    kept = set()
    for graph in whole.subgraphs:
        for tensor in graph.tensors:
            kept |= {tensor.buffer} if _read_when_loaded(tensor) else set()
            for name, number in (("scale", 1.0), ("zeroPoint", 0)):
                values = getattr(tensor.quantization, name, None)
                if values is not None:
                    setattr(tensor.quantization, name, [number] * len(values))
            if tensor.quantization is not None:
                tensor.quantization.min = tensor.quantization.max = None
    for index, buffer in enumerate(whole.buffers):
        if buffer.data is not None and index not in kept:
            buffer.data = np.zeros(len(buffer.data), dtype=np.uint8)
    whole.metadata = None
    return whole


def _read_when_loaded(tensor: Any) -> bool:  # noqa: ANN401 - generated code, untyped
    quantization = tensor.quantization
    scaled = quantization is not None and quantization.scale is not None and len(quantization.scale) > 0
    return type_names()[tensor.type] in _READ_WHEN_LOADED and not scaled
