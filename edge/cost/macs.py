"""How much a TFLite file computes: multiply-accumulates per class of operator, elements of all others."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Final, Literal

from edge.artifact import ArtifactError
from edge.tensors import kinds_of, unpacked

Numbers = Literal["int8", "int4 weights", "int16x8", "float32", "mixed"]
CONVOLUTION: Final = "CONV_2D"
DEPTHWISE: Final = "DEPTHWISE_CONV_2D"
DENSE: Final = "FULLY_CONNECTED"
PUBLISHED: Final = (CONVOLUTION, DEPTHWISE, DENSE)
"""The classes whose speed was published for microcontrollers."""
FREE: Final = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS")  # at most a copy
_OPAQUE: Final = ("SVDF", "UNIDIRECTIONAL_SEQUENCE_LSTM", "WHILE", "IF", "CALL_ONCE", "CUSTOM", "DELEGATE")
DAMAGE: Final = (struct.error, LookupError, TypeError, AttributeError, ValueError, OverflowError)
"""What reading a damaged file ends in."""
_WEIGHTED: Final = (*PUBLISHED, "TRANSPOSE_CONV", "BATCH_MATMUL")


@dataclass(frozen=True)
class Work:
    """What one inference computes.

    `macs` and `elements` are by operator name: multiply-accumulates of those that multiply by a matrix or a kernel, and
    of all others the larger of what they read and what they write. `uncounted` names operators that compute what was
    not counted. `operators` is how many are executed. `numbers` is what they compute in: that of all weighted
    operators, or "mixed".
    """

    macs: Mapping[str, int]
    elements: Mapping[str, int]
    operators: int
    numbers: Numbers
    uncounted: tuple[str, ...] = ()

    @property
    def total_macs(self) -> int:
        """Of all classes together."""
        return sum(self.macs.values())


def count(model: bytes) -> Work:
    """Count the work of a TFLite file's main graph. Raises `ArtifactError` where the bytes are no TFLite file."""
    try:
        return _count(list(_operators(unpacked(model))))
    except DAMAGE as error:
        raise ArtifactError(f"the TFLite file is damaged: {error}") from error


def _count(operators: list[_Operator]) -> Work:
    macs: dict[str, int] = {}
    elements: dict[str, int] = {}
    for operator in operators:
        if operator.kind in _WEIGHTED:
            macs[operator.kind] = macs.get(operator.kind, 0) + _macs(operator)
        else:
            elements[operator.kind] = elements.get(operator.kind, 0) + _elements(operator)
    uncounted = tuple(sorted({o.kind for o in operators if o.kind in _OPAQUE}))
    return Work(macs, elements, len(operators), _numbers(operators), uncounted)


@dataclass(frozen=True)
class _Operator:
    kind: str
    inputs: tuple[Any, ...]  # tensors
    outputs: tuple[Any, ...]


def _operators(whole: Any) -> Iterator[_Operator]:  # noqa: ANN401 - generated code, untyped
    graph = whole.subgraphs[0]
    for kind, operator in zip(kinds_of(whole), graph.operators, strict=True):
        inputs = tuple(graph.tensors[index] for index in operator.inputs if index >= 0)
        yield _Operator(kind, inputs, tuple(graph.tensors[index] for index in operator.outputs))


def _macs(operator: _Operator) -> int:
    """Padding is counted as if it were multiplied, as published counts do."""
    source, weights, result = operator.inputs[0], operator.inputs[1], operator.outputs[0]
    if operator.kind == CONVOLUTION:  # outputs, height, width, inputs
        return _size(result) * prod(_shape(weights)[1:])
    if operator.kind == DEPTHWISE:  # 1, height, width, channels
        return _size(result) * prod(_shape(weights)[1:3])
    if operator.kind == "TRANSPOSE_CONV":  # sizes, weights (outputs, height, width, inputs), source
        return _size(operator.inputs[2]) * prod(_shape(weights)[:3])
    if operator.kind == DENSE:
        return _size(result) * _shape(weights)[-1]
    return _size(result) * _shape(source)[-1]


def _elements(operator: _Operator) -> int:
    if operator.kind in FREE:
        return 0
    sizes = [sum(map(_size, operator.outputs)), *(_size(tensor) for tensor in operator.inputs)]
    return max(sizes, default=0)


def _numbers(operators: list[_Operator]) -> Numbers:
    kinds = {_computes(operator) for operator in operators if operator.kind in _WEIGHTED}
    return kinds.pop() if len(kinds) == 1 else "mixed"


def _computes(operator: _Operator) -> Numbers:
    from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

    kinds = schema.TensorType
    named: dict[tuple[int, int], Numbers] = {
        (kinds.INT8, kinds.INT8): "int8",
        (kinds.INT8, kinds.INT4): "int4 weights",
        (kinds.INT16, kinds.INT8): "int16x8",
        (kinds.FLOAT32, kinds.FLOAT32): "float32",
    }
    source = operator.inputs[2 if operator.kind == "TRANSPOSE_CONV" else 0]
    return named.get((source.type, operator.inputs[1].type), "mixed")


def _shape(tensor: Any) -> list[int]:  # noqa: ANN401 - generated code, untyped
    return [int(side) for side in tensor.shape] if tensor.shape is not None else []


def _size(tensor: Any) -> int:  # noqa: ANN401 - generated code, untyped
    return prod(_shape(tensor))
