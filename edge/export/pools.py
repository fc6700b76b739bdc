"""Pools and means over positions.

Import this module only from inside a function: it loads TensorFlow.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from edge.export.graph import Call
from edge.export.layout import Tensor, Value, memory_shape
from edge.export.windows import pool_window

Reduction = Callable[..., Tensor]


def max_pool(call: Call) -> Value:
    """MaxPool1d and MaxPool2d."""
    view = pool_window(call)
    if call["dilation"] not in (1, [1], [1, 1], []):
        raise call.refusal("dilation in max pooling has no counterpart on the device")
    if not view.is_same(call.value.tensor) and any(map(any, view.padding)) and not call.value.nonnegative:
        raise call.refusal("this padding is not the device's own; without padding, or after a ReLU, it works")
    tensor, padding = view.padded(call.value.tensor)  # zeros never win against numbers that are not negative
    pooled = tf.nn.max_pool2d(tensor, view.kernel, view.stride, padding)
    return Value.of(pooled, call.shape, nonnegative=call.value.nonnegative)


def avg_pool(call: Call) -> Value:
    """AvgPool1d and AvgPool2d."""
    view = pool_window(call)
    padded = any(map(any, view.padding))
    if call.arguments.get("divisor_override") is not None:
        raise call.refusal("divisor_override has no counterpart on the device")
    if padded and call["count_include_pad"]:
        tensor, padding = view.zero_padded(call.value.tensor), "VALID"
    elif padded and not view.is_same(call.value.tensor):
        raise call.refusal("count_include_pad=False with this padding has no counterpart on the device")
    else:
        tensor, padding = view.padded(call.value.tensor)
    pooled = tf.nn.avg_pool2d(tensor, view.kernel, view.stride, padding)
    return Value.of(pooled, call.shape, nonnegative=call.value.nonnegative)


def adaptive_avg_pool(call: Call) -> Value:
    """AdaptiveAvgPool to one value per channel, or to a size that divides the input's."""
    return _adaptive(call, tf.nn.avg_pool2d, tf.reduce_mean)


def adaptive_max_pool(call: Call) -> Value:
    """AdaptiveMaxPool, as its sibling."""
    return _adaptive(call, tf.nn.max_pool2d, _reduce_max)


def mean(call: Call) -> Value:
    """The mean over all of a channel's positions, as in `x.mean((2, 3))`."""
    _all_positions(call, "averages")
    return _global(call, tf.reduce_mean)


def largest(call: Call) -> Value:
    """The largest of all of a channel's positions, as in `x.amax((2, 3))`."""
    _all_positions(call, "takes the largest")
    return _global(call, _reduce_max)


def _all_positions(call: Call, does: str) -> None:
    rank = len(call.value.shape)
    if rank == 2 or {axis % rank for axis in call["dim"] or ()} != set(range(2, rank)):
        raise call.refusal(f"it {does} over dimensions {call['dim']}; supported is all but records and channels")


def _adaptive(call: Call, pool: Reduction, whole: Reduction) -> Value:
    sides, wanted = memory_shape(call.value.shape)[1:3], memory_shape(call.shape)[1:3]
    if wanted == (1, 1):
        return _global(call, whole)
    if any(side % size for side, size in zip(sides, wanted, strict=True)):
        raise call.refusal(f"an output of {wanted} does not divide the input of {sides} evenly")
    kernel = tuple(side // size for side, size in zip(sides, wanted, strict=True))
    tensor = pool(call.value.tensor, kernel, kernel, "VALID")
    return Value.of(tensor, call.shape, nonnegative=call.value.nonnegative)


def _global(call: Call, whole: Reduction) -> Value:
    tensor, positive = call.value.tensor, call.value.nonnegative
    pooled = whole(tensor, [1, 2])
    if len(call.shape) == 2:
        return Value.of(pooled, call.shape, nonnegative=positive)
    kept = whole(tensor, [1, 2], keepdims=True)
    return Value.of(kept, call.shape, pooled=pooled, nonnegative=positive)


def _reduce_max(tensor: Tensor, _: list[int], keepdims: bool = False) -> Tensor:
    """A pool as large as the map: TFLite Micro has no REDUCE_MAX for int16."""
    pooled = tf.nn.max_pool2d(tensor, tensor.shape[1:3], 1, "VALID")
    return pooled if keepdims else tf.reshape(pooled, (1, -1))
