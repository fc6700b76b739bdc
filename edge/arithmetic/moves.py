"""Operators that move levels about and compute nothing.

They copy the file's bytes, whatever the zero points of the two ends say: `_recentred` keeps to that.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - as everybody calls it

from edge.arithmetic.kernel import Kernel, built_in
from edge.arithmetic.network import Node, Slot


def reshape(node: Node) -> Kernel:
    """RESHAPE, SQUEEZE, EXPAND_DIMS: the file says what shape comes out."""
    apart, shape = _apart(node.first, node), node.output.shape
    return lambda inputs: _recentred(inputs[0], apart).reshape(-1, *shape)


def transpose(node: Node) -> Kernel:
    """TRANSPOSE."""
    apart = _apart(node.first, node)
    order = [0, *(int(axis) + 1 for axis in node.constant(1))]
    return lambda inputs: _recentred(inputs[0], apart).permute(order).contiguous()


def pad(node: Node) -> Kernel:
    """PAD with the output's zero point, PADV2 with a level that the file gives."""
    apart = _apart(node.first, node)
    around = [int(places) for pair in node.constant(1)[::-1] for places in pair]
    value = float(int(node.constant(2).reshape(-1)[0]) - node.output.zero_point) if node.kind == "PADV2" else 0.0
    if min(around, default=0) < 0:
        raise node.refusal("has negative paddings")
    return lambda inputs: F.pad(_recentred(inputs[0], apart), around, value=value)


def concatenation(node: Node) -> Kernel:
    """CONCATENATION of activations and constants."""
    apart = [_apart(slot, node) for slot in node.inputs]
    constants = [built_in(slot, node) for slot in node.inputs]
    axis = node.option("axis") % len(node.output.shape) + 1
    if node.option("fusedActivationFunction"):
        raise node.refusal("has a fused activation")

    def run(inputs: Sequence[Tensor]) -> Tensor:
        computed = iter(inputs)
        parts = [next(computed) if held is None else held.expand(len(inputs[0]), *held.shape[1:]) for held in constants]
        return torch.cat([_recentred(part, each) for part, each in zip(parts, apart, strict=True)], axis)

    return run


def strided_slice(node: Node) -> Kernel:
    """STRIDED_SLICE with positive strides."""
    apart, shape = _apart(node.first, node), node.output.shape
    slices = (slice(None), *_slices(node))
    return lambda inputs: _recentred(inputs[0], apart)[slices].reshape(len(inputs[0]), *shape)


def _slices(node: Node) -> list[slice]:
    begins, ends, strides = (node.constant(position).reshape(-1).tolist() for position in (1, 2, 3))
    if min(strides) < 1 or node.option("ellipsisMask") or node.option("newAxisMask") or node.option("offset"):
        raise node.refusal("has negative strides, an ellipsis, a new axis or offsets")
    from_start, to_end, single = (node.option(f"{mask}Mask") for mask in ("begin", "end", "shrinkAxis"))
    slices = []
    for axis, (begin, end, stride) in enumerate(zip(begins, ends, strides, strict=True)):
        if single >> axis & 1:
            begin, end = begin % node.first.shape[axis], begin % node.first.shape[axis] + 1
        slices.append(slice(None if from_start >> axis & 1 else begin, None if to_end >> axis & 1 else end, stride))
    return slices


def _apart(slot: Slot | None, node: Node) -> int:
    """What to add to a level less the input's zero point for one less the output's."""
    if slot is None or slot.numbers != node.output.numbers:
        raise node.refusal(f"makes {node.output.numbers} of something else")
    return slot.zero_point - node.output.zero_point


def _recentred(levels: Tensor, apart: int) -> Tensor:
    return levels + apart if apart else levels
