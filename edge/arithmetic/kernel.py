"""What an operator becomes: a function on batches, and what all of them share.

Activations are float32 tensors of whole numbers, level less zero point, of shape (records, *shape in the file); the
file's own batch of 1 stays, so that no operator needs to know about records. Floating point holds such numbers exactly,
sums of them too while they stay below 2 ** 24, and it is what processors multiply fastest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from edge.arithmetic.network import Node, Slot

Kernel = Callable[[Sequence[Tensor]], Tensor]  # of the activations that go in, in order; constants are built in
Builder = Callable[[Node], Kernel]

_BOUNDS = {  # in real numbers, of the activations that can be fused: options of the file by number
    0: (None, None),
    1: (0.0, None),
    2: (-1.0, 1.0),
    3: (0.0, 6.0),
}


def clipping(node: Node) -> tuple[int, int]:
    """Lowest and highest level less zero point that leave a node, its fused activation included."""
    out, fused = node.output, node.option("fusedActivationFunction")
    if fused not in _BOUNDS:
        raise node.refusal(f"has a fused activation that is not supported (number {fused})")
    below, above = _BOUNDS[fused]
    low, high = (limit - out.zero_point for limit in out.limits)
    return max(low, _steps(below, out, low)), min(high, _steps(above, out, high))


def _steps(real: float | None, out: Slot, otherwise: int) -> int:
    """A real number in steps of the output, rounded as TFLite does: float32, halves away from zero."""
    if real is None:
        return otherwise
    ratio = float(np.float32(real) / np.float32(out.scale))
    return int(np.copysign(np.floor(abs(ratio) + 0.5), ratio))


def operands(node: Node, numbers: str) -> tuple[Slot, Slot]:
    """The two inputs of a node that computes in one number format, of int16 with zero points of 0."""
    left, right = node.inputs if len(node.inputs) == 2 else (None, None)
    if left is None or right is None:
        raise node.refusal(f"has {len(node.inputs)} inputs, not two")
    for slot in (left, right, node.output):
        if slot.numbers != numbers or not slot.whole or (numbers == "int16" and slot.zero_point):
            raise node.refusal(f"computes in {slot.numbers}; {numbers} with one scale throughout is supported here")
    return left, right


def paired(node: Node) -> Callable[[Sequence[Tensor]], tuple[Tensor, Tensor]]:
    """From the activations that go into a node with two inputs to both inputs, ready to be broadcast."""
    rank = len(node.output.shape)
    left, right = (_broadcast(held, rank) for held in (built_in(slot, node) for slot in node.inputs))
    if left is not None and right is not None:
        raise node.refusal("has two constants as its inputs")

    def pair(inputs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        computed = iter(inputs)
        first = left if left is not None else _broadcast(next(computed), rank)
        second = right if right is not None else _broadcast(next(computed), rank)
        assert first is not None
        assert second is not None
        return first, second

    return pair


def _broadcast(levels: Tensor | None, rank: int) -> Tensor | None:
    """Axes of length 1 in front, as broadcasting puts them, but behind the records."""
    if levels is None:
        return None
    return levels.reshape(len(levels), *[1] * (rank + 1 - levels.ndim), *levels.shape[1:])


def built_in(slot: Slot | None, node: Node) -> Tensor | None:
    """A constant input as if it were an activation of one record; None for an activation."""
    if slot is None:
        raise node.refusal("has an input that is left out")
    if slot.values is None:
        return None
    return torch.tensor(slot.values, dtype=torch.float32)[None] - slot.zero_point


def whole(node: Node, *numbers: str) -> None:
    """Refuse a node unless its first input and its output are both of one of the number formats."""
    for slot in (node.first, node.output):
        if slot.numbers not in numbers or not slot.whole:
            raise node.refusal(f"computes in {slot.numbers}; {' or '.join(numbers)} with one scale is supported")
    if node.first.numbers != node.output.numbers:
        raise node.refusal(f"goes from {node.first.numbers} to {node.output.numbers}")
