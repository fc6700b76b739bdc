"""Activation functions on the device.

Import this module only from inside a function: it loads TensorFlow.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from edge.export.graph import Call
from edge.export.layout import Tensor, Value

_GELU = 2 * np.sqrt(2 / np.pi)


def relu(call: Call) -> Value:
    """ReLU."""
    return call.value.with_tensor(tf.nn.relu(call.value.tensor), nonnegative=True)


def clip(call: Call) -> Value:
    """ReLU6, which torch calls a hardtanh from 0 to 6, and clipping to any other bounds."""
    low, high = _bound(call, ("min_val", "min"), 0.0), _bound(call, ("max_val", "max"), 6.0)
    tensor = call.value.tensor
    if (low, high) == (-1, 1):  # the converter would make a RELU_N1_TO_1 of it, which TFLite Micro does not have
        high = float(np.nextafter(np.float32(1), np.float32(2)))
    if low == 0 and high in (None, 6):
        tensor = tf.nn.relu(tensor) if high is None else tf.nn.relu6(tensor)
    else:
        tensor = tensor if low is None else tf.maximum(tensor, low)
        tensor = tensor if high is None else tf.minimum(tensor, high)
    return call.value.with_tensor(tensor, nonnegative=low is not None and low >= 0)


def _bound(call: Call, names: tuple[str, str], default: float) -> float | None:
    """A bound by either of its names, None where there is none; ReLU6 has no names for its own."""
    given = [call[name] for name in names if name in call.arguments]
    if not given:
        return None if any(name in call.arguments for name in ("min", "max")) else default
    if given[0] is not None and not isinstance(given[0], int | float):
        raise call.refusal("it clips to bounds that are tensors; the device clips to numbers")
    return None if given[0] is None else float(given[0])


def leaky_relu(call: Call) -> Value:
    """LeakyReLU."""
    return call.value.with_tensor(tf.nn.leaky_relu(call.value.tensor, float(call["negative_slope"])))


def sigmoid(call: Call) -> Value:
    """Sigmoid."""
    return call.value.with_tensor(tf.nn.sigmoid(call.value.tensor), nonnegative=True)


def tanh(call: Call) -> Value:
    """Tanh."""
    return call.value.with_tensor(tf.nn.tanh(call.value.tensor))


def silu(call: Call) -> Value:
    """SiLU (swish): a sigmoid and a product, the device has no operator for both."""
    return call.value.with_tensor(call.value.tensor * tf.nn.sigmoid(call.value.tensor))


def gelu(call: Call) -> Value:
    """GELU as x sigmoid(1.5958 x (1 + 0.044715 x^2)): the device has no operator for it.

    This is torch's `approximate="tanh"` exactly, and within 5e-4 of the one with the error function (Hendrycks and
    Gimpel 2016, section 2).
    """
    x = call.value.tensor
    slope = x * x * np.float32(_GELU * 0.044715) + np.float32(_GELU)
    return call.value.with_tensor(x * tf.nn.sigmoid(x * slope))


def hardsigmoid(call: Call) -> Value:
    """Hardsigmoid: relu6(x + 3) / 6."""
    return call.value.with_tensor(_gate(call.value.tensor) * (1 / 6), nonnegative=True)


def hardswish(call: Call) -> Value:
    """Hardswish: x relu6(x + 3) / 6, written as the converter knows it."""
    return call.value.with_tensor(call.value.tensor * _gate(call.value.tensor) * (1 / 6))


def _gate(tensor: Tensor) -> Tensor:
    return tf.nn.relu6(tensor + 3.0)


def softmax(call: Call) -> Value:
    """Softmax over channels or features."""
    return call.value.with_tensor(tf.nn.softmax(_over_channels(call)), nonnegative=True)


def log_softmax(call: Call) -> Value:
    """The logarithm of a softmax, in int8 in fixed steps of 1/16 down to -16."""
    return call.value.with_tensor(tf.nn.log_softmax(_over_channels(call)))


def _over_channels(call: Call) -> Tensor:
    if call["dim"] % len(call.value.shape) != 1:
        raise call.refusal(f"it runs over dimension {call['dim']}; the device's runs over channels, dimension 1")
    return call.value.tensor
