"""Weights of four bits: an int8 file whose weights are rounded anew, from the float ones, to 15 levels.

TFLite Micro takes INT4 weights, two to a byte, beside int8 activations: a scale per channel for convolutions, one scale
for all of a fully connected layer. It unpacks them into the arena, so flash is halved and RAM is not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from jaxtyping import Float

from edge.tensors import constant_of, kinds_of, packed, unpacked, with_values, without_orphans

LARGEST: Final = 7  # levels are -7 to 7: symmetric, as TFLite's int8 weights are
VERSIONS: Final = {"CONV_2D": 7, "DEPTHWISE_CONV_2D": 7, "FULLY_CONNECTED": 10}  # of the operators, with INT4 weights
_SLACK: Final = 0.51  # of a step: how far float weights may be from the int8 levels that they were rounded to

Weights = Float[np.ndarray, "..."]


class WeightsDifferError(RuntimeError):
    """The float and the int8 file do not hold the same weights, so the one gives no exact values for the other."""


def with_int4_weights(int8_file: bytes, float_file: bytes) -> bytes:
    """The int8 file with weights of four bits, rounded from those in `float_file`, the same graph in float32.

    Biases are rounded anew, in the steps that go with the new scales. Weights are found by value: those that round to
    the int8 file's levels, whatever the order and the names in both files. Raises `WeightsDifferError` for weights
    that have none, and for a bias that two layers share.
    """
    whole, exact = unpacked(int8_file), list(_float_weights(unpacked(float_file)))
    tensors, rounded, rescaled = whole.subgraphs[0].tensors, set[int](), set[int]()
    for kind, operator in _weighted(whole):
        source, weights, *bias = (int(index) for index in operator.inputs if index >= 0)
        if weights not in rounded:
            _round(whole, tensors[weights], exact, per_channel=kind != "FULLY_CONNECTED")
        if rescaled & set(bias):
            raise WeightsDifferError(f"two layers share the bias '{tensors[bias[0]].name.decode()}'")
        for index in bias:
            _rescale(whole, tensors[index], tensors[source], tensors[weights])
        rounded.add(weights)
        rescaled.update(bias)
        code = whole.operatorCodes[operator.opcodeIndex]
        code.version = max(code.version, VERSIONS[kind])
    return packed(without_orphans(whole))


def _weighted(whole: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - generated code, untyped
    """The operators with weights, and what each is."""
    for kind, operator in zip(kinds_of(whole), whole.subgraphs[0].operators, strict=True):
        if kind in VERSIONS:
            yield kind, operator


def _float_weights(whole: Any) -> Iterator[Weights]:  # noqa: ANN401 - generated code, untyped
    for _, operator in _weighted(whole):
        tensor = whole.subgraphs[0].tensors[operator.inputs[1]]
        yield np.frombuffer(bytes(whole.buffers[tensor.buffer].data), dtype=np.float32).reshape(tensor.shape)


def _round(whole: Any, tensor: Any, exact: list[Weights], *, per_channel: bool) -> None:  # noqa: ANN401
    """Weights to four bits, as they are stored: two to a byte, the earlier one in the lower half."""
    from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

    values, axis = _exact(whole, tensor, exact), int(tensor.quantization.quantizedDimension)
    others = tuple(each for each in range(values.ndim) if each != axis)
    largest = np.abs(values).max(axis=others if per_channel else None, keepdims=True)
    scale = np.atleast_1d(np.squeeze(largest, others if per_channel else None)).astype(np.float64) / LARGEST
    # Channels of zeros keep the step that they had, and so do those that the converter gave a wider one for their bias.
    had = np.asarray(tensor.quantization.scale)
    scale = np.maximum(scale, had if len(had) == len(scale) else had.max()).astype(np.float32)
    steps = scale.reshape([-1 if per_channel and each == axis else 1 for each in range(values.ndim)])
    levels = np.clip(np.rint(values / steps), -LARGEST, LARGEST).astype(np.int8).ravel()
    pairs = np.append(levels, np.zeros(levels.size % 2, np.int8)).reshape(-1, 2) & 0x0F
    with_values(whole, tensor, (pairs[:, 0] | pairs[:, 1] << 4).astype(np.uint8))
    tensor.type, tensor.quantization.scale = schema.TensorType.INT4, scale.tolist()
    tensor.quantization.zeroPoint = [0] * len(scale)


def _exact(whole: Any, tensor: Any, exact: list[Weights]) -> Weights:  # noqa: ANN401 - generated code, untyped
    """The float weights that were rounded to those of `tensor`."""
    rounded = constant_of(whole, tensor)
    if rounded is not None:
        found = [each for each in exact if each.shape == rounded.values.shape]
        errors = [float(np.max(np.abs(each - rounded.real) / rounded.steps)) for each in found]
        if errors and min(errors) <= _SLACK:
            return found[int(np.argmin(errors))]
    raise WeightsDifferError(f"the float file holds no weights that round to '{tensor.name.decode()}'")


def _rescale(whole: Any, bias: Any, source: Any, weights: Any) -> None:  # noqa: ANN401 - generated code, untyped
    constant = constant_of(whole, bias)
    if constant is None:
        raise WeightsDifferError(f"'{bias.name.decode()}' is computed; only a fixed bias can be rounded anew")
    step = float(source.quantization.scale[0]) * np.asarray(weights.quantization.scale, dtype=np.float64)
    with_values(whole, bias, np.rint(constant.real / step).astype(constant.values.dtype))
    bias.quantization.scale = step.astype(np.float32).tolist()
    bias.quantization.zeroPoint = [0] * len(step)
