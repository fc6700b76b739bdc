"""Scales that do not go together: biases read with another scale than their own, and activations without a range.

A layer adds its bias to sums of products, so runtimes read it in steps of the input's scale times the weights', and
pay no heed to the scale that the file gives it (TensorFlow Lite quantization specification, "bias"). A converter that
keeps one bias for two layers, or takes one input's scale for another's, leaves a file that computes something else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from edge.tflite.parser import File, Graph, Operator, Tensor

# Where activation, weights and bias are among the inputs.
_BIASED: Final = {
    **dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "CONV_3D"), (0, 1, 2)),
    "TRANSPOSE_CONV": (2, 1, 3),
}
# What these give lies between what they take and as much again: a smaller range than one step of theirs is none.
_PASSING: Final = ("ADD", "SUB", "RELU", "RELU6", "RELU_N1_TO_1", "LEAKY_RELU", "PRELU", "MAX_POOL_2D", "HARD_SWISH")
_LEVELS: Final = {"INT8": 255, "UINT8": 255, "INT16": 65535}
_ROUNDING: Final = 1e-3  # relative: products of scales that differ by less differ by the order of rounding
_HALF: Final = 0.5  # of a step of the output: less is lost in rounding


@dataclass(frozen=True)
class Flaw:
    """A tensor at an operator (numbered from 1) of a graph, its value, what would be right, and the harm.

    Of a bias: its scale, the scale it is read with, and by how many steps of the layer's output it is misread at the
    most. Of a dead activation: its range, one step of what it is made of, and 0. What is not finite is written as 0.
    """

    graph: int
    operator: int
    kind: str
    tensor: str
    value: float
    wanted: float
    steps: float


def wrong_biases(file: File) -> list[Flaw]:
    """Biases that their layers misread by half a step of the output or more, or whose scales are no numbers."""
    return [flaw for number, graph in enumerate(file.graphs) for flaw in _biases(number, graph)]


def dead_activations(file: File) -> list[Flaw]:
    """Activations whose whole range is below one step of the sums they are made of: the layer was dead, or saturated,
    on the records that the file was calibrated with.
    """
    return [flaw for number, graph in enumerate(file.graphs) for flaw in _dead(number, graph)]


def _biases(number: int, graph: Graph) -> Iterator[Flaw]:
    for place, operator in enumerate(graph.operators, 1):
        parts = _parts(graph, operator)
        bias = parts[2] if parts else None
        if not parts or bias is None or not len(bias.scales) or not operator.outputs:
            continue
        read, own = _step(parts[0], parts[1]), bias.scales.astype(np.float64)
        output = graph.tensors[operator.outputs[0]].scales
        if not len(output) or (len(own) != len(read) and 1 not in (len(own), len(read))):
            continue
        read, own = np.broadcast_arrays(read, own)
        with np.errstate(all="ignore"):  # scales of zero and infinity are what is looked for
            apart = np.abs(read - own)
            steps = float(apart.max()) * bias.largest / float(output[0])
        worst = int(np.nan_to_num(apart, nan=np.inf).argmax())
        if not np.isfinite(apart).all() or (steps >= _HALF and apart[worst] > _ROUNDING * read[worst]):
            found = _finite(own[worst]), _finite(read[worst]), _finite(steps)
            yield Flaw(number, place, operator.kind, bias.name, *found)


def _dead(number: int, graph: Graph) -> Iterator[Flaw]:
    for place, operator in enumerate(graph.operators, 1):
        step = _made_of(graph, operator)
        if step is None:
            continue
        for index in operator.outputs:
            tensor = graph.tensors[index]
            if tensor.type not in _LEVELS or len(tensor.scales) != 1:
                continue
            reach = float(tensor.scales[0]) * _LEVELS[tensor.type]
            if not reach >= step:  # also where either is no number
                yield Flaw(number, place, operator.kind, tensor.name, _finite(reach), _finite(step), 0.0)


def _made_of(graph: Graph, operator: Operator) -> float | None:
    """One step of what an operator's output is made of, or None where that is not known."""
    if parts := _parts(graph, operator):
        return float(np.nan_to_num(_step(parts[0], parts[1]), nan=0.0, posinf=0.0).min())
    if operator.kind in _PASSING and operator.inputs and operator.inputs[0] >= 0:
        scales = graph.tensors[operator.inputs[0]].scales
        return float(scales[0]) if len(scales) == 1 else None
    return None


def _parts(graph: Graph, operator: Operator) -> tuple[Tensor, Tensor, Tensor | None] | None:
    """Activation, weights and bias of a layer whose first two have scales."""
    if operator.kind not in _BIASED:
        return None
    found = [
        graph.tensors[operator.inputs[at]] if at < len(operator.inputs) and operator.inputs[at] >= 0 else None
        for at in _BIASED[operator.kind]
    ]
    source, weights, bias = found
    if source is None or weights is None or len(source.scales) != 1 or not len(weights.scales):
        return None
    return source, weights, bias


def _step(source: Tensor, weights: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    with np.errstate(all="ignore"):
        return np.asarray(source.scales.astype(np.float64)[0] * weights.scales.astype(np.float64))


def _finite(value: float) -> float:
    return float(value) if np.isfinite(value) else 0.0
