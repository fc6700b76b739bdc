"""What anybody who holds a quantised file can read out of it: weights, calibration's ranges, activations.

The converter keeps, for each activation tensor, the smallest and largest value that the calibration records reached,
as a scale and a zero point. `Reading.network` is the file turned back to float32: the same graph with dequantised
weights. It runs in LiteRT and shows every activation, record by record, to compare with those ranges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from torch import nn

from edge.artifact import Artifact, ArtifactError
from edge.quiet import quiet_stderr
from edge.tensors import (
    Constant,
    constant_of,
    kinds_of,
    packed,
    quantised,
    type_names,
    unpacked,
    with_values,
)
from edge.tflite.state import listed, states_of

__all__ = [
    "FIXED",
    "Constant",
    "Layer",
    "Range",
    "Reading",
    "constant_of",
    "float_network",
    "kinds_of",
    "packed",
    "parameters",
    "quantised",
    "read",
    "steps",
    "unpacked",
]

Extremes = Float[np.ndarray, "records tensors"]
FIXED = ("SOFTMAX", "LOG_SOFTMAX", "LOGISTIC", "TANH", "L2_NORMALIZATION")  # their ranges are the format's
_PASSED_ON = ("MAX_POOL_2D", "AVERAGE_POOL_2D", "RESHAPE", "SQUEEZE", "TRANSPOSE", "PAD", "PADV2")  # input's ranges
_ELEMENTWISE = ("ADD", "SUB", "MUL", "DIV")
_ACTIVATIONS: dict[str, Literal["int8", "int16"]] = {"INT8": "int8", "INT16": "int16"}


@dataclass(frozen=True)
class Range:
    """An activation tensor and the range that the calibration records set; zero is always within it.

    In int8 `high - low` is 255 scales to seven digits. Where both sides are in use the zero point is rounded, and so
    both ends may be up to half a scale from where they were, in the same direction. In int16 both ends are equally far
    from zero, and the one that the records reached is not to be told from the other.
    """

    name: str
    index: int  # of the tensor in the file
    scale: float
    zero_point: int
    numbers: Literal["int8", "int16"] = "int8"

    @property
    def low(self) -> float:
        """The smallest value that can be told apart."""
        return self.scale * ((-128 if self.numbers == "int8" else -32767) - self.zero_point)

    @property
    def high(self) -> float:
        """The largest."""
        return self.scale * (int(np.iinfo(self.numbers).max) - self.zero_point)


@dataclass(frozen=True)
class Layer:
    """An operator with constants, in the order of execution; `flattens` is (height, width, channels) where its input
    is a flattened map.
    """

    kind: str
    constants: tuple[Constant, ...]
    flattens: tuple[int, ...] | None


@dataclass(frozen=True)
class Reading:
    """A quantised file, read: its layers, the ranges of its activations, and the same graph in float32."""

    layers: tuple[Layer, ...]
    ranges: tuple[Range, ...]
    artifact: Artifact = field(repr=False)

    @property
    def constants(self) -> tuple[Constant, ...]:
        """All weights and biases, in the order of execution."""
        return tuple(constant for layer in self.layers for constant in layer.constants)

    def extremes(
        self, x: Float[np.ndarray, "records ..."], rng: np.random.Generator | None = None
    ) -> tuple[Extremes, Extremes]:
        """Smallest and largest float activation of each record, in torch's layout, per tensor of `ranges`.

        With `rng` each weight is moved at random within its rounding: how far the figures then move tells how far
        they are from those of the network before rounding.
        """
        shown = [each.index for each in self.ranges]
        interpreter = _interpreter(float_network(self.artifact.model, shown, rng))
        rows = self.artifact.channels_last(x)
        source = interpreter.get_input_details()[0]["index"]
        tensors = [output["index"] for output in interpreter.get_output_details()]
        low, high = np.empty((2, len(rows), len(shown)))
        for i in range(len(rows)):
            interpreter.set_tensor(source, rows[i : i + 1])
            interpreter.invoke()
            seen = [interpreter.get_tensor(tensor) for tensor in tensors]
            low[i], high[i] = [each.min() for each in seen], [each.max() for each in seen]
        return low, high


def read(model: bytes) -> Reading:
    """Read a TFLite file with int8 or int16 activations, and weights of int8 or int4.

    Raises `ArtifactError` where it is none that `Artifact` can read, or computes in floating point.
    """
    artifact = Artifact.from_bytes(model)
    if artifact.input.numbers == "float32":
        raise ArtifactError("this model computes in floating point: there are no ranges to read")
    if "uint8" in (artifact.input.numbers, artifact.output.numbers) or artifact.batch != 1:
        raise ArtifactError("only files with int8 or int16 ends and a batch of 1 are read")
    if found := states_of(model):
        raise ArtifactError(f"this model keeps a state between records ({listed(found)}): its ranges are not read")
    graph = unpacked(model)
    kinds = kinds_of(graph)
    return Reading(tuple(_layers(graph, kinds)), tuple(_ranges(graph, kinds)), artifact)


def parameters(reading: Reading, architecture: nn.Module) -> Float[np.ndarray, " params"]:
    """The file's dequantised weights as one vector in `named_parameters` order of the torch model it was made from.

    Constants come in the order of execution, which is that of the parameters in a model whose modules are defined in
    the order they are used in. What the converter made itself (a normalisation's averages) fits no parameter in turn
    and is left out. Raises `ArtifactError` where the file is of another architecture, or normalisation is folded in.
    """
    return _as_vector(reading, architecture, lambda constant: constant.real)


def steps(reading: Reading, architecture: nn.Module) -> Float[np.ndarray, " params"]:
    """Between neighbouring values of each of `parameters`, in their order: it was rounded by up to half of that."""
    return _as_vector(reading, architecture, lambda constant: np.broadcast_to(constant.steps, constant.values.shape))


def _as_vector(
    reading: Reading, architecture: nn.Module, of: Callable[[Constant], np.ndarray[Any, Any]]
) -> Float[np.ndarray, " params"]:
    wanted = [(name, tuple(weights.shape)) for name, weights in architecture.named_parameters()]
    found: list[np.ndarray[Any, Any]] = []
    for layer in reading.layers:
        parts = _as_torch(layer, [of(constant) for constant in layer.constants], [s for _, s in wanted[len(found) :]])
        found += parts
    if len(found) < len(wanted):
        name, shape = wanted[len(found)]
        raise ArtifactError(f"the file holds no weights for '{name}' of shape {shape}: it is of another architecture")
    return np.concatenate([part.ravel() for part in found]).astype(np.float32)


def float_network(model: bytes, shown: list[int], rng: np.random.Generator | None = None) -> bytes:
    """The same graph in float32 with the dequantised weights; with `rng`, with weights that round to the same.

    Its outputs are the tensors `shown`: any other activation may be overwritten in place by the time it is read.
    """
    from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

    whole = unpacked(model)
    for tensor in whole.subgraphs[0].tensors:
        constant = constant_of(whole, tensor)
        if constant is not None:
            with_values(whole, tensor, constant.real if rng is None else constant.moved(rng))
        if quantised(tensor):
            tensor.type, tensor.quantization = schema.TensorType.FLOAT32, None
    whole.subgraphs[0].outputs, whole.signatureDefs = shown, None
    return packed(whole)


def _as_torch(
    layer: Layer, real: list[np.ndarray[Any, Any]], wanted: list[tuple[int, ...]]
) -> list[np.ndarray[Any, Any]]:
    """A layer's constants in torch's layout, if their shapes are those of the next parameters; else none of them."""
    if layer.kind in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED") and wanted:
        real[0] = _kernel(layer, real[0], len(wanted[0]))
    elif len(real) == 1:
        real = [real[0].reshape(-1)]
    # A bias that torch does not have is one that the converter put there.
    real = real[: max(1, sum(1 for part, shape in zip(real, wanted, strict=False) if part.shape == shape))]
    fits = len(real) <= len(wanted) and all(part.shape == shape for part, shape in zip(real, wanted, strict=False))
    return real if fits else []


def _kernel(layer: Layer, weight: np.ndarray[Any, Any], dimensions: int) -> np.ndarray[Any, Any]:
    if layer.kind == "FULLY_CONNECTED":
        if layer.flattens is None:
            return weight
        height, width, channels = layer.flattens
        columns = weight.reshape(len(weight), height, width, channels)
        return columns.transpose(0, 3, 1, 2).reshape(len(weight), -1)
    # (1, height, width, channels) where depthwise, else (outputs, height, width, inputs)
    weight = weight.transpose((3, 0, 1, 2) if layer.kind == "DEPTHWISE_CONV_2D" else (0, 3, 1, 2))
    return weight[:, :, 0] if dimensions == 3 and weight.shape[2] == 1 else weight


def _layers(whole: Any, kinds: list[str]) -> Iterator[Layer]:  # noqa: ANN401 - generated code, untyped
    graph = whole.subgraphs[0]
    makers = {int(o): (kind, op) for kind, op in zip(kinds, graph.operators, strict=True) for o in op.outputs}
    for kind, operator in zip(kinds, graph.operators, strict=True):
        tensors = [graph.tensors[index] for index in operator.inputs if index >= 0]
        constants = tuple(c for c in (constant_of(whole, tensor) for tensor in tensors) if c is not None)
        if constants:
            yield Layer(kind, constants, _flattened(graph, makers, int(operator.inputs[0])))


def _flattened(graph: Any, makers: dict[int, Any], index: int) -> tuple[int, ...] | None:  # noqa: ANN401
    """Height, width and channels of the map whose flattened form a layer takes, or None if it takes another thing."""
    kind, operator = makers.get(index, ("", None))
    if kind != "RESHAPE" or len(graph.tensors[index].shape) != 2:
        return None
    shape = [int(side) for side in graph.tensors[operator.inputs[0]].shape]
    return tuple(shape[1:]) if len(shape) == 4 else None


def _ranges(whole: Any, kinds: list[str]) -> Iterator[Range]:  # noqa: ANN401 - generated code, untyped
    """Of the input, and of every activation with a range of its own."""
    graph = whole.subgraphs[0]
    made = [int(index) for operator in graph.operators for index in operator.outputs]
    for index in [int(graph.inputs[0]), *made]:
        tensor = graph.tensors[index]
        if quantised(tensor) and not _says_nothing(graph, kinds, index):
            quantization = tensor.quantization
            scale, zero_point = float(quantization.scale[0]), int(quantization.zeroPoint[0])
            yield Range(tensor.name.decode(), index, scale, zero_point, _ACTIVATIONS[type_names()[tensor.type]])


def _says_nothing(graph: Any, kinds: list[str], index: int) -> bool:  # noqa: ANN401 - generated code, untyped
    """Whether a range is the format's, or its input's (a pool's, a reshape's), or was spoilt: where an elementwise
    operator is the only one to use an activation, the converter works in place, and records the result's range as well.
    """
    operators = list(zip(kinds, graph.operators, strict=True))
    users = [kind for kind, operator in operators if index in operator.inputs]
    makers = [kind for kind, operator in operators if index in operator.outputs]
    spoilt = len(users) == 1 and users[0] in _ELEMENTWISE
    return spoilt or any(kind in FIXED or kind in _PASSED_ON for kind in makers)


def _interpreter(model: bytes) -> Any:  # noqa: ANN401 - untyped library
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=model, num_threads=1)
    with quiet_stderr():
        interpreter.allocate_tensors()
    return interpreter
