"""How much a TFLite file computes: multiply-accumulates per class of operator, elements of all others."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
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
_OPAQUE: Final = ("WHILE", "IF", "CALL", "CUSTOM", "DELEGATE")
DAMAGE: Final = (struct.error, LookupError, TypeError, AttributeError, ValueError, OverflowError)
"""What reading a damaged file ends in."""


@dataclass(frozen=True)
class Work:
    """What one inference computes of the first graph; where some of it is `uncounted`, all other figures are less.

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
        """Of all classes together; a lower bound where something is uncounted."""
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
        if operator.kind in _PRODUCTS:
            macs[operator.kind] = macs.get(operator.kind, 0) + _PRODUCTS[operator.kind](operator)
        else:
            elements[operator.kind] = elements.get(operator.kind, 0) + _elements(operator)
    uncounted = tuple(sorted({o.kind for o in operators if o.kind in _OPAQUE}))
    return Work(macs, elements, len(operators), _numbers(operators), uncounted)


@dataclass(frozen=True)
class _Operator:
    kind: str
    inputs: tuple[Any, ...]  # tensors; None where one is left out
    outputs: tuple[Any, ...]


def _operators(whole: Any) -> Iterator[_Operator]:  # noqa: ANN401 - generated code, untyped
    graph = whole.subgraphs[0]
    for kind, operator in zip(kinds_of(whole), graph.operators, strict=True):
        inputs = tuple(graph.tensors[index] if index >= 0 else None for index in _listed(operator.inputs))
        yield _Operator(kind, inputs, tuple(graph.tensors[index] for index in _listed(operator.outputs)))


def _dense(operator: _Operator) -> int:
    return _size(operator.outputs[0]) * _shape(operator.inputs[1])[-1]


def _convolution(operator: _Operator) -> int:
    """Padding is counted as if it were multiplied, as published counts do."""
    return _size(operator.outputs[0]) * prod(_shape(operator.inputs[1])[1:])  # outputs, height, width, inputs


def _depthwise(operator: _Operator) -> int:
    return _size(operator.outputs[0]) * prod(_shape(operator.inputs[1])[1:3])  # 1, height, width, channels


def _transposed(operator: _Operator) -> int:  # sizes, weights (outputs, height, width, inputs), source
    return _size(operator.inputs[2]) * prod(_shape(operator.inputs[1])[:3])


def _convolution_3d(operator: _Operator) -> int:
    return _size(operator.outputs[0]) * prod(_shape(operator.inputs[1])[:4])  # depth, height, width, inputs, outputs


def _transposed_3d(operator: _Operator) -> int:  # sizes, weights (depth, height, width, outputs, inputs), source
    return _size(operator.inputs[2]) * prod(_shape(operator.inputs[1])[:4])


def _product(operator: _Operator) -> int:
    """Of two activations: the first is transposed where its options say so."""
    source = _shape(operator.inputs[0])
    return _size(operator.outputs[0]) * source[-1]


def _recurrent(*weights: int) -> Callable[[_Operator], int]:
    """Each weight at these inputs is used once per record and step, which are all axes of the input but the last."""

    def macs(operator: _Operator) -> int:
        used = (_size(operator.inputs[index]) for index in weights if index < len(operator.inputs))
        return prod(_shape(operator.inputs[0])[:-1]) * sum(used)

    return macs


_LSTM: Final = _recurrent(*range(1, 12), 16)  # four gates of the input and of the state, peepholes, projection
_PRODUCTS: Final[dict[str, Callable[[_Operator], int]]] = {
    CONVOLUTION: _convolution,
    DEPTHWISE: _depthwise,
    DENSE: _dense,
    "TRANSPOSE_CONV": _transposed,
    "CONV_3D": _convolution_3d,
    "CONV_3D_TRANSPOSE": _transposed_3d,
    "BATCH_MATMUL": _product,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _LSTM,
    "BIDIRECTIONAL_SEQUENCE_LSTM": _recurrent(*range(1, 12), 16, *range(18, 29), 33, *range(40, 48)),
    "LSTM": lambda operator: (_recurrent(2) if len(operator.inputs) == 5 else _LSTM)(operator),
    "RNN": _recurrent(1, 2),
    "UNIDIRECTIONAL_SEQUENCE_RNN": _recurrent(1, 2),
    "BIDIRECTIONAL_SEQUENCE_RNN": _recurrent(1, 2, 5, 6, 10, 11),
    "SVDF": _recurrent(1, 2),  # filters of the features, and of the steps that are kept
}
_WEIGHTS: Final = {"LSTM": (1, 2, 3, 4), "UNIDIRECTIONAL_SEQUENCE_LSTM": (1, 2, 3, 4)}  # the first that is there


def _elements(operator: _Operator) -> int:
    if operator.kind in FREE:
        return 0
    sizes = [sum(map(_size, operator.outputs)), *(_size(tensor) for tensor in operator.inputs)]
    return max(sizes, default=0)


def _numbers(operators: list[_Operator]) -> Numbers:
    kinds = {_computes(operator) for operator in operators if operator.kind in _PRODUCTS}
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
    source = operator.inputs[2 if operator.kind in ("TRANSPOSE_CONV", "CONV_3D_TRANSPOSE") else 0]
    held = (operator.inputs[index] for index in _WEIGHTS.get(operator.kind, (1,)))
    weights = next((tensor for tensor in held if tensor is not None), None)
    return "mixed" if weights is None else named.get((source.type, weights.type), "mixed")


def _listed(indices: Any) -> list[int]:  # noqa: ANN401 - generated code: an array, or nothing
    return [] if indices is None else [int(index) for index in indices]


def _shape(tensor: Any) -> list[int]:  # noqa: ANN401 - generated code, untyped
    return [int(side) for side in tensor.shape] if tensor.shape is not None else []


def _size(tensor: Any) -> int:  # noqa: ANN401 - generated code, untyped
    """Numbers in a tensor; 0 of one that is left out."""
    return 0 if tensor is None else prod(_shape(tensor))
