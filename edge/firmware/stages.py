"""A model's graph cut into stages: stretches that bakenn compiles, and single operators that we have kernels for.

bakenn has neither MEAN nor SOFTMAX, with which most classifiers pool and end. Each stage takes one tensor and gives
one, so the graph can be cut only where a single activation is alive: between residual blocks, not inside one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from math import prod
from typing import Any, Final

from edge.artifact import ArtifactError
from edge.firmware.kernels import KERNEL_CALLS, Call
from edge.firmware.operators import Place, data_of, shape_of, step_of
from edge.runtimes.runtime import CannotRunError
from edge.tensors import kinds_of, unpacked

MOVES: Final = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS")  # the same bytes in another shape
ACROSS: Final = "takes an activation from before an operator that bakenn does not have, and not that operator's output"
COMPILED: Final = (
    "CONV_2D",
    "DEPTHWISE_CONV_2D",
    "FULLY_CONNECTED",
    "ADD",
    "AVERAGE_POOL_2D",
    "MAX_POOL_2D",
    "PAD",
    "PADV2",
    *MOVES,
)


@dataclass(frozen=True)
class Stage:
    """Operators that turn the tensor `source` into the tensor `result`; `call` if one of our kernels does it."""

    places: tuple[Place, ...]
    source: int
    result: int
    call: Call | None

    @property
    def moves_nothing(self) -> bool:
        """Whether the result has the bytes of the source."""
        return all(place.kind in MOVES for place in self.places)


@dataclass(frozen=True)
class Graph:
    """The file, unpacked, and its stages in the order of execution."""

    whole: Any
    stages: tuple[Stage, ...]

    def size(self, tensor: int) -> int:
        """Bytes of a tensor."""
        return prod(shape_of(self.whole.subgraphs[0].tensors[tensor]))


def cut(model: bytes) -> Graph:
    """Read an int8 TFLite file and cut it.

    Raises `ArtifactError` for a file that is damaged, and `CannotRunError` naming the first operator that stands in
    the way.
    """
    try:
        return _cut(model)
    except CannotRunError:
        raise
    except Exception as error:  # whatever a broken file brings about, it is broken
        raise ArtifactError(f"the TFLite file is damaged: {type(error).__name__}: {error}") from error


def _cut(model: bytes) -> Graph:
    whole = unpacked(model)
    if len(whole.subgraphs) != 1:
        raise CannotRunError(f"the model has {len(whole.subgraphs)} graphs; firmware has one")
    graph, kinds = whole.subgraphs[0], kinds_of(whole)
    places = [
        Place(kind, number, len(kinds), operator)
        for number, (kind, operator) in enumerate(zip(kinds, graph.operators, strict=True), 1)
    ]
    if not places:
        raise CannotRunError("the model has no operators: there is nothing to run")
    for place in places:
        _check(graph, place)
    return Graph(whole, tuple(_stages(whole, places)))


def _check(graph: Any, place: Place) -> None:  # noqa: ANN401 - generated code, untyped
    if place.kind not in COMPILED and place.kind not in KERNEL_CALLS:
        known = ", ".join(sorted({*COMPILED, *KERNEL_CALLS}))
        raise place.refusal(f"has no kernel here; firmware does {known}")
    if len(place.operator.outputs) != 1 or not len(place.operator.inputs) or place.operator.inputs[0] < 0:
        raise place.refusal("does not have one input and one output")
    from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

    names = {code: name for name, code in vars(schema.TensorType).items() if isinstance(code, int)}
    for index in (place.operator.inputs[0], place.operator.outputs[0]):
        tensor = graph.tensors[index]
        if tensor.type != schema.TensorType.INT8:
            raise place.refusal(f"works on {names.get(tensor.type, 'unknown numbers')}; firmware computes in INT8")
        step_of(tensor, place)
        if min(shape_of(tensor), default=1) < 1:
            raise place.refusal(f"works on a tensor of shape {shape_of(tensor)}")


def _stages(whole: Any, places: list[Place]) -> Iterator[Stage]:  # noqa: ANN401 - generated code, untyped
    graph = whole.subgraphs[0]
    source = int(graph.inputs[0])
    for mine, run in groupby(places, lambda place: place.number if place.kind in KERNEL_CALLS else 0):
        part = tuple(run)
        _check_alone(whole, part, source, places[part[-1].number :])
        result = int(part[-1].operator.outputs[0])
        yield Stage(part, source, result, KERNEL_CALLS[part[0].kind](whole, part[0]) if mine else None)
        source = result
    if source != int(graph.outputs[0]):
        raise CannotRunError("the model's output is not that of its last operator")


def _check_alone(whole: Any, part: tuple[Place, ...], source: int, later: list[Place]) -> None:  # noqa: ANN401
    """Nothing but `source` may go in, and nothing but the last operator's output out."""
    graph = whole.subgraphs[0]
    made = {int(place.operator.outputs[0]) for place in part}
    for place in part:
        for index in (int(i) for i in place.operator.inputs if i >= 0):
            if index != source and index not in made and not data_of(whole, graph.tensors[index]):
                raise place.refusal(ACROSS)
    inside = made - {int(part[-1].operator.outputs[0])}
    for place in later:
        if inside & {int(index) for index in place.operator.inputs}:
            raise place.refusal(ACROSS)
