"""Ranges rounded outward to a coarse public grid, so that no record's own extreme is left in the file."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from edge.reading import FIXED
from edge.tensors import constant_of, kinds_of, packed, quantised, unpacked, with_values, without_orphans

_WITH_BIAS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


def coarse_ranges(model: bytes, ratio: float) -> bytes:
    """The same int8 model with each end of each activation's range moved outward to a whole power of `ratio`.

    With 2.0 an end is 1, 2, 4, ...; with 1.05 it moves by 5 % at most. Weights stay as they are; biases are rounded
    anew, in the steps that go with the new scales. The steps get coarser by at most the ratio, which costs some
    accuracy, and clipping can only become rarer. Raises `ValueError` for a ratio of 1 or less.
    """
    if ratio <= 1:
        raise ValueError(f"ratio {ratio:g}: a grid needs a ratio above 1, such as 1.05 or 2")
    whole = unpacked(model)
    graph, kinds = whole.subgraphs[0], kinds_of(whole)
    biases = _biases(whole, kinds)
    fixed = {int(o) for kind, op in zip(kinds, graph.operators, strict=True) for o in op.outputs if kind in FIXED}
    for index, tensor in enumerate(graph.tensors):
        if quantised(tensor) and index not in fixed and constant_of(whole, tensor) is None:
            scale, zero_point = float(tensor.quantization.scale[0]), int(tensor.quantization.zeroPoint[0])
            scale, zero_point = _rounded(scale, zero_point, ratio)
            tensor.quantization.scale, tensor.quantization.zeroPoint = [scale], [zero_point]
    for source, weights, bias, real in biases:
        _requantise(whole, bias, real, float(source.quantization.scale[0]) * np.asarray(weights.quantization.scale))
    return packed(without_orphans(whole))


def _rounded(scale: float, zero_point: int, ratio: float) -> tuple[float, int]:
    low, high = (_outward(scale * (end - zero_point), ratio) for end in (-128, 127))
    wider = float(np.float32((high - low) / 255))
    return wider, int(np.clip(round(-128 - low / wider), -128, 127))


def _outward(end: float, ratio: float) -> float:
    if end == 0:
        return 0.0
    power = math.ceil(math.log(abs(end), ratio) - 1e-6)  # an end that is on the grid stays there
    return math.copysign(ratio**power, end)


def _biases(whole: Any, kinds: list[str]) -> list[tuple[Any, Any, Any, np.ndarray[Any, Any]]]:  # noqa: ANN401
    """Input, weights, bias and the bias's real values, of each operator that has one."""
    graph = whole.subgraphs[0]
    found = []
    for kind, operator in zip(kinds, graph.operators, strict=True):
        if kind in _WITH_BIAS and len(operator.inputs) > 2 and operator.inputs[2] >= 0:
            source, weights, bias = (graph.tensors[index] for index in operator.inputs[:3])
            constant = constant_of(whole, bias)
            if constant is not None:
                found.append((source, weights, bias, constant.real.astype(np.float64)))
    return found


def _requantise(whole: Any, bias: Any, real: np.ndarray[Any, Any], scale: np.ndarray[Any, Any]) -> None:  # noqa: ANN401
    scale = np.asarray(scale, dtype=np.float32)
    values = np.round(real / scale.astype(np.float64)).astype(np.int32)
    with_values(whole, bias, values)  # in a buffer of its own: other biases of equal levels share it
    bias.quantization.scale = scale.tolist()
