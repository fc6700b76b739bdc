"""Calls of our own kernels (source/kernels.c), with the parameters that TFLite Micro would compute when it loads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import floor, prod
from typing import Any, Final

import numpy as np

from edge.firmware.operators import Place, fixed_point, integers, shape_of, step_of

MOST_CLASSES: Final = 4095  # the sum of so many exponentials still fits into 32 bits


@dataclass(frozen=True)
class Call:
    """A C function and what it is given after its input and output."""

    function: str
    arguments: tuple[str, ...]

    def c(self, source: str, result: str) -> str:
        """The statement."""
        return f"{self.function}({', '.join((source, result, *self.arguments))});"


def mean(whole: Any, place: Place) -> Call:  # noqa: ANN401 - generated code, untyped
    """The mean over neighbouring axes, as over all positions of a map.

    TFLite Micro puts 1 / positions into the factor (kernels/internal/reference/reduce.h, QuantizedMeanOrSum).
    """
    source, result = _ends(whole, place)
    before, after = step_of(source, place), step_of(result, place)
    outer, positions, inner = _around(whole, place, shape_of(source))
    if outer * inner != prod(shape_of(result)):
        raise place.refusal(f"gives a tensor of shape {shape_of(result)}, which is not that of a mean")
    multiplier, shift = fixed_point(before.scale / after.scale)
    bits = min(positions.bit_length() - 1, 32, 31 + shift)
    multiplier, shift = (multiplier << bits) // positions, shift - bits
    return Call(
        "seepage_mean",
        (
            f"{outer}u, {positions}u, {inner}u",
            str(before.zero_point * positions),
            _factor(multiplier, shift),
            str(after.zero_point),
        ),
    )


def softmax(whole: Any, place: Place) -> Call:  # noqa: ANN401 - generated code, untyped
    """Softmax over the last axis, in gemmlowp's arithmetic with 5 integer bits for the scaled differences."""
    source, result = _ends(whole, place)
    before, after = step_of(source, place), step_of(result, place)
    if (after.scale, after.zero_point) != (1 / 256, -128):
        raise place.refusal("has an output that is not in steps of 1/256 from -128")
    shape = shape_of(source)
    if shape != shape_of(result) or not shape or shape[-1] > MOST_CLASSES:
        raise place.refusal(
            f"is over a tensor of shape {shape}; it takes up to {MOST_CLASSES} classes, and keeps its shape"
        )
    beta = getattr(place.operator.builtinOptions, "beta", 1.0)
    multiplier, shift = fixed_point(min(float(np.float32(beta)) * before.scale * 2.0**26, 2.0**31 - 1))
    if shift < 1:  # TFLite Micro stops here, too
        raise place.refusal("has an input so fine that all its classes are alike")
    smallest = -floor(31 * 2.0**26 / 2.0**shift)
    sizes = f"{prod(shape[:-1])}u, {shape[-1]}u"
    return Call("seepage_softmax", (sizes, _factor(multiplier, shift), str(max(smallest, -256))))


def quantize(whole: Any, place: Place) -> Call:  # noqa: ANN401 - generated code, untyped
    """From one int8 scale to another."""
    source, result = _ends(whole, place)
    return _requantised(place, source, result, step_of(source, place).scale / step_of(result, place).scale, -128)


def relu(whole: Any, place: Place) -> Call:  # noqa: ANN401 - generated code, untyped
    """ReLU on its own; the ratio of the scales is one of float32 numbers, as in TFLite Micro."""
    source, result = _ends(whole, place)
    ratio = np.float32(step_of(source, place).scale) / np.float32(step_of(result, place).scale)
    return _requantised(place, source, result, float(ratio), step_of(result, place).zero_point)


KERNEL_CALLS: Final[dict[str, Callable[[Any, Place], Call]]] = {
    "MEAN": mean,
    "SOFTMAX": softmax,
    "QUANTIZE": quantize,
    "RELU": relu,
}


def _requantised(place: Place, source: Any, result: Any, ratio: float, low: int) -> Call:  # noqa: ANN401
    before, after = step_of(source, place), step_of(result, place)
    if shape_of(source) != shape_of(result):
        raise place.refusal(f"makes {shape_of(result)} of {shape_of(source)}; it keeps a shape")
    return Call(
        "seepage_requantise",
        (
            f"{prod(shape_of(source))}u",
            str(before.zero_point),
            _factor(*fixed_point(ratio)),
            str(after.zero_point),
            str(low),
            "127",
        ),
    )


def _around(whole: Any, place: Place, shape: tuple[int, ...]) -> tuple[int, int, int]:  # noqa: ANN401
    """How many numbers are before, in and after the axes of a mean."""
    if len(place.operator.inputs) < 2:
        raise place.refusal("has no axes")
    tensor = whole.subgraphs[0].tensors[place.operator.inputs[1]]
    axes = sorted({axis + len(shape) if axis < 0 else axis for axis in integers(whole, tensor, place)})
    if not axes or axes[0] < 0 or axes[-1] >= len(shape) or axes[-1] - axes[0] + 1 != len(axes):
        raise place.refusal(f"is over the axes {axes} of {shape}; supported are axes that are neighbours")
    sizes = prod(shape[: axes[0]]), prod(shape[axes[0] : axes[-1] + 1]), prod(shape[axes[-1] + 1 :])
    if not 1 <= sizes[1] < 1 << 23:
        raise place.refusal(f"is over {sizes[1]} positions")
    return sizes


def _ends(whole: Any, place: Place) -> tuple[Any, Any]:  # noqa: ANN401 - generated code, untyped
    tensors = whole.subgraphs[0].tensors
    return tensors[place.operator.inputs[0]], tensors[place.operator.outputs[0]]


def _factor(multiplier: int, shift: int) -> str:
    return f"(factor){{{multiplier}, {shift}}}"
