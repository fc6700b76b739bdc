"""SOFTMAX in fixed point, as TFLite Micro computes it: of int8 with gemmlowp's functions, of int16 with tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edge.arithmetic.fixed_point import (
    HIGHEST,
    Multiplier,
    divided,
    exponential,
    high_product,
    reciprocal_of_one_plus,
    scaled,
)
from edge.arithmetic.kernel import Kernel, whole
from edge.arithmetic.network import Node

_INPUT_BITS, _SUM_BITS = 5, 12  # whole bits of what is exponentiated, and of the sum of the exponentials


def softmax(node: Node) -> Kernel:
    """SOFTMAX of int8: exponentials of the distances from the largest level, each of 256, over their sum."""
    whole(node, "int8", "int16")
    if node.first.numbers == "int16":
        return _of_int16(node)
    powers, addends, too_far = _tables(node)
    lowest = -128 - node.output.zero_point

    def run(inputs: Sequence[Tensor]) -> Tensor:
        levels = inputs[0].to(torch.int64)
        below = levels.amax(-1, keepdim=True) - levels
        inverse, over_one = _reciprocal(addends[below].sum(-1, keepdim=True))
        steps = divided(high_product(inverse, powers[below]), over_one + 31 - 8)
        steps = torch.where(below < too_far, steps, 0)
        return (steps.clamp_(0, 255) + lowest).float()

    return run


def _tables(node: Node) -> tuple[Tensor, Tensor, int]:
    """By distance from the largest level: the exponential with 31 fractional bits, the same as it is summed up, and
    the distance from where on both are nothing.
    """
    real = min(float(getattr(node.options, "beta", 1.0)) * node.first.scale * 2.0 ** (31 - _INPUT_BITS), 2.0**31 - 1)
    by = Multiplier.of(real)
    if by.exponent < 0:
        raise node.refusal(f"has an input scale of {node.first.scale:g}, which is too small")
    too_far = math.floor((2**_INPUT_BITS - 1) * 2.0 ** (31 - _INPUT_BITS - by.exponent)) + 1
    below = torch.arange(256)
    powers = exponential(high_product(-below.clamp(max=too_far - 1) << by.exponent, by.mantissa))
    powers = torch.where(below < too_far, powers, 0)
    return powers, divided(powers, _SUM_BITS), too_far


def _reciprocal(sums: Tensor) -> tuple[Tensor, Tensor]:
    """1 / sum as a number below one with 31 fractional bits, and how many places to shift it right."""
    zeros = 31 - torch.floor(torch.log2(sums.double())).to(torch.int64)
    return reciprocal_of_one_plus((sums << zeros) - HIGHEST - 1), _SUM_BITS - zeros


def _of_int16(node: Node) -> Kernel:
    """Exponentials between -10 and 0 and a reciprocal between 1 and 2, both from tables, with 15 fractional bits."""
    by = Multiplier.of(node.first.scale * float(getattr(node.options, "beta", 1.0)) / (10.0 / 65535.0))
    if 65535 << by.left >= 1 << 31:
        raise node.refusal(f"has an input scale of {node.first.scale:g}: distances do not fit into 32 bits")
    powers = _interpolated(np.exp, np.float32(10.0) / np.float32(65535), 32767)
    inverses = _interpolated(lambda x: np.float32(1) / (np.float32(1) + x), np.float32(1) / np.float32(65535), -32768)

    def run(inputs: Sequence[Tensor]) -> Tensor:
        levels = inputs[0].to(torch.int64)
        distances = scaled(levels - levels.amax(-1, keepdim=True), by)
        each = powers[(distances + 65535).clamp_(0, 65535)]
        sums = each.sum(-1, keepdim=True)
        whole_bits = torch.floor(torch.log2(sums.double())).to(torch.int64) - 15
        shifted = ((sums << (15 - whole_bits)) + (1 << 13)) >> 14  # 1 ... 2 with 16 fractional bits
        inverse = inverses[(shifted - (1 << 16)).clamp_(0, 65535)]
        places = 15 + whole_bits
        return ((each * inverse + (1 << places >> 1)) >> places).clamp_(0, 32767).float()

    return run


def _interpolated(function: Callable[[Any], Any], scale: np.float32, zero_point: int) -> Tensor:
    """A function of all 65,536 levels, with 15 fractional bits, from 512 straight pieces.

    The pieces' ends are moved so that a piece errs as much in its middle as at its ends; computed in float32 as TFLite
    does.
    """
    one = np.float32
    low, high = scale * one(-32768 - zero_point), scale * one(32767 - zero_point)
    step, unit = (high - low) / one(512), one(65536) / (one(2) / one(65535) * one(65535))
    starts = low + np.arange(512, dtype=one) * step
    here, middle = function(starts) * unit, _rounded(function(starts + step / one(2)) * unit)
    after = function(low + np.arange(1, 513, dtype=one) * step) * unit
    error = _rounded((after + _rounded(here)) / one(2)) - middle
    ends = np.append(_rounded(here) - _rounded(error / one(2)), _rounded(function(high) * unit))
    ends = ends.clip(-32768, 32767).astype(np.int64)
    piece, within = np.divmod(np.arange(65536), 128)
    return torch.from_numpy(ends[piece] + (((ends[piece + 1] - ends[piece]) * within + 64) >> 7))


def _rounded(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """To the nearest, halves away from zero."""
    return np.asarray(np.trunc(x + np.copysign(np.float32(0.5), x)))
