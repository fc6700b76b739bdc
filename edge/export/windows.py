"""Sliding windows: torch's padding, strides and kernels as the device's, for convolutions and pools.

Import this module only from inside a function: it loads TensorFlow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
import tensorflow as tf
from jaxtyping import Float

from edge.export.graph import Call
from edge.export.layout import Tensor

Pair = tuple[int, int]
T = TypeVar("T")


@dataclass(frozen=True)
class Window:
    """A kernel, its stride and dilation, and torch's padding before and after, each for height and width."""

    kernel: Pair
    stride: Pair
    padding: tuple[Pair, Pair]
    dilation: Pair = (1, 1)

    def is_same(self, tensor: Tensor) -> bool:
        """Whether torch's padding is exactly what TFLite calls SAME, for a tensor of this size.

        They differ where a stride does not meet the edge: TFLite puts the odd row after, torch pads both sides.
        """
        spans = (self.dilation[i] * (self.kernel[i] - 1) + 1 for i in (0, 1))
        sides = (int(side) for side in tensor.shape[1:3])
        wanted = (_same(side, span, step) for side, span, step in zip(sides, spans, self.stride, strict=True))
        return tuple(wanted) == self.padding

    def zero_padded(self, tensor: Tensor) -> Tensor:
        """The tensor with torch's padding written out."""
        return tf.pad(tensor, [(0, 0), *self.padding, (0, 0)])

    def padded(self, tensor: Tensor) -> tuple[Tensor, Literal["SAME", "VALID"]]:
        """The tensor and the padding the operation itself then has to do: a PAD only where nothing else is exact."""
        if not any(map(any, self.padding)):
            return tensor, "VALID"
        return (tensor, "SAME") if self.is_same(tensor) else (self.zero_padded(tensor), "VALID")


def _same(side: int, span: int, step: int) -> Pair:
    total = max((-(-side // step) - 1) * step + span - side, 0)
    return total // 2, total - total // 2


def window(call: Call, kernel: Sequence[int]) -> Window:
    """The window of a convolution; a one-dimensional one has height 1."""
    sides = len(kernel)
    dilation = _both(call["dilation"], sides, 1)
    return Window(_both(kernel, sides, 1), _both(call["stride"], sides, 1), _padding(call, kernel), dilation)


def pool_window(call: Call) -> Window:
    """The window of a pool; without a stride it moves by its own size."""
    sides = len(call.value.shape) - 2
    if call["ceil_mode"]:
        raise call.refusal("ceil_mode=True has no counterpart on the device")
    kernel = _both(call["kernel_size"], sides, 1)
    stride = _both(call["stride"], sides, 1) if call["stride"] else kernel
    before = _both(call["padding"], sides, 0)
    return Window(kernel, stride, ((before[0], before[0]), (before[1], before[1])))


def _padding(call: Call, kernel: Sequence[int]) -> tuple[Pair, Pair]:
    """Torch's padding before and after; 'same' puts the odd one after, and exists for stride 1 only."""
    padding = call["padding"]
    if padding == "same":
        spans = zip(_both(kernel, len(kernel), 1), _both(call["dilation"], len(kernel), 1), strict=True)
        rows, columns = (step * (size - 1) for size, step in spans)
        return (rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2)
    rows, columns = (0, 0) if padding == "valid" else _both(padding, len(kernel), 0)
    return (rows, rows), (columns, columns)


def _both(argument: int | Sequence[int], sides: int, height: int) -> Pair:
    """Torch's one or two numbers as (height, width); `height` is what a one-dimensional layer has there."""
    numbers = [argument] if isinstance(argument, int) else list(argument)
    if sides == 1:
        return height, numbers[0]
    return numbers[0], numbers[-1]


def convolution(
    tensor: Tensor, weight: Float[np.ndarray, "outputs inputs *kernel"], view: Window, *, depthwise: bool
) -> Tensor:
    """A convolution with torch's weight (out, in, [height,] width)."""
    tensor, padding = view.padded(tensor)
    weight = weight.reshape(*weight.shape[:2], *view.kernel)
    if not depthwise:
        return tf.nn.conv2d(tensor, weight.transpose(2, 3, 1, 0), view.stride, padding, dilations=view.dilation)
    channels = int(tensor.shape[-1])
    stride = view.stride if tensor.shape[1] > 1 else (view.stride[1],) * 2  # TensorFlow wants both equal
    return tf.raw_ops.DepthwiseConv2dNative(
        input=tensor,
        filter=weight.reshape(channels, -1, *view.kernel).transpose(2, 3, 0, 1),
        strides=[1, *stride, 1],
        padding=padding,
        dilations=[1, *view.dilation, 1],
    )
