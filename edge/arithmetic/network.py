"""A TFLite file as a list of operators, with the quantisation of what goes in and comes out of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

import numpy as np

from edge.runtimes.runtime import CannotRunError
from edge.tensors import kinds_of, unpacked
from edge.tflite.parser import DamagedError
from edge.tflite.state import listed, states_of

_SIZES: Final = {"int8": (-128, 127), "int16": (-(1 << 15), (1 << 15) - 1), "uint8": (0, 255)}


@dataclass(frozen=True)
class Slot:
    """A tensor of the file: an activation, or a constant with `values`.

    Of whole numbers real = scale * (level - zero point), with a scale per output channel or one for all. `shape` is
    the file's, with its own leading 1.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    numbers: str
    scales: np.ndarray[Any, Any] = field(repr=False)
    zero_points: np.ndarray[Any, Any] = field(repr=False)
    values: np.ndarray[Any, Any] | None = field(repr=False)

    @property
    def scale(self) -> float:
        """The scale of an activation: a float32, as TFLite Micro takes it."""
        return float(self.scales[0])

    @property
    def zero_point(self) -> int:
        """The zero point of an activation; 0 where there is none."""
        return int(self.zero_points[0]) if len(self.zero_points) else 0

    @property
    def limits(self) -> tuple[int, int]:
        """The lowest and the highest level there is."""
        return _SIZES[self.numbers]

    @property
    def whole(self) -> bool:
        """Whether the numbers stand for real ones by one scale and zero point."""
        return self.numbers in _SIZES and len(self.scales) == 1


@dataclass(frozen=True)
class Node:
    """An operator with one output; inputs that are left out are None."""

    kind: str
    inputs: tuple[Slot | None, ...]
    output: Slot
    options: Any = field(repr=False)  # generated code, untyped
    code: Any = field(repr=False)
    operator: Any = field(repr=False)

    @property
    def first(self) -> Slot:
        """The activation that the operator works on."""
        slot = self.inputs[0] if self.inputs else None
        if slot is None:
            raise self.refusal("has no input")
        return slot

    def option(self, name: str, otherwise: int = 0) -> int:
        """A whole-number option, with what it is when the file leaves it out."""
        return int(getattr(self.options, name, otherwise))

    def constant(self, position: int) -> np.ndarray[Any, Any]:
        """The values of an input that must be a constant."""
        slot = self.inputs[position] if position < len(self.inputs) else None
        if slot is None or slot.values is None:
            raise self.refusal(f"has an input {position} that is computed, not a constant")
        return slot.values

    def refusal(self, reason: str) -> CannotRunError:
        """The error to raise where this engine does not do what the file asks for."""
        return CannotRunError(f"device-arithmetic cannot run this model: {self.kind} ('{self.output.name}') {reason}")


@dataclass(frozen=True)
class Network:
    """The operators in the order of execution, and the two ends."""

    nodes: tuple[Node, ...]
    source: Slot
    result: Slot


def network(model: bytes) -> Network:
    """Read a file.

    Raises `CannotRunError` for a damaged file; a state that is kept between records, since they are answered side by
    side; more than one graph, a batch of several records, or an operator with more than one output.
    """
    try:
        found = states_of(model)
    except DamagedError as error:
        raise CannotRunError(f"device-arithmetic cannot run this model: {error}") from error
    if found:
        raise CannotRunError(f"device-arithmetic cannot run this model: it keeps a state ({listed(found)})")
    whole = unpacked(model)
    if len(whole.subgraphs) != 1:
        raise CannotRunError(f"device-arithmetic cannot run this model: it has {len(whole.subgraphs)} graphs, not one")
    graph = whole.subgraphs[0]
    slots = {index: _slot(whole, tensor, index) for index, tensor in enumerate(graph.tensors)}
    if slots[int(graph.inputs[0])].shape[:1] != (1,):
        raise CannotRunError("device-arithmetic cannot run this model: it does not take one record at a time")
    nodes = tuple(_nodes(whole, graph, slots))
    return Network(nodes, slots[int(graph.inputs[0])], slots[int(graph.outputs[0])])


def _nodes(whole: Any, graph: Any, slots: dict[int, Slot]) -> Iterator[Node]:  # noqa: ANN401 - generated code
    for kind, operator in zip(kinds_of(whole), graph.operators, strict=True):
        if len(operator.outputs) != 1:
            raise CannotRunError(
                f"device-arithmetic cannot run this model: {kind} has {len(operator.outputs)} outputs, not one"
            )
        yield Node(
            kind=kind,
            inputs=tuple(slots.get(int(index)) for index in operator.inputs),
            output=slots[int(operator.outputs[0])],
            options=operator.builtinOptions,
            code=whole.operatorCodes[operator.opcodeIndex],
            operator=operator,
        )


def _slot(whole: Any, tensor: Any, index: int) -> Slot:  # noqa: ANN401 - generated code, untyped
    numbers, quantization = _number_names().get(tensor.type, "unknown"), tensor.quantization
    return Slot(
        index=index,
        name=(tensor.name or b"").decode(errors="replace"),
        shape=tuple(int(side) for side in _listed(tensor.shape)),
        numbers=numbers,
        scales=np.asarray(_listed(quantization and quantization.scale), dtype=np.float32),
        zero_points=np.asarray(_listed(quantization and quantization.zeroPoint), dtype=np.int64),
        values=_values(whole.buffers[tensor.buffer].data, numbers, tensor.shape),
    )


def _listed(values: Any) -> Any:  # noqa: ANN401 - a list, an array or nothing
    return [] if values is None else values


def _values(data: Any, numbers: str, shape: Any) -> np.ndarray[Any, Any] | None:  # noqa: ANN401 - generated code
    if data is None or len(data) == 0 or numbers == "unknown":
        return None
    sides = tuple(int(side) for side in _listed(shape))
    if numbers == "int4":
        return _nibbles(np.asarray(data, dtype=np.uint8))[: int(np.prod(sides))].reshape(sides)
    return np.frombuffer(bytes(bytearray(data)), dtype=numbers).reshape(sides)


def _nibbles(packed: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Two weights in a byte, the lower half first, as int8."""
    halves = np.stack([packed & 15, packed >> 4], axis=1).reshape(-1).astype(np.int8)
    return np.where(halves > 7, halves - 16, halves).astype(np.int8)


@cache
def _number_names() -> dict[int, str]:
    from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

    known = ("int4", "int8", "int16", "uint8", "int32", "int64", "float32")
    return {getattr(schema.TensorType, name.upper()): name for name in known}
