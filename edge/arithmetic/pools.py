"""Layers without weights that gather: pools over windows, means and sums over axes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - as everybody calls it

from edge.arithmetic.fixed_point import Multiplier
from edge.arithmetic.kernel import Kernel, clipping, whole
from edge.arithmetic.network import Node
from edge.arithmetic.padding import Fit, Window, fitted
from edge.arithmetic.rescale import Rescale

_NOTHING = -float(1 << 20)  # below every level


def largest(node: Node) -> Kernel:
    """MAX_POOL_2D: levels are compared as they are; the output's zero point is taken off at the end."""
    whole(node, "int8", "int16")
    window, fit, apart = _pool(node)
    low, high = clipping(node)

    def run(inputs: Sequence[Tensor]) -> Tensor:
        maps = inputs[0].flatten(0, 1)
        if fit.symmetric != (0, 0):
            maps = F.pad(maps, fit.around, value=_NOTHING)
        tops = F.max_pool2d(maps.permute(0, 3, 1, 2), window.size, fit.stride).permute(0, 2, 3, 1)
        return (tops + apart).clamp_(low, high).reshape(-1, *node.output.shape)

    return run


def average(node: Node) -> Kernel:
    """AVERAGE_POOL_2D: the levels in the window that are inside the map, over their number, halves away from zero."""
    whole(node, "int8", "int16")
    window, fit, _ = _pool(node)
    low, high = clipping(node)
    given, made = node.first.zero_point, node.output.zero_point
    counts = _window_sums(torch.ones(1, *node.first.shape[1:3], 1), window, fit)

    def run(inputs: Sequence[Tensor]) -> Tensor:
        sums = _window_sums(inputs[0].flatten(0, 1), window, fit) + given * counts
        means = torch.trunc((sums + torch.copysign((counts / 2).floor(), sums)) / counts)
        return (means - made).clamp_(low, high).float().reshape(-1, *node.output.shape)

    return run


def _pool(node: Node) -> tuple[Window, Fit, int]:
    window = Window.of(node, (node.option("filterHeight"), node.option("filterWidth")))
    return window, fitted(window, node), node.first.zero_point - node.output.zero_point


def _window_sums(maps: Tensor, window: Window, fit: Fit) -> Tensor:
    """Sums over windows, channels last, in float64."""
    padded = F.pad(maps.double(), fit.around).permute(0, 3, 1, 2)
    return F.avg_pool2d(padded, window.size, fit.stride, divisor_override=1).permute(0, 2, 3, 1)


def mean(node: Node) -> Kernel:
    """MEAN: the sum, times scale over number of addends as one multiplier."""
    axes, addends = _axes(node)
    by = _ratio(node)
    shift = min(addends.bit_length() - 1, 32, 31 + by.exponent)
    return _reduction(node, axes, addends, Multiplier((by.mantissa << shift) // addends, by.exponent - shift))


def total(node: Node) -> Kernel:
    """SUM."""
    return _reduction(node, *_axes(node), _ratio(node))


def _ratio(node: Node) -> Multiplier:
    whole(node, "int8", "int16")
    return Multiplier.of(node.first.scale / node.output.scale)


def _axes(node: Node) -> tuple[list[int], int]:
    """Which axes are summed over, and how many numbers that makes."""
    sides = node.first.shape
    axes = sorted({int(axis) % len(sides) for axis in node.constant(1).reshape(-1)})
    return axes, prod(sides[axis] for axis in axes)


def _reduction(node: Node, axes: list[int], addends: int, by: Multiplier) -> Kernel:
    low, high = node.first.limits
    rule = Rescale([by], addends * (high - low), *clipping(node))
    if rule.overflows:
        raise node.refusal(f"sums {addends} numbers, which may not fit into 32 bits on the device")
    rescale, dims, shape = rule.compiled(), [axis + 1 for axis in axes], node.output.shape
    kind = torch.float32 if rule.largest < 1 << 24 else torch.float64

    def run(inputs: Sequence[Tensor]) -> Tensor:
        sums = inputs[0].sum(dims, dtype=kind) if dims else inputs[0].clone()
        return rescale(sums.view(-1, 1)).view(-1, *shape)

    return run
