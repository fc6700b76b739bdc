"""What the architectures are made of: convolutions with their normalisation, and TFLite's own padding."""

from __future__ import annotations

from typing import Literal

from torch import nn

Norm = Literal["none", "group"]
Shape = tuple[int, ...]
Sides = tuple[int, int]  # height and width of a map


class ModelShapeError(ValueError):
    """The model cannot take records of this shape."""


def normalised(norm: Norm, channels: int) -> list[nn.Module]:
    """The normalisation behind a layer of so many channels, in 4 groups, or nothing."""
    return [nn.GroupNorm(4, channels)] if norm == "group" else []


def conv1d(inputs: int, outputs: int, kernel: int, norm: Norm, stride: int = 1) -> list[nn.Module]:
    """Convolution, normalisation and ReLU over a window."""
    conv = nn.Conv1d(inputs, outputs, kernel, stride, padding=(kernel - 1) // 2)
    return [conv, *normalised(norm, outputs), nn.ReLU()]


def conv2d(
    inputs: int,
    outputs: int,
    norm: Norm,
    *,
    kernel: Sides = (3, 3),
    stride: int = 1,
    sides: Sides = (0, 0),
    groups: int = 1,
    relu: bool = True,
) -> list[nn.Module]:
    """Convolution, normalisation and ReLU over an image of `sides`, padded as TFLite's SAME.

    The result has ceil(side / stride) rows and columns. Without a stride `sides` do not matter.
    """
    before, after = zip(*(_same(*each, stride) for each in zip(sides, kernel, strict=True)), strict=True)
    padding = before if before == after else (0, 0)
    around: list[nn.Module] = [] if before == after else [nn.ZeroPad2d((before[1], after[1], before[0], after[0]))]
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=padding, groups=groups)
    return [*around, conv, *normalised(norm, outputs), *([nn.ReLU()] if relu else [])]


def shrunk(sides: Sides, stride: int) -> Sides:
    """Height and width behind a convolution with this stride."""
    return -(-sides[0] // stride), -(-sides[1] // stride)


def at_least(name: str, size: int, smallest: int) -> None:
    """Raises `ModelShapeError` for records shorter than `smallest` on any side."""
    if size < smallest:
        raise ModelShapeError(f"{name} needs records at least {smallest} long on every side, these have {size}")


def _same(side: int, kernel: int, stride: int) -> tuple[int, int]:
    """Rows of zeros before and after, so that ceil(side / stride) results come out; the odd one goes after."""
    total = max((-(-side // stride) - 1) * stride + kernel - side, 0) if stride > 1 else kernel - 1
    return total // 2, total - total // 2
