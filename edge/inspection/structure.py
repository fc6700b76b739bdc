"""What is in a file, as a table of plain values with bounded lengths and printable names. For a job's process only."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from math import isfinite
from typing import Any, Final

from edge.inspection import kinds
from edge.tflite.parser import File, Tensor, parse
from edge.tflite.scales import Flaw, dead_activations, wrong_biases
from edge.tflite.state import random_operators, states, unset

NAME: Final = 80  # characters of a name that are shown
OPERATORS: Final = 256  # kinds of operators that are shown
PORTS: Final = 64  # inputs, outputs, signatures, metadata that are shown
_COUNTED_OTHERWISE: Final = ("INT32", "INT64", "BOOL", "STRING")  # shapes and axes, unless they have a scale


def read(model: bytes) -> dict[str, Any]:
    """Everything that `edge.inspection.Structure` holds. Raises `DamagedError`."""
    file = parse(model)
    first, numbers = file.graphs[0], kinds.format_of(file)
    return {
        "schema_version": file.version,
        "description": printable(file.description),
        "metadata": [printable(name) for name in file.metadata[:PORTS]],
        "signatures": [printable(key) for key, _ in file.signatures[:PORTS]],
        "subgraphs": len(file.graphs),
        "operators": _counted(file),
        "inputs": [_port(first.tensors[index]) for index in first.inputs[:PORTS]],
        "outputs": [_port(first.tensors[index]) for index in first.outputs[:PORTS]],
        "parameters": sum(tensor.numbers for tensor in _weights(file)),
        "parameter_bytes": _bytes(file),
        "format": numbers,
        "kind": kinds.kind_of(file, numbers),
        "misread_constants": kinds.misread_constants(file),
        "compiled_for": kinds.compiled_for(file),
        "flex": [printable(name) for name in kinds.flex_operators(file)[:PORTS]],
        "states": [printable(state.words, 2 * NAME) for state in states(file)[:PORTS]],
        "unset": [printable(name) for name in unset(file)[:PORTS]],
        "random": list(random_operators(file)),
        "biases": [_flaw(each) for each in wrong_biases(file)[:PORTS]],
        "dead": [_flaw(each) for each in dead_activations(file)[:PORTS]],
        "ends_in": kinds.ends_in(file),
        "open_axes": _open_axes([first.tensors[index] for index in first.inputs]),
        "dynamic_batch": any(first.tensors[index].signature[:1] == (-1,) for index in first.inputs),
    }


def inputs_of(model: bytes) -> int:
    """How many inputs the first graph has, at the least 0."""
    return len(parse(model).graphs[0].inputs)


def printable(text: str, most: int = NAME) -> str:
    """At most so many characters, each a printable one of ASCII; others become question marks."""
    shown = "".join(character if " " <= character <= "~" else "?" for character in text[:most])
    return shown[: most - 3] + "..." if len(text) > most else shown


def _counted(file: File) -> dict[str, int]:
    counts = Counter(_named(op.kind, op.custom) for graph in file.graphs for op in graph.operators)
    return dict(counts.most_common(OPERATORS))


def _named(kind: str, custom: str) -> str:
    return f"CUSTOM {printable(custom) or '?'}" if kind == "CUSTOM" else kind


def _port(tensor: Tensor) -> dict[str, Any]:
    scale = float(tensor.scales[0]) if len(tensor.scales) else None
    return {
        "name": printable(tensor.name),
        "shape": list(tensor.shape),
        "shape_signature": list(tensor.signature[:8]),
        "numbers": tensor.type.lower(),
        "scale": scale if scale is not None and isfinite(scale) else None,
        "zero_point": int(tensor.zero_points[0]) if len(tensor.zero_points) else None,
    }


def _flaw(found: Flaw) -> dict[str, Any]:
    return {**asdict(found), "tensor": printable(found.tensor)}


def _open_axes(inputs: list[Tensor]) -> list[int]:
    """Axes behind the batch that the first input leaves open."""
    signature = inputs[0].signature if inputs else ()
    return [axis for axis, side in enumerate(signature[:8]) if side == -1 and axis > 0]


def _weights(file: File) -> list[Tensor]:
    """Constants that are not shapes or axes, each buffer once."""
    found: dict[int, Tensor] = {}
    for tensor in (each for graph in file.graphs for each in graph.tensors):
        if tensor.data and (tensor.type not in _COUNTED_OTHERWISE or len(tensor.scales)):
            found.setdefault(tensor.buffer, tensor)
    return list(found.values())


def _bytes(file: File) -> dict[str, int]:
    by_type: Counter[str] = Counter()
    for tensor in _weights(file):
        by_type[tensor.type.lower()] += tensor.data
    return dict(by_type)
