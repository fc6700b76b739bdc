"""Normalisation layers on the device.

Import this module only from inside a function: it loads TensorFlow.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from jaxtyping import Float

from edge.export.graph import Call
from edge.export.layout import Tensor, Value

Weights = Float[np.ndarray, " channels"] | None


def batch_norm(call: Call) -> Value:
    """BatchNorm with its running statistics: a product and a sum, which the converter folds into the layer before."""
    value, mean, variance = call.value, call.weights("running_mean"), call.weights("running_var")
    assert mean is not None
    assert variance is not None
    weight, bias = call.weights("weight"), call.weights("bias")
    scale = (1.0 if weight is None else weight) / np.sqrt(variance.astype(np.float64) + call["eps"])
    shift = (0.0 if bias is None else bias) - mean * scale
    if len(value.shape) == 2:
        scale, shift = scale[value.order], shift[value.order]
    return value.with_tensor(value.tensor * scale.astype(np.float32) + shift.astype(np.float32))


def group_norm(call: Call) -> Value:
    """GroupNorm: the device computes mean and variance of every record, in int8.

    A group's mean is the mean over positions, averaged over the group's channels by a 1x1 convolution with a fixed
    matrix; unlike a reshape to groups, this leaves the layout alone. Activations and variances have one int8 scale
    for all records, so a record much quieter than the loudest ones of the calibration loses precision. Measured on
    a small 1-D CNN: where records are about equally loud, top-1 agreement with torch is .98, as with BatchNorm;
    .95 (BatchNorm .96) over a tenfold range of amplitudes; .53 (BatchNorm .97) over a hundredfold one.
    `edge.check.compare` measures it on the model at hand.
    """
    value, groups = call.value, call["num_groups"]
    if len(value.shape) == 2:
        return _over_features(call, groups)
    average = _group_average(value.channels, groups)
    centred = value.tensor - _group_mean(value.tensor, average)
    variance = _group_mean(centred * centred, average)
    tensor = centred * tf.math.rsqrt(variance + np.float32(call["eps"]))
    return value.with_tensor(_scaled(tensor, call.weights("weight"), call.weights("bias")))


def layer_norm(call: Call) -> Value:
    """LayerNorm over flat features: mean and variance of every record, in int8, with `group_norm`'s caveat."""
    if len(call.value.shape) != 2:
        raise call.refusal(f"over {call['normalized_shape']} it has no counterpart on the device; GroupNorm has one")
    return _over_features(call, 1)


def _over_features(call: Call, groups: int) -> Value:
    """Each record's features less their group's mean, over their group's deviation."""
    value = call.value
    if groups > 1 and not np.array_equal(value.order, np.arange(value.channels)):
        raise call.refusal("a flattened map's channels are not side by side on the device; put it before the flatten")
    rows = tf.reshape(value.tensor, (1, groups, -1)) if groups > 1 else value.tensor
    centred = rows - tf.reduce_mean(rows, -1, keepdims=True)
    variance = tf.reduce_mean(centred * centred, -1, keepdims=True)
    tensor = centred * tf.math.rsqrt(variance + np.float32(call["eps"]))
    tensor = tf.reshape(tensor, value.shape) if groups > 1 else tensor
    weights = (call.weights(name) for name in ("weight", "bias"))
    return value.with_tensor(_scaled(tensor, *(None if each is None else each[value.order] for each in weights)))


def _scaled(tensor: Tensor, weight: Weights, bias: Weights) -> Tensor:
    tensor = tensor if weight is None else tensor * weight
    return tensor if bias is None else tensor + bias


def _group_average(channels: int, groups: int) -> Float[np.ndarray, "1 1 channels channels"]:
    """The 1x1 convolution that replaces every channel by the average of its group."""
    size = channels // groups
    return np.kron(np.eye(groups), np.full((size, size), 1 / size)).astype(np.float32)[None, None]


def _group_mean(tensor: Tensor, average: Float[np.ndarray, "1 1 channels channels"]) -> Tensor:
    return tf.nn.conv2d(tf.reduce_mean(tensor, [1, 2], keepdims=True), average, 1, "VALID")
