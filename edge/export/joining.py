"""Concatenation, slices, padding and upsampling on the device.

Import this module only from inside a function: it loads TensorFlow.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from edge.export.graph import Call
from edge.export.layout import Tensor, Value, memory_shape


def cat(call: Call) -> Value:
    """Concatenation along channels or features, channels being last in memory."""
    parts, rank = call["tensors"], len(call.shape)
    if call["dim"] % rank != 1:
        raise call.refusal(f"it joins along dimension {call['dim']}; supported is dimension 1, channels or features")
    if not all(isinstance(part, Value) for part in parts):
        raise call.refusal("it joins constants to activations; only activations can be joined")
    tensor, positive = tf.concat([part.tensor for part in parts], -1), all(part.nonnegative for part in parts)
    if rank > 2:
        return Value.of(tensor, call.shape, nonnegative=positive)
    starts = np.cumsum([0, *(part.channels for part in parts)])[:-1]
    order = np.concatenate([part.order + start for part, start in zip(parts, starts, strict=True)])
    return Value(tensor, call.shape, order, nonnegative=positive)


def split(call: Call) -> list[Value]:
    """`split` and `chunk` along channels."""
    _along_channels(call)
    sizes = call.arguments.get("split_sizes", call.arguments.get("split_size"))
    channels = call.value.channels
    if isinstance(sizes, int):
        sizes = [min(sizes, channels - start) for start in range(0, channels, sizes)]
    starts = np.cumsum([0, *sizes])[:-1]
    return [_part(call, int(start), int(start + size)) for start, size in zip(starts, sizes, strict=True)]


def take(call: Call) -> Value:
    """`x[:, 2:5]`: some of the channels, one after the other."""
    _along_channels(call)
    channels = call.value.channels
    start, stop, step = slice(call["start"], call["end"], call["step"]).indices(channels)
    if step != 1:
        raise call.refusal(f"it takes every {step}th channel; supported is a run of channels")
    return _part(call, start, stop)


def _along_channels(call: Call) -> None:
    value, dim = call.value, call["dim"]
    if dim % len(value.shape) != 1:
        raise call.refusal(f"it cuts along dimension {dim}; supported is dimension 1, channels or features")
    if len(value.shape) == 2 and not np.array_equal(value.order, np.arange(value.channels)):
        raise call.refusal("it cuts a flattened map, whose numbers have another order on the device")


def _part(call: Call, start: int, stop: int) -> Value:
    value = call.value
    shape = (value.shape[0], stop - start, *value.shape[2:])
    return Value.of(value.tensor[..., start:stop], shape, nonnegative=value.nonnegative)


def pad(call: Call) -> Value:
    """Zero padding at the edges of an image or a window."""
    value, amounts = call.value, call["pad"]
    if call.arguments.get("mode", "constant") != "constant" or call["value"]:
        raise call.refusal("only padding with zeros has a counterpart on the device")
    rank = len(value.shape)
    if rank == 2 or len(amounts) > 2 * (rank - 2) or min(amounts) < 0:
        raise call.refusal(f"padding {list(amounts)}; supported is to add rows and columns to an image or window")
    pairs = [(amounts[i], amounts[i + 1]) for i in range(0, len(amounts), 2)]  # torch starts with the last side
    rows, columns = (*reversed(pairs[:2]),) if len(pairs) == 2 else ((0, 0), pairs[0])
    return Value.of(tf.pad(value.tensor, [(0, 0), rows, columns, (0, 0)]), call.shape, nonnegative=value.nonnegative)


def upsample_nearest(call: Call) -> Value:
    """Upsampling by whole factors: every number is repeated."""
    before, after = memory_shape(call.value.shape)[1:3], memory_shape(call.shape)[1:3]
    if any(large % small for large, small in zip(after, before, strict=True)):
        raise call.refusal(f"from {before} to {after} is not a whole factor")
    return Value.of(_repeated(call.value.tensor, after), call.shape, nonnegative=call.value.nonnegative)


def _repeated(tensor: Tensor, sides: Sequence[int]) -> Tensor:
    return tf.raw_ops.ResizeNearestNeighbor(
        images=tensor, size=list(sides), align_corners=False, half_pixel_centers=False
    )
