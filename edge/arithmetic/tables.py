"""Operators that work number by number: tables of all that can go in, filled by TFLite Micro itself.

An int8 operator with one input knows 256 cases, one with two 65,536. TFLite Micro is asked for all of them once, in a
file that holds this operator alone, so its arithmetic is not written down a second time here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from edge.arithmetic.alone import asked
from edge.arithmetic.kernel import Kernel, operands, paired
from edge.arithmetic.network import Node, Slot
from edge.runtimes.runtime import CannotRunError


def unary(node: Node) -> Kernel:
    """An operator with one input of int8 or int16."""
    table, least = _table(node, [node.first]), node.first.limits[0] - node.first.zero_point
    return lambda inputs: _looked_up(table, inputs[0] - least, node)


def binary(node: Node) -> Kernel:
    """An operator with two inputs of int8, one of which may be a constant; the smaller one is broadcast."""
    left, right = operands(node, "int8")
    table, pair = _table(node, [left, right]), paired(node)
    least = 256 * (left.limits[0] - left.zero_point) + right.limits[0] - right.zero_point

    def run(inputs: Sequence[Tensor]) -> Tensor:
        high, low = pair(inputs)
        return _looked_up(table, torch.add(low - least, high, alpha=256), node)

    return run


def _looked_up(table: Tensor, cases: Tensor, node: Node) -> Tensor:
    levels = table.index_select(0, cases.to(torch.int32).reshape(-1)).view(cases.shape)
    if node.kind in _DOMAINS and levels.isnan().any():
        raise node.refusal("is given a number that it is not defined for")
    return levels


# Where TFLite Micro stops with an error: the lowest level that an operator takes.
_DOMAINS: Final = {"RSQRT": lambda slot: slot.zero_point}


def _table(node: Node, slots: Sequence[Slot]) -> Tensor:
    """The answers by case, less the output's zero point; nan where the operator is not defined."""
    for slot in (*slots, node.output):
        if not slot.whole and (slot.numbers, node.kind) != ("float32", "DEQUANTIZE"):
            raise node.refusal(f"computes in {slot.numbers}; int8 and int16 with one scale are supported")
    cases = _cases(slots)
    defined = cases[0] >= _DOMAINS[node.kind](slots[0]) if node.kind in _DOMAINS else np.full(cases.shape[1], True)
    table = np.full(cases.shape[1], np.nan, dtype=np.float32)
    try:
        table[defined] = asked(node, slots, [row[defined] for row in cases])
    except CannotRunError as error:
        raise node.refusal(f"is refused by TFLite Micro: {error}") from error
    return torch.from_numpy(table - np.float32(node.output.zero_point))


def _cases(slots: Sequence[Slot]) -> np.ndarray[Any, Any]:
    """All combinations of levels, (inputs, cases); the last input changes fastest."""
    levels = [np.arange(slot.limits[0], slot.limits[1] + 1) for slot in slots]
    return np.stack([grid.reshape(-1) for grid in np.meshgrid(*levels, indexing="ij")])
