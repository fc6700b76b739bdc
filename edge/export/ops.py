"""ATen operations as channels-last TensorFlow operations, one function per operation or family.

Import this module only from inside a function: it loads TensorFlow.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import tensorflow as tf
import torch

from edge.export.graph import Call, Op
from edge.export.layout import Shape, Value, memory_order, memory_shape
from edge.export.normalisation import batch_norm, group_norm
from edge.export.windows import convolution, pool_window, window

aten = torch.ops.aten


def linear(call: Call) -> Value:
    """Linear: FULLY_CONNECTED, its columns in the order in which a flatten left the numbers."""
    value, weight, bias = call.value, call.weights("weight"), call.weights("bias")
    assert weight is not None
    if len(value.shape) != 2:
        raise call.refusal(f"its input has shape {value.shape}; Linear works on (records, features): flatten first")
    tensor = tf.matmul(value.tensor, np.ascontiguousarray(weight[:, value.order]), transpose_b=True)
    return Value.of(tensor if bias is None else tf.nn.bias_add(tensor, bias), call.shape)


def conv(call: Call) -> Value:
    """Conv1d and Conv2d, ordinary or depthwise."""
    weight, groups = call.weights("weight"), call["groups"]
    assert weight is not None
    if groups not in (1, call.value.channels) or (groups > 1 and weight.shape[1] != 1):
        raise call.refusal(f"groups={groups}; supported are 1 and one group per channel (depthwise)")
    tensor = convolution(call.value.tensor, weight, window(call, weight.shape[2:]), depthwise=groups > 1)
    bias = call.weights("bias")
    return Value.of(tensor if bias is None else tf.nn.bias_add(tensor, bias), call.shape)


def relu(call: Call) -> Value:
    """ReLU."""
    return call.value.with_tensor(tf.nn.relu(call.value.tensor), nonnegative=True)


def relu6(call: Call) -> Value:
    """ReLU6, which torch calls a hardtanh from 0 to 6."""
    bounds = (call.arguments.get("min_val", 0), call.arguments.get("max_val", 6))
    if bounds != (0, 6):
        raise call.refusal(f"it clips to {bounds}; the device has ReLU and ReLU6 (0 to 6)")
    return call.value.with_tensor(tf.nn.relu6(call.value.tensor), nonnegative=True)


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
    sides, wanted = memory_shape(call.value.shape)[1:3], memory_shape(call.shape)[1:3]
    if wanted == (1, 1):
        return _global_mean(call)
    if any(side % size for side, size in zip(sides, wanted, strict=True)):
        raise call.refusal(f"an output of {wanted} does not divide the input of {sides} evenly")
    kernel = tuple(side // size for side, size in zip(sides, wanted, strict=True))
    return Value.of(tf.nn.avg_pool2d(call.value.tensor, kernel, kernel, "VALID"), call.shape)


def mean(call: Call) -> Value:
    """The mean over all of a channel's positions, as in `x.mean((2, 3))`."""
    rank = len(call.value.shape)
    if rank == 2 or {axis % rank for axis in call["dim"] or ()} != set(range(2, rank)):
        raise call.refusal(f"it averages over dimensions {call['dim']}; supported is all but records and channels")
    return _global_mean(call)


def _global_mean(call: Call) -> Value:
    tensor, positive = call.value.tensor, call.value.nonnegative
    pooled = tf.reduce_mean(tensor, [1, 2])
    if len(call.shape) == 2:
        return Value.of(pooled, call.shape, nonnegative=positive)
    kept = tf.reduce_mean(tensor, [1, 2], keepdims=True)
    return Value.of(kept, call.shape, pooled=pooled, nonnegative=positive)


def reshape(call: Call) -> Value:
    """Flatten, view, squeeze and unsqueeze, wherever the numbers can stay where they are in memory."""
    value, shape = call.value, call.shape
    if len(shape) == 2 and value.pooled is not None:
        return Value(value.pooled, shape, value.order, nonnegative=value.nonnegative)
    fits = shape[0] == 1 and len(shape) in (2, 3, 4)
    if not fits or (len(shape) > 2 and not np.array_equal(value.order, memory_order(shape))):
        raise call.refusal(f"from {value.shape} to {shape} would need a TRANSPOSE on the device")
    tensor = tf.reshape(value.tensor, memory_shape(shape))
    return Value(tensor, shape, value.order, nonnegative=value.nonnegative)


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


def identity(call: Call) -> Value:
    """What changes nothing in inference: dropout, clone, contiguous."""
    return call.value


def add(call: Call) -> Value:
    """A sum of two activations, as in a residual block, or of an activation and a constant."""
    if call["alpha"] != 1:
        raise call.refusal(f"alpha={call['alpha']}; write the product out")
    left, right = _operands(call)
    return call.value.with_tensor(left + right)


def subtract(call: Call) -> Value:
    """An activation minus a constant or another activation."""
    if call["alpha"] != 1:
        raise call.refusal(f"alpha={call['alpha']}; write the product out")
    left, right = _operands(call)
    return call.value.with_tensor(left - right)


def multiply(call: Call) -> Value:
    """A product with a constant or another activation."""
    left, right = _operands(call)
    return call.value.with_tensor(left * right)


def divide(call: Call) -> Value:
    """A quotient by a constant: a product on the device."""
    if isinstance(call["other"], Value):
        raise call.refusal("the device divides by constants only")
    left, right = _operands(call)
    return call.value.with_tensor(left * (1 / right).astype(np.float32))


def _operands(call: Call) -> tuple[Any, Any]:
    """Both sides in the first one's memory layout."""
    value, other = call.value, call["other"]
    if isinstance(other, Value):
        if other.shape != value.shape or not np.array_equal(other.order, value.order):
            raise call.refusal(f"shapes {value.shape} and {other.shape} differ, or are flattened in different ways")
        return value.tensor, other.tensor
    if isinstance(other, torch.Tensor):
        return value.tensor, _constant(call, other.detach().cpu().numpy().astype(np.float32))
    return value.tensor, np.float32(other)


def _constant(call: Call, constant: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A constant in the activation's memory layout, not larger than it has to be."""
    value = call.value
    if constant.size == 1:
        return constant.reshape(())
    shape: Shape = (1,) * (len(value.shape) - constant.ndim) + constant.shape
    if len(shape) != len(value.shape) or shape[0] != 1:
        raise call.refusal(f"a constant of shape {constant.shape} beside an activation of shape {value.shape}")
    if len(shape) == 2:
        return np.broadcast_to(constant.reshape(shape), value.shape)[:, value.order]
    return np.moveaxis(constant.reshape(shape), 1, -1).reshape(memory_shape(shape))


OPS: Final[dict[Any, Op]] = {
    aten.linear.default: linear,
    aten.conv1d.default: conv,
    aten.conv1d.padding: conv,
    aten.conv2d.default: conv,
    aten.conv2d.padding: conv,
    aten._native_batch_norm_legit_no_training.default: batch_norm,
    aten.group_norm.default: group_norm,
    aten.relu.default: relu,
    aten.relu6.default: relu6,
    aten.hardtanh.default: relu6,
    aten.max_pool1d.default: max_pool,
    aten.max_pool2d.default: max_pool,
    aten.avg_pool1d.default: avg_pool,
    aten.avg_pool2d.default: avg_pool,
    aten.adaptive_avg_pool1d.default: adaptive_avg_pool,
    aten.adaptive_avg_pool2d.default: adaptive_avg_pool,
    aten.mean.dim: mean,
    aten.flatten.using_ints: reshape,
    aten.view.default: reshape,
    aten.reshape.default: reshape,
    aten.squeeze.dim: reshape,
    aten.squeeze.dims: reshape,
    aten.unsqueeze.default: reshape,
    aten.pad.default: pad,
    aten.constant_pad_nd.default: pad,
    aten.dropout.default: identity,
    aten.feature_dropout.default: identity,
    aten.clone.default: identity,
    aten.contiguous.default: identity,
    aten.alias.default: identity,
    aten.add.Tensor: add,
    aten.sub.Tensor: subtract,
    aten.mul.Tensor: multiply,
    aten.div.Tensor: divide,
}
