"""A TFLite file as plain values, each index, shape and length checked before it is used.

Only a job's process may call `parse` on a file that somebody else made.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from math import prod
from typing import Any, Final

import numpy as np

MOST: Final = {"graphs": 64, "tensors": 20_000, "operators": 20_000, "codes": 4096, "buffers": 100_000, "names": 256}
RANK, ELEMENTS = 8, 1 << 31  # no tensor has more axes, or more numbers
BITS: Final = {
    **dict.fromkeys(("FLOAT64", "INT64", "UINT64"), 64),
    **dict.fromkeys(("FLOAT32", "INT32", "UINT32"), 32),
    **dict.fromkeys(("FLOAT16", "BFLOAT16", "INT16", "UINT16"), 16),
    **dict.fromkeys(("INT8", "UINT8", "BOOL"), 8),
    **dict.fromkeys(("INT4", "UINT4"), 4),
    "INT2": 2,
}
_SCRATCH: Final = ("CUSTOM", "DELEGATE")
COMPRESSED: Final = "COMPRESSION_METADATA"  # TFLite Micro's: buffers are shorter than their tensors

Vector = np.ndarray[Any, Any]


class DamagedError(ValueError):
    """The bytes are not a TFLite file, or not a whole one; the message says where."""


@dataclass(frozen=True)
class Tensor:
    """`data` is the length of its constant in bytes, 0 for an activation; `signature` is empty where it says nothing
    more than the shape. `largest` is the largest absolute value of a whole-number constant that has scales, as biases
    do; 0 of all others.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    signature: tuple[int, ...]
    buffer: int
    data: int
    scales: Vector = field(repr=False)
    zero_points: Vector = field(repr=False)
    variable: bool  # kept from one inference to the next
    largest: int = 0

    @property
    def holds(self) -> bool:
        """Whether it has a value that no operator of this inference wrote: a variable, or no numbers at all."""
        return self.variable or 0 in self.shape

    @property
    def numbers(self) -> int:
        """How many numbers it has."""
        return prod(self.shape)


@dataclass(frozen=True)
class Operator:
    """`kind` is the built-in operator's name, or CUSTOM, and then `custom` is its own. An input of -1 is left out.

    `variable` is the name of the resource variable that a VAR_HANDLE stands for. `graphs` are those that an operator
    calls: a CALL_ONCE's, an IF's two, a WHILE's condition and body.
    """

    kind: str
    custom: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    variable: str = ""
    graphs: tuple[int, ...] = ()


@dataclass(frozen=True)
class Graph:
    """One graph of a file; operators are in the order of execution."""

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class File:
    """What a file holds: the first graph is the one that a device runs. `signatures` are keys and their graphs."""

    version: int
    description: str
    graphs: tuple[Graph, ...]
    signatures: tuple[tuple[str, int], ...]
    metadata: tuple[str, ...]


def parse(model: bytes) -> File:
    """Read a file. Raises `DamagedError`."""
    if model[4:8] != b"TFL3":
        raise DamagedError("this is not a TFLite file (its identifier is missing)")
    try:
        return _Reader(model).file()
    except DamagedError:
        raise
    except (struct.error, IndexError, TypeError, AttributeError, ValueError, OverflowError, RecursionError) as error:
        raise DamagedError(f"damaged: {error}") from error


class _Reader:
    """Walks the generated accessors, which check no more than that they stay within the bytes."""

    def __init__(self, model: bytes) -> None:
        self.root = _schema().Model.GetRootAs(model, 0)
        self.size = len(model)

    def file(self) -> File:
        root = self.root
        if root.Version() != 3:
            raise DamagedError(f"schema version {root.Version()}: 3 is supported")
        self.metadata = tuple(_text(each.Name()) for each in _all(root.Metadata, root.MetadataLength(), "names"))
        self.buffers = [self.length(each) for each in _all(root.Buffers, root.BuffersLength(), "buffers")]
        self.codes = [_code(each) for each in _all(root.OperatorCodes, root.OperatorCodesLength(), "codes")]
        graphs = tuple(self.graph(each) for each in _all(root.Subgraphs, root.SubgraphsLength(), "graphs"))
        if not graphs:
            raise DamagedError("damaged: the file holds no graph")
        signatures = _all(root.SignatureDefs, root.SignatureDefsLength(), "names")
        named = tuple((_text(each.SignatureKey()), int(each.SubgraphIndex())) for each in signatures)
        return File(3, _text(root.Description()), graphs, named, self.metadata)

    def length(self, buffer: Any) -> int:  # noqa: ANN401 - generated code, untyped
        """Of a buffer's data in bytes; they may be in the file behind the table."""
        if buffer.Offset() > 1:
            if buffer.Offset() + buffer.Size() > self.size:
                raise DamagedError("damaged: a buffer lies outside the file")
            return int(buffer.Size())
        return len(_vector(buffer.DataLength(), buffer.DataAsNumpy))

    def graph(self, graph: Any) -> Graph:  # noqa: ANN401
        tensors = tuple(
            self.tensor(each, i) for i, each in enumerate(_all(graph.Tensors, graph.TensorsLength(), "tensors"))
        )
        operators = tuple(self.operator(each) for each in _all(graph.Operators, graph.OperatorsLength(), "operators"))
        inputs = _indices(graph.InputsLength(), graph.InputsAsNumpy)
        outputs = _indices(graph.OutputsLength(), graph.OutputsAsNumpy)
        found = Graph(tensors, operators, inputs, outputs)
        _check(found)
        return found

    def operator(self, operator: Any) -> Operator:  # noqa: ANN401
        index = int(operator.OpcodeIndex())
        if index >= len(self.codes):
            raise DamagedError(f"damaged: an operator of code {index}; there are {len(self.codes)}")
        kind, custom = self.codes[index]
        inputs = _indices(operator.InputsLength(), operator.InputsAsNumpy)
        outputs = _indices(operator.OutputsLength(), operator.OutputsAsNumpy)
        return Operator(kind, custom, inputs, outputs, _variable(kind, operator), _called(kind, operator))

    def tensor(self, tensor: Any, index: int) -> Tensor:  # noqa: ANN401
        kind = _names("TensorType").get(tensor.Type())
        if kind is None:
            raise DamagedError(f"damaged: tensor {index} is of type number {tensor.Type()}, which does not exist")
        if tensor.Buffer() >= len(self.buffers) and self.buffers:
            raise DamagedError(f"damaged: tensor {index} uses buffer {tensor.Buffer()}; there are {len(self.buffers)}")
        shape = _indices(tensor.ShapeLength(), tensor.ShapeAsNumpy)
        data = self.buffers[tensor.Buffer()] if self.buffers else 0
        if len(shape) > RANK or any(side < -1 for side in shape) or prod(shape) >= ELEMENTS:
            raise DamagedError(f"damaged: tensor {index} has {len(shape)} axes and shape {shape[:RANK]}")
        self.check_data(index, kind, shape, data, tensor)
        scales, zero_points = _quantisation(tensor.Quantization())
        return Tensor(
            name=_text(tensor.Name()),
            type=kind,
            shape=shape,
            signature=_indices(tensor.ShapeSignatureLength(), tensor.ShapeSignatureAsNumpy),
            buffer=int(tensor.Buffer()),
            data=data,
            scales=scales,
            zero_points=zero_points,
            variable=bool(tensor.IsVariable()),
            largest=self.largest(tensor.Buffer(), kind, data) if len(scales) else 0,
        )

    def largest(self, buffer: int, kind: str, data: int) -> int:
        """The largest absolute value of a constant that is kept in the table of buffers, if it may be a bias."""
        vector = self.root.Buffers(buffer) if data and kind in ("INT32", "INT64") else None
        size = 4 if kind == "INT32" else 8
        if vector is None or vector.DataLength() < size:
            return 0
        values = np.frombuffer(vector.DataAsNumpy().tobytes()[: vector.DataLength() // size * size], f"<i{size}")
        return max(abs(int(values.min())), abs(int(values.max())))

    def check_data(self, index: int, kind: str, shape: tuple[int, ...], data: int, tensor: Any) -> None:  # noqa: ANN401
        if data == 0 or kind not in BITS or COMPRESSED in self.metadata or tensor.Sparsity() is not None:
            return
        wanted = -(-prod(shape) * BITS[kind] // 8)
        if data != wanted:
            raise DamagedError(f"damaged: tensor {index} of {kind} and shape {shape} has {data} bytes, not {wanted}")


def _check(graph: Graph) -> None:
    """Every index is a tensor's; nothing is read before it is there, or written twice."""
    count = len(graph.tensors)
    for index in (*graph.inputs, *graph.outputs):
        if not 0 <= index < count:
            raise DamagedError(f"damaged: the graph's input or output is tensor {index}; there are {count}")
    there = {i for i, tensor in enumerate(graph.tensors) if tensor.data or tensor.holds} | set(graph.inputs)
    for place, operator in enumerate(graph.operators):
        where = f"operator {place} ({operator.kind})"
        given = operator.kind in _SCRATCH  # working memory that nothing writes beforehand, as for an Ethos-U
        for index in operator.inputs:
            if not -1 <= index < count or (index >= 0 and index not in there and not given):
                raise DamagedError(f"damaged: {where} reads tensor {index}, which is not there by then")
        for index in operator.outputs:
            if not 0 <= index < count or (index in there and not graph.tensors[index].holds):
                raise DamagedError(f"damaged: {where} writes tensor {index}, which is not its own")
        there.update(operator.outputs)
    missing = [index for index in graph.outputs if index not in there]
    if missing:
        raise DamagedError(f"damaged: nothing writes output tensor {missing[0]}")


def _quantisation(quantization: Any) -> tuple[Vector, Vector]:  # noqa: ANN401
    if quantization is None:
        return np.empty(0, np.float32), np.empty(0, np.int64)
    scales = _vector(quantization.ScaleLength(), quantization.ScaleAsNumpy)
    return scales, _vector(quantization.ZeroPointLength(), quantization.ZeroPointAsNumpy)


def _code(code: Any) -> tuple[str, str]:  # noqa: ANN401
    number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
    kind = _names("BuiltinOperator").get(number)
    if kind is None:
        raise DamagedError(f"damaged: an operator of number {number}, which does not exist")
    return kind, _text(code.CustomCode()) if kind == "CUSTOM" else ""


def _variable(kind: str, operator: Any) -> str:  # noqa: ANN401
    options = _options(kind, operator) if kind == "VAR_HANDLE" else None
    return _text(options.SharedName()) if options is not None else ""


def _called(kind: str, operator: Any) -> tuple[int, ...]:  # noqa: ANN401
    options = _options(kind, operator) if kind in _CALLS else None
    return () if options is None else tuple(int(getattr(options, name)()) for name in _CALLS[kind])


_CALLS: Final = {
    "CALL_ONCE": ("InitSubgraphIndex",),
    "IF": ("ThenSubgraphIndex", "ElseSubgraphIndex"),
    "WHILE": ("CondSubgraphIndex", "BodySubgraphIndex"),
    "CALL": ("Subgraph",),
}
_OPTIONS: Final = {
    "VAR_HANDLE": "VarHandleOptions",
    "CALL_ONCE": "CallOnceOptions",
    "IF": "IfOptions",
    "WHILE": "WhileOptions",
    "CALL": "CallOptions",
}


def _options(kind: str, operator: Any) -> Any:  # noqa: ANN401
    """An operator's options, or None where it has none of its own kind."""
    table, name = operator.BuiltinOptions(), _OPTIONS[kind]
    if table is None or operator.BuiltinOptionsType() != getattr(_schema().BuiltinOptions, name):
        return None
    found = getattr(_schema(), name)()
    found.Init(table.Bytes, table.Pos)
    return found


def _all(get: Callable[[int], Any], length: int, what: str) -> Iterator[Any]:
    if length > MOST[what]:
        raise DamagedError(f"damaged: {length} {what}; {MOST[what]} are read at the most")
    return (get(i) for i in range(length))


def _vector(length: int, as_numpy: Callable[[], Any]) -> Vector:
    """An absent vector is 0 to the generated code."""
    return np.asarray(as_numpy()) if length else np.empty(0, np.int64)


def _indices(length: int, as_numpy: Callable[[], Any]) -> tuple[int, ...]:
    if length > MOST["tensors"]:
        raise DamagedError(f"damaged: a list of {length} numbers where {MOST['tensors']} are read at the most")
    return tuple(int(number) for number in _vector(length, as_numpy))


def _text(raw: bytes | None) -> str:
    return (raw or b"")[:4096].decode("utf-8", errors="replace")


@cache
def _names(kind: str) -> dict[int, str]:
    return {code: name for name, code in vars(getattr(_schema(), kind)).items() if isinstance(code, int)}


def _schema() -> Any:  # noqa: ANN401 - generated code, untyped
    from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

    return schema
