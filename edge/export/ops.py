"""ATen operations as channels-last TensorFlow operations, one function per operation or family.

Import this module only from inside a function: it loads TensorFlow.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import tensorflow as tf
import torch

from edge.export import activations, arithmetic, joining, pools
from edge.export.graph import Call, Op
from edge.export.layout import Value, memory_order, memory_shape
from edge.export.normalisation import batch_norm, group_norm, layer_norm
from edge.export.windows import convolution, window

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


def conv_transpose(call: Call) -> Value:
    """ConvTranspose1d and ConvTranspose2d: TRANSPOSE_CONV without padding, and a cut where torch has some."""
    weight, value = call.weights("weight"), call.value
    assert weight is not None
    if call["groups"] != 1 or any(step != 1 for step in call["dilation"]):
        raise call.refusal(f"groups={call['groups']}, dilation={call['dilation']}; supported is 1 for both")
    view = window(call, weight.shape[2:])
    more = (0, 0) if not any(call["output_padding"]) else (0, *call["output_padding"])[-2:]
    before = [int(side) for side in value.tensor.shape[1:3]]
    full = [
        (side - 1) * step + span + extra
        for side, step, span, extra in zip(before, view.stride, view.kernel, more, strict=True)
    ]
    kernel = weight.reshape(*weight.shape[:2], *view.kernel).transpose(2, 3, 1, 0)
    shape = (1, *full, weight.shape[1])
    tensor = tf.nn.conv2d_transpose(value.tensor, kernel, shape, view.stride, "VALID")
    bias = call.weights("bias")
    tensor = tensor if bias is None else tf.nn.bias_add(tensor, bias)
    if any(map(any, view.padding)):
        height, width = memory_shape(call.shape)[1:3]
        (top, _), (left, _) = view.padding
        tensor = tensor[:, top : top + height, left : left + width, :]
    return Value.of(tensor, call.shape)


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


def identity(call: Call) -> Value:
    """What changes nothing in inference: dropout, clone, contiguous."""
    return call.value


OPS: Final[dict[Any, Op]] = {
    aten.linear.default: linear,
    aten.conv1d.default: conv,
    aten.conv1d.padding: conv,
    aten.conv2d.default: conv,
    aten.conv2d.padding: conv,
    aten.conv_transpose1d.default: conv_transpose,
    aten.conv_transpose2d.input: conv_transpose,
    aten._native_batch_norm_legit_no_training.default: batch_norm,
    aten.group_norm.default: group_norm,
    aten.layer_norm.default: layer_norm,
    aten.relu.default: activations.relu,
    aten.relu6.default: activations.clip,
    aten.hardtanh.default: activations.clip,
    aten.clamp.default: activations.clip,
    aten.clamp_min.default: activations.clip,
    aten.clamp_max.default: activations.clip,
    aten.leaky_relu.default: activations.leaky_relu,
    aten.sigmoid.default: activations.sigmoid,
    aten.tanh.default: activations.tanh,
    aten.silu.default: activations.silu,
    aten.gelu.default: activations.gelu,
    aten.hardsigmoid.default: activations.hardsigmoid,
    aten.hardswish.default: activations.hardswish,
    aten.softmax.int: activations.softmax,
    aten._softmax.default: activations.softmax,
    aten.log_softmax.int: activations.log_softmax,
    aten._log_softmax.default: activations.log_softmax,
    aten.max_pool1d.default: pools.max_pool,
    aten.max_pool2d.default: pools.max_pool,
    aten.avg_pool1d.default: pools.avg_pool,
    aten.avg_pool2d.default: pools.avg_pool,
    aten.adaptive_avg_pool1d.default: pools.adaptive_avg_pool,
    aten.adaptive_avg_pool2d.default: pools.adaptive_avg_pool,
    aten.adaptive_max_pool1d.default: pools.adaptive_max_pool,
    aten.adaptive_max_pool2d.default: pools.adaptive_max_pool,
    aten.mean.dim: pools.mean,
    aten.amax.default: pools.largest,
    aten.flatten.using_ints: reshape,
    aten.view.default: reshape,
    aten.reshape.default: reshape,
    aten.squeeze.dim: reshape,
    aten.squeeze.dims: reshape,
    aten.unsqueeze.default: reshape,
    aten.cat.default: joining.cat,
    aten.split.Tensor: joining.split,
    aten.split_with_sizes.default: joining.split,
    aten.slice.Tensor: joining.take,
    aten.pad.default: joining.pad,
    aten.constant_pad_nd.default: joining.pad,
    aten.upsample_nearest1d.vec: joining.upsample_nearest,
    aten.upsample_nearest1d.default: joining.upsample_nearest,
    aten.upsample_nearest2d.vec: joining.upsample_nearest,
    aten.upsample_nearest2d.default: joining.upsample_nearest,
    aten.dropout.default: identity,
    aten.feature_dropout.default: identity,
    aten.clone.default: identity,
    aten.contiguous.default: identity,
    aten.alias.default: identity,
    aten.add.Tensor: arithmetic.add,
    aten.sub.Tensor: arithmetic.subtract,
    aten.mul.Tensor: arithmetic.multiply,
    aten.div.Tensor: arithmetic.divide,
}
