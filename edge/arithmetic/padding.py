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


def padding(window: Window, node: Node) -> tuple[tuple[int, ...], Pair | None]:
    """What goes around a map, (0, 0, left, right, top, bottom) for channels last; and the same as (height, width) if
    both sides of each are equal, else None. With SAME the larger half goes below and to the right.
    """
    if len(node.first.shape) != 4 or len(node.output.shape) != 4:
        raise node.refusal(f"takes shape {node.first.shape}; four dimensions are supported")
    total = [0, 0]
    if node.option("padding") == 0:  # SAME
        sides = zip(
            node.output.shape[1:3], node.first.shape[1:3], window.size, window.stride, window.dilation, strict=True
        )
        total = [
            max((made - 1) * stride + (size - 1) * dilation + 1 - given, 0)
            for made, given, size, stride, dilation in sides
        ]
    height, width = total
    around = (0, 0, width // 2, width - width // 2, height // 2, height - height // 2)
    return around, (height // 2, width // 2) if height % 2 == width % 2 == 0 else None
