"""What anybody who holds an int8 file can read out of it: weights, ranges that calibration records set, activations.

The converter keeps, for each activation tensor, the smallest and largest value that the calibration records reached,
as a scale and a zero point. `Reading.network` is the file turned back to float32: the same graph with dequantised
weights. It runs in LiteRT and shows every activation, record by record, to compare with those ranges.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from torch import nn

from edge.artifact import Artifact, ArtifactError
from edge.quiet import quiet_stderr

Extremes = Float[np.ndarray, "records tensors"]
FIXED = ("SOFTMAX", "LOG_SOFTMAX", "LOGISTIC", "TANH", "L2_NORMALIZATION")  # their ranges are the format's
_PASSED_ON = ("MAX_POOL_2D", "AVERAGE_POOL_2D", "RESHAPE", "SQUEEZE", "TRANSPOSE", "PAD", "PADV2")  # input's ranges
_ELEMENTWISE = ("ADD", "SUB", "MUL", "DIV")


@dataclass(frozen=True)
class Constant:
    """A weight or bias: real = scale * (values - zero point), a scale per slice of `axis` or one for all."""

    name: str
    values: Int[np.ndarray, " *shape"] = field(repr=False)
    scale: Float[np.ndarray, " scales"] = field(repr=False)
    zero_point: Int[np.ndarray, " scales"] = field(repr=False)
    axis: int

    @property
    def real(self) -> Float[np.ndarray, " *shape"]:
        """The values in float32."""
        steps = self.values.astype(np.float64) - self._spread(self.zero_point)
        return np.asarray(steps * self._spread(self.scale), dtype=np.float32)

    def moved(self, rng: np.random.Generator) -> Float[np.ndarray, " *shape"]:
        """The values in float32, each anywhere within half a step: weights that would have been rounded to these."""
        within = rng.uniform(-0.5, 0.5, self.values.shape) * self._spread(self.scale)
        return np.asarray(self.real + within, dtype=np.float32)

    def _spread(self, per_slice: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        sides = [1] * self.values.ndim
        if len(per_slice) > 1:
            sides[self.axis] = -1
        return per_slice.astype(np.float64).reshape(sides if len(per_slice) > 1 else [1] * self.values.ndim)


@dataclass(frozen=True)
class Range:
    """An activation tensor and the range that the calibration records set; zero is always within it.

    `high - low` is 255 scales to seven digits. Where both sides are in use the zero point is rounded, and so both
    ends may be up to half a scale from where they were, in the same direction.
    """

    name: str
    index: int  # of the tensor in the file
    scale: float
    zero_point: int

    @property
    def low(self) -> float:
        """The smallest value that can be told apart."""
        return self.scale * (-128 - self.zero_point)

    @property
    def high(self) -> float:
        """The largest."""
        return self.scale * (127 - self.zero_point)


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
    """An int8 file, read: its layers, the ranges of its activations, and the same graph in float32."""

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
    """Read an int8 TFLite file. Raises `ArtifactError` where it is none that `Artifact` can read."""
    artifact = Artifact.from_bytes(model)
    if artifact.input.numbers == "float32":
        raise ArtifactError("this model computes in floating point: there are no int8 ranges to read")
    graph = unpacked(model)
    kinds = kinds_of(graph)
    return Reading(tuple(_layers(graph, kinds)), tuple(_ranges(graph, kinds)), artifact)


def parameters(reading: Reading, architecture: nn.Module) -> Float[np.ndarray, " params"]:
    """The file's dequantised weights as one vector in `named_parameters` order of the torch model it was made from.

    Constants come in the order of execution, which is that of the parameters in a model whose modules are defined in
    the order they are used in. What the converter made itself (a normalisation's averages) fits no parameter in turn
    and is left out. Raises `ArtifactError` where the file is of another architecture, or normalisation is folded in.
    """
    wanted = [(name, tuple(weights.shape)) for name, weights in architecture.named_parameters()]
    found: list[np.ndarray[Any, Any]] = []
    for layer in reading.layers:
        parts = _as_torch(layer, [shape for _, shape in wanted[len(found) :]])
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
            values = constant.real if rng is None else constant.moved(rng)
            whole.buffers.append(schema.BufferT())
            whole.buffers[-1].data = np.frombuffer(values.tobytes(), dtype=np.uint8)
            tensor.buffer = len(whole.buffers) - 1
        if quantised(tensor):
            tensor.type, tensor.quantization = schema.TensorType.FLOAT32, None
    whole.subgraphs[0].outputs, whole.signatureDefs = shown, None
    return packed(whole)


def _as_torch(layer: Layer, wanted: list[tuple[int, ...]]) -> list[np.ndarray[Any, Any]]:
    """A layer's constants in torch's layout, if their shapes are those of the next parameters; else none of them."""
    real = [constant.real for constant in layer.constants]
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
            yield Range(tensor.name.decode(), index, float(quantization.scale[0]), int(quantization.zeroPoint[0]))


def _says_nothing(graph: Any, kinds: list[str], index: int) -> bool:  # noqa: ANN401 - generated code, untyped
    """Whether a range is the format's, or its input's (a pool's, a reshape's), or was spoilt: where an elementwise
    operator is the only one to use an activation, the converter works in place, and records the result's range as well.
    """
    operators = list(zip(kinds, graph.operators, strict=True))
    users = [kind for kind, operator in operators if index in operator.inputs]
    makers = [kind for kind, operator in operators if index in operator.outputs]
    spoilt = len(users) == 1 and users[0] in _ELEMENTWISE
    return spoilt or any(kind in FIXED or kind in _PASSED_ON for kind in makers)


def constant_of(whole: Any, tensor: Any) -> Constant | None:  # noqa: ANN401 - generated code, untyped
    """A quantised tensor with values of its own; None for activations, and for shapes and axes."""
    data = whole.buffers[tensor.buffer].data
    if data is None or len(data) == 0 or not quantised(tensor):
        return None
    from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

    kind = np.int8 if tensor.type == schema.TensorType.INT8 else np.int32
    values = np.frombuffer(bytes(data), dtype=kind).reshape(tensor.shape)
    quantization = tensor.quantization
    return Constant(
        name=tensor.name.decode(),
        values=values,
        scale=np.asarray(quantization.scale, dtype=np.float32),
        zero_point=np.asarray(quantization.zeroPoint, dtype=np.int64),
        axis=int(quantization.quantizedDimension),
    )


def quantised(tensor: Any) -> bool:  # noqa: ANN401 - generated code, untyped
    """Whether a tensor has a scale; shapes and axes have none."""
    quantization = tensor.quantization
    return quantization is not None and quantization.scale is not None and len(quantization.scale) > 0


def kinds_of(whole: Any) -> list[str]:  # noqa: ANN401 - generated code, untyped
    """What each operator is, in the order of execution."""
    names = _operator_names()
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in whole.operatorCodes]
    return [names[codes[operator.opcodeIndex]] for operator in whole.subgraphs[0].operators]


@cache
def _operator_names() -> dict[int, str]:
    from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

    return {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}


def unpacked(model: bytes) -> Any:  # noqa: ANN401 - generated code, untyped
    """A TFLite file as objects that can be changed and packed again."""
    from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

    return schema.ModelT.InitFromPackedBuf(model)


def packed(whole: Any) -> bytes:  # noqa: ANN401 - generated code, untyped
    """A TFLite file from such objects."""
    import flatbuffers  # type: ignore[import-untyped]  # what the schema needs

    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(whole.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _interpreter(model: bytes) -> Any:  # noqa: ANN401 - untyped library
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=model, num_threads=1)
    with quiet_stderr():
        interpreter.allocate_tensors()
    return interpreter
