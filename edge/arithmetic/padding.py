"""Windows that slide over a map, and the zeros that TFLite puts around it."""

from __future__ import annotations

from dataclasses import dataclass

from edge.arithmetic.network import Node

Pair = tuple[int, int]


@dataclass(frozen=True)
class Window:
    """Size, stride and dilation along height and width."""

    size: Pair
    stride: Pair
    dilation: Pair = (1, 1)

    @staticmethod
    def of(node: Node, size: tuple[int, ...]) -> Window:
        """The window of a convolution or a pool."""
        stride = node.option("strideH", 1), node.option("strideW", 1)
        dilation = node.option("dilationHFactor", 1), node.option("dilationWFactor", 1)
        return Window((size[0], size[1]), stride, dilation)


@dataclass(frozen=True)
class Fit:
    """How a window slides over a node's map: strides, and what goes around.

    `around` is (0, 0, left, right, top, bottom) for maps with channels last, negative where a margin is cut off.
    `symmetric` is the same as (height, width) where both sides of each are equal, else None.
    """

    stride: Pair
    around: tuple[int, ...]
    symmetric: Pair | None


def fitted(window: Window, node: Node) -> Fit:
    """With SAME padding the larger half goes below and to the right; with VALID there is none.

    Where one position is all there is along an axis, the map is cut to the window and the stride is 1: torch 2.13
    (oneDNN) convolves a single channel wrongly with strides of (1, 2 or more) if one column comes out.
    """
    if len(node.first.shape) != 4 or len(node.output.shape) != 4:
        raise node.refusal(f"takes shape {node.first.shape}; four dimensions are supported")
    stride, sides = list(window.stride), []
    for axis, (given, made) in enumerate(zip(node.first.shape[1:3], node.output.shape[1:3], strict=True)):
        reach = (made - 1) * stride[axis] + (window.size[axis] - 1) * window.dilation[axis] + 1
        missing = max(reach - given, 0) if node.option("padding") == 0 else 0
        before, after = missing // 2, missing - missing // 2
        if made == 1 and stride[axis] > 1:
            stride[axis], after = 1, reach - given - before
        sides.append((before, after))
    height, width = sides
    symmetric = (height[0], width[0]) if height[0] == height[1] and width[0] == width[1] else None
    return Fit((stride[0], stride[1]), (0, 0, *width, *height), symmetric)
