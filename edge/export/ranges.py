"""Activations without a range: of layers that gave nothing but zeros on the calibration records.

In int8 the converter gives such an activation a range of 1e-6. Its int16x8 quantiser gives it a scale of next to zero,
and the weights that are multiplied with it an infinite one, so that they and their bias are lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from edge.export.biases import PLACES, give_bias
from edge.export.silent import NOTHING
from edge.tensors import constant_of, kinds_of, packed, quantised, type_names, unpacked, with_values, without_orphans

_LEVELS: Final = {"INT8": 255, "INT16": 32767}  # of a range
_INT16: Final = 32767
_INT8: Final = 127


def may_be_silent(model: bytes) -> bool:
    """Whether some activation of a quantised file has next to no range, or one that it may have got for lack of one."""
    whole, given = unpacked(model), np.float32(1 / _INT16)
    return any(
        _is_silent(whole, tensor) or (quantised(tensor) and np.float32(tensor.quantization.scale[0]) == given)
        for tensor in whole.subgraphs[0].tensors
    )


def with_ranges(model: bytes, float_file: bytes) -> bytes:
    """An int16x8 file in which activations without a range reach from -1 to 1.

    The weights and biases that are multiplied with them are rounded anew from `float_file`, the same graph in float32:
    its weighted operators are in the same order.
    """
    whole, exact = unpacked(model), unpacked(float_file)
    tensors = whole.subgraphs[0].tensors
    silent = {index for index, tensor in enumerate(tensors) if _is_silent(whole, tensor)}
    for index in silent:
        tensors[index].quantization.scale, tensors[index].quantization.zeroPoint = [1 / _INT16], [0]
    pairs = list(zip(_weighted(whole), _weighted(exact), strict=True))
    lost = {each.weights for each, _ in pairs if each.source in silent or not _finite(tensors[each.weights])}
    for each, true in pairs:
        if each.weights in lost:
            _round(whole, tensors[each.weights], _values(exact, true.weights))
    for each, true in pairs:
        if each.weights in lost and each.bias is not None and true.bias is not None:
            source, weights = tensors[each.source].quantization, tensors[each.weights].quantization
            steps = float(source.scale[0]) * np.asarray(weights.scale, dtype=np.float64)
            levels = np.rint(_values(exact, true.bias).astype(np.float64) / steps).astype(np.int64)
            give_bias(whole, each.operator, each.place, steps, levels)
    return packed(without_orphans(whole)) if silent or lost else model


@dataclass(frozen=True)
class _Weighted:
    """An operator with weights, and which tensors it takes; `place` is the bias's among its inputs."""

    operator: int
    place: int
    source: int
    weights: int
    bias: int | None


def _is_silent(whole: Any, tensor: Any) -> bool:  # noqa: ANN401 - generated code, untyped
    width = _LEVELS.get(type_names()[tensor.type])
    if width is None or not quantised(tensor) or constant_of(whole, tensor) is not None:
        return False
    return not float(tensor.quantization.scale[0]) * width > 2.1 * NOTHING


def _weighted(whole: Any) -> Iterator[_Weighted]:  # noqa: ANN401 - generated code, untyped
    for number, (kind, operator) in enumerate(zip(kinds_of(whole), whole.subgraphs[0].operators, strict=True)):
        if kind in PLACES:
            source, weights, place = PLACES[kind]
            given = [int(index) for index in operator.inputs]
            bias = given[place] if place < len(given) and given[place] >= 0 else None
            yield _Weighted(number, place, given[source], given[weights], bias)


def _finite(tensor: Any) -> bool:  # noqa: ANN401 - generated code, untyped
    return bool(np.isfinite(np.asarray(tensor.quantization.scale, dtype=np.float64)).all())


def _values(whole: Any, index: int) -> np.ndarray[Any, Any]:  # noqa: ANN401 - generated code, untyped
    tensor = whole.subgraphs[0].tensors[index]
    return np.frombuffer(bytes(whole.buffers[tensor.buffer].data), dtype=np.float32).reshape(tensor.shape)


def _round(whole: Any, tensor: Any, values: np.ndarray[Any, Any]) -> None:  # noqa: ANN401 - generated code, untyped
    """Weights in int8, with as many scales as the tensor had."""
    axis, count = int(tensor.quantization.quantizedDimension), len(tensor.quantization.scale)
    others = tuple(each for each in range(values.ndim) if each != axis or count == 1)
    largest = np.abs(values).max(axis=others, keepdims=True).astype(np.float64)
    scale = np.where(largest > 0, largest / _INT8, 1.0)
    with_values(whole, tensor, np.clip(np.rint(values / scale), -_INT8, _INT8).astype(np.int8))
    tensor.quantization.scale = scale.astype(np.float32).ravel().tolist()
    tensor.quantization.zeroPoint = [0] * count
