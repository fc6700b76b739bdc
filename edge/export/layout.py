"""Values on their way from torch's layout to channels-last, and the order their numbers have in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
from jaxtyping import Int

Shape = tuple[int, ...]
Tensor = Any  # a symbolic TensorFlow tensor: TensorFlow ships no types


def memory_shape(torch_shape: Shape) -> Shape:
    """The channels-last shape of a torch shape, batch first in both.

    (N, F) stays, (N, C, H, W) becomes (N, H, W, C), and (N, C, W) becomes (N, 1, W, C): one-dimensional
    convolutions are two-dimensional ones of height 1 on the device, so that no RESHAPE is needed around them.
    """
    if len(torch_shape) == 2:
        return torch_shape
    batch, channels, *spatial = torch_shape
    return (batch, *([1] * (2 - len(spatial))), *spatial, channels)


def memory_order(torch_shape: Shape) -> Int[np.ndarray, " elements"]:
    """For each number in channels-last memory, its index in torch's flattened record."""
    index = np.arange(prod(torch_shape)).reshape(torch_shape)
    return (index if index.ndim == 2 else np.moveaxis(index, 1, -1)).ravel()


@dataclass(frozen=True)
class Value:
    """One activation: a channels-last `tensor`, the shape torch gives it, and where each number came from.

    A flattened activation keeps its memory order, and the next Linear's columns are permuted instead: this is
    what saves the TRANSPOSE that a converter puts in front of every classifier head.
    """

    tensor: Tensor
    shape: Shape
    order: Int[np.ndarray, " elements"]
    pooled: Tensor | None = None  # the same numbers as (1, channels), where a global mean made them
    nonnegative: bool = False

    @staticmethod
    def of(tensor: Tensor, shape: Shape, *, pooled: Tensor | None = None, nonnegative: bool = False) -> Value:
        """A value in the ordinary memory order of `shape`."""
        return Value(tensor, shape, memory_order(shape), pooled, nonnegative)

    def with_tensor(self, tensor: Tensor, *, nonnegative: bool = False) -> Value:
        """The same shape and order, other numbers."""
        return replace(self, tensor=tensor, pooled=None, nonnegative=nonnegative)

    @property
    def channels(self) -> int:
        """Torch's dimension 1: channels, or features of a flat value."""
        return self.shape[1]
