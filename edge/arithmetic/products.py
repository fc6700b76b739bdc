"""Layers with weights: convolutions and matrix products in floating point, exact because all numbers are whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - as everybody calls it

from edge.arithmetic.fixed_point import Multiplier
from edge.arithmetic.kernel import Kernel, clipping, whole
from edge.arithmetic.network import Node
from edge.arithmetic.padding import Window, fitted
from edge.arithmetic.rescale import Rescale

Weights = np.ndarray[Any, Any]
_EXACT = {torch.float32: 1 << 24, torch.float64: 1 << 52}  # whole numbers up to here are held exactly


def convolution(node: Node) -> Kernel:
    """CONV_2D: weights (outputs, height, width, inputs of the group)."""
    weights = _weights(node)
    groups = node.first.shape[-1] // weights.shape[-1]
    return _convolution(node, weights.transpose(0, 3, 1, 2), groups)


def depthwise(node: Node) -> Kernel:
    """DEPTHWISE_CONV_2D: weights (1, height, width, outputs)."""
    return _convolution(node, _weights(node).transpose(3, 0, 1, 2), node.first.shape[-1])


def dense(node: Node) -> Kernel:
    """FULLY_CONNECTED: weights (outputs, inputs)."""
    weights = _weights(node)
    kind, bias, rescale = _sums(node, weights)
    matrix = torch.tensor(weights, dtype=kind)
    shape = node.output.shape

    def run(inputs: Sequence[Tensor]) -> Tensor:
        rows = inputs[0].reshape(-1, matrix.shape[1]).to(kind)
        return rescale(F.linear(rows, matrix, bias)).view(len(inputs[0]), *shape)

    return run


def _convolution(node: Node, weights: Weights, groups: int) -> Kernel:
    """`weights` are (outputs, inputs of the group, height, width)."""
    kind, bias, rescale = _sums(node, weights)
    filters = torch.tensor(weights, dtype=kind).contiguous(memory_format=torch.channels_last)
    window = Window.of(node, weights.shape[2:])
    fit = fitted(window, node)
    shape = node.output.shape

    def run(inputs: Sequence[Tensor]) -> Tensor:
        maps = inputs[0].flatten(0, 1).to(kind)
        if fit.symmetric is None:
            maps = F.pad(maps, fit.around)
        sums = F.conv2d(
            maps.permute(0, 3, 1, 2), filters, bias, fit.stride, fit.symmetric or 0, window.dilation, groups
        )
        return rescale(sums.permute(0, 2, 3, 1).contiguous()).view(-1, *shape)

    return run


def _sums(node: Node, weights: Weights) -> tuple[torch.dtype, Tensor, Callable[[Tensor], Tensor]]:
    """The number format that holds every partial sum exactly, the bias in it, and the way to the output's levels."""
    bias = _bias(node, len(weights))
    low, high = (limit - node.first.zero_point for limit in node.first.limits)
    products = np.abs(weights.astype(np.int64)).reshape(len(weights), -1).sum(1) * max(-low, high)
    largest = int((products + np.abs(bias)).max(initial=0))
    kind = next((kind for kind, limit in _EXACT.items() if largest < limit), None)
    rescale = Rescale(_multipliers(node, len(weights)), largest, *clipping(node), wide=node.first.numbers == "int16")
    if kind is None or rescale.overflows:
        raise node.refusal(f"has sums of up to {largest}, which may not fit into 32 bits on the device")
    return kind, torch.tensor(bias, dtype=kind), rescale.compiled()


def _weights(node: Node) -> Weights:
    whole(node, "int8", "int16")
    values, slot = node.constant(1), node.inputs[1]
    assert slot is not None
    if slot.numbers not in ("int8", "int4"):
        raise node.refusal(f"has weights in {slot.numbers}; int8 and int4 are supported")
    if slot.zero_points.any():
        raise node.refusal("has weights with a zero point other than 0")
    return values


def _bias(node: Node, outputs: int) -> Weights:
    if len(node.inputs) < 3 or node.inputs[2] is None:
        return np.zeros(outputs, dtype=np.int64)
    wanted = "int32" if node.first.numbers == "int8" else "int64"
    if node.inputs[2].numbers != wanted:
        raise node.refusal(f"has a bias in {node.inputs[2].numbers}; with {node.first.numbers} it has to be {wanted}")
    return node.constant(2).astype(np.int64).reshape(-1)


def _multipliers(node: Node, outputs: int) -> list[Multiplier]:
    """Input scale times weight scale over output scale, for each channel.

    A matrix product with one scale for all multiplies the first two in float32; everything else in float64.
    """
    slot = node.inputs[1]
    assert slot is not None
    given, result = np.float32(node.first.scale), float(np.float32(node.output.scale))
    if len(slot.scales) not in (1, outputs):
        raise node.refusal(f"has {len(slot.scales)} weight scales for {outputs} outputs")
    if node.kind == "FULLY_CONNECTED" and len(slot.scales) == 1:
        return [Multiplier.of(float(given * slot.scales[0]) / result)]
    scales = np.broadcast_to(slot.scales, (outputs,))
    return [Multiplier.of(float(given) * float(scale) / result) for scale in scales]
