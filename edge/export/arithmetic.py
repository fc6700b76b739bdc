"""Sums, differences, products and quotients on the device.

Import this module only from inside a function: it loads TensorFlow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from edge.export.graph import Call
from edge.export.layout import Shape, Tensor, Value, memory_shape


def add(call: Call) -> Value:
    """A sum of two activations, as in a residual block, or of an activation and a constant."""
    return _combined(call, lambda left, right: left + right)


def subtract(call: Call) -> Value:
    """An activation minus a constant or another activation."""
    return _combined(call, lambda left, right: left - right)


def multiply(call: Call) -> Value:
    """A product with a constant or another activation, also of a map with one number per channel."""
    return _combined(call, lambda left, right: left * right)


def divide(call: Call) -> Value:
    """A quotient by a constant: a product on the device."""
    if isinstance(call["other"], Value):
        raise call.refusal("the device divides by constants only")
    return _combined(call, lambda left, right: left * (1 / right).astype(np.float32))


def _combined(call: Call, function: Callable[[Tensor, Any], Tensor]) -> Value:
    """Both sides in one memory layout; where one is (records, channels, 1, 1), it goes with every position."""
    value, other = call.value, call["other"]
    if call.arguments.get("alpha", 1) != 1:
        raise call.refusal(f"alpha={call['alpha']}; write the product out")
    if not isinstance(other, Value):
        return value.with_tensor(function(value.tensor, _number(call, other)))
    larger = max(value, other, key=lambda each: each.order.size)
    if value.shape == other.shape and not np.array_equal(other.order, value.order):
        raise call.refusal(f"its operands of shape {value.shape} are flattened in different ways")
    if value.shape != other.shape and not all(_spreads(each.shape, larger.shape) for each in (value, other)):
        raise call.refusal(f"shapes {value.shape} and {other.shape} differ, in more than one number per channel")
    return larger.with_tensor(function(value.tensor, other.tensor))


def _spreads(shape: Shape, wanted: Shape) -> bool:
    """Whether a value goes with every position of a map of the same channels, or is such a map."""
    return shape == wanted or (len(shape) > 2 and shape == (*wanted[:2], *[1] * (len(wanted) - 2)))


def _number(call: Call, other: Any) -> np.ndarray[Any, Any] | np.float32:  # noqa: ANN401 - a number or a weight
    if isinstance(other, torch.Tensor):
        return _constant(call, other.detach().cpu().numpy().astype(np.float32))
    return np.float32(other)


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
