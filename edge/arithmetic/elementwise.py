"""Number by number where a table would be too large: two int16 inputs, or float32 ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from edge.arithmetic import tables
from edge.arithmetic.fixed_point import Multiplier, scaled
from edge.arithmetic.kernel import Kernel, clipping, operands, paired
from edge.arithmetic.network import Node

_HEADROOM = 15  # places that int16 is shifted left before two scales are brought to one


def quantize(node: Node) -> Kernel:
    """QUANTIZE, of float32 or from one scale to another."""
    if node.first.numbers != "float32":
        return tables.unary(node)
    if not node.output.whole:
        raise node.refusal(f"makes {node.output.numbers}; int8 and int16 with one scale are supported")
    scale, (low, high) = torch.tensor(node.output.scale), clipping(node)

    def run(inputs: Sequence[Tensor]) -> Tensor:
        ratio = (inputs[0] / scale).double()
        return torch.trunc(ratio + torch.copysign(torch.tensor(0.5), ratio)).clamp_(low, high).float()

    return run


def addition(node: Node) -> Kernel:
    """ADD: both inputs to twice the larger scale, with bits to spare, then to the output's."""
    if node.first.numbers != "int16":
        return tables.binary(node)
    left, right = operands(node, "int16")
    shared = 2 * max(left.scale, right.scale)
    by = [Multiplier.of(each.scale / shared) for each in (left, right)]
    back = Multiplier.of(shared / ((1 << _HEADROOM) * node.output.scale))
    (low, high), pair = clipping(node), paired(node)

    def run(inputs: Sequence[Tensor]) -> Tensor:
        terms = [scaled(x.to(torch.int64) << _HEADROOM, each) for x, each in zip(pair(inputs), by, strict=True)]
        return scaled(terms[0] + terms[1], back).clamp_(low, high).float()

    return run


def product(node: Node) -> Kernel:
    """MUL, in int8. In int16 one of some thousand random chains came out otherwise than TFLite Micro has it."""
    if node.first.numbers == "int16":
        raise node.refusal("in int16 is not always equal to TFLite Micro's")
    return tables.binary(node)
