"""What the stages of a model are made of: operators with their place, and the numbers that their tensors carry."""

from __future__ import annotations

from dataclasses import dataclass
from math import frexp, isfinite
from typing import Any

import numpy as np

from edge.runtimes.runtime import CannotRunError


@dataclass(frozen=True)
class Place:
    """An operator, its name and where it is."""

    kind: str
    number: int  # from 1, in the order of execution
    count: int
    operator: Any  # generated code, untyped

    def __str__(self) -> str:
        return f"operator {self.number} of {self.count}, {self.kind},"

    def refusal(self, why: str) -> CannotRunError:
        """An error that says which operator, and why it cannot be in firmware."""
        return CannotRunError(f"{self} {why}")


@dataclass(frozen=True)
class Step:
    """The one scale and zero point of an activation."""

    scale: float
    zero_point: int


def step_of(tensor: Any, place: Place) -> Step:  # noqa: ANN401 - generated code, untyped
    """Of an int8 activation that `place` works on."""
    quantization = tensor.quantization
    scales = [] if quantization is None or quantization.scale is None else list(quantization.scale)
    if len(scales) != 1 or not (isfinite(scales[0]) and scales[0] > 0):
        raise place.refusal("works on a tensor that does not have one usable scale")
    zeros = [] if quantization.zeroPoint is None else list(quantization.zeroPoint)
    zero = int(zeros[0]) if zeros else 0
    if not -128 <= zero <= 127:
        raise place.refusal(f"works on a tensor with the zero point {zero}, which is not int8")
    return Step(float(np.float32(scales[0])), zero)


def shape_of(tensor: Any) -> tuple[int, ...]:  # noqa: ANN401 - generated code, untyped
    """A tensor's shape; () for a single number."""
    return () if tensor.shape is None else tuple(int(side) for side in tensor.shape)


def data_of(whole: Any, tensor: Any) -> bytes:  # noqa: ANN401 - generated code, untyped
    """A constant's bytes; none for an activation."""
    data = whole.buffers[tensor.buffer].data
    return b"" if data is None or len(data) == 0 else bytes(bytearray(data))


def integers(whole: Any, tensor: Any, place: Place) -> list[int]:  # noqa: ANN401 - generated code, untyped
    """A constant list of whole numbers, such as axes or paddings."""
    from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

    kinds = {schema.TensorType.INT32: "<i4", schema.TensorType.INT64: "<i8"}
    data = data_of(whole, tensor)
    if tensor.type not in kinds or not data or len(data) % int(kinds[tensor.type][2:]):
        raise place.refusal("has axes or sizes that are not constants")
    return [int(value) for value in np.frombuffer(data, kinds[tensor.type])]


def fixed_point(real: float) -> tuple[int, int]:
    """A positive factor as (multiplier, shift), multiplier / 2^31 * 2^shift, rounded as TFLite does.

    Raises `CannotRunError` for a factor that TFLite does not take either.
    """
    if not (isfinite(real) and 0 < real < 2.0**31):
        raise CannotRunError(f"two scales are {real:g} times apart: no such factor fits into 32 bits")
    fraction, shift = frexp(real)
    multiplier = int(fraction * 2**31 + 0.5)  # exact below 2^53; halves upwards
    if multiplier == 2**31:
        multiplier, shift = multiplier // 2, shift + 1
    return (0, 0) if shift < -31 else (multiplier, shift)
