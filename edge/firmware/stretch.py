"""A stretch of a model as a file of its own, written the one way that bakenn reads.

Its numbers are the model's. Names, metadata, dynamic shapes and versions are not taken over: bakenn wants certain
operator versions, and nothing that a stranger wrote into a file may reach generated C code.
"""

from __future__ import annotations

from math import prod
from typing import Any, Final

import numpy as np

from edge.firmware.operators import Place, data_of, integers, shape_of, step_of
from edge.firmware.stages import MOVES, Graph, Stage

VERSIONS: Final = {
    "CONV_2D": 3,
    "DEPTHWISE_CONV_2D": 3,
    "FULLY_CONNECTED": 4,  # 6 without a bias
    "ADD": 2,
    "AVERAGE_POOL_2D": 2,
    "MAX_POOL_2D": 2,
    "RESHAPE": 1,
    "PAD": 2,
    "PADV2": 2,
}
_POOL = ("Pool2DOptions", "padding strideH strideW filterHeight filterWidth fusedActivationFunction")
_OPTIONS: Final = {
    "CONV_2D": ("Conv2DOptions", "padding strideH strideW dilationHFactor dilationWFactor fusedActivationFunction"),
    "DEPTHWISE_CONV_2D": (
        "DepthwiseConv2DOptions",
        "padding strideH strideW dilationHFactor dilationWFactor depthMultiplier fusedActivationFunction",
    ),
    "FULLY_CONNECTED": ("FullyConnectedOptions", "weightsFormat fusedActivationFunction"),
    "ADD": ("AddOptions", "fusedActivationFunction"),
    "AVERAGE_POOL_2D": _POOL,
    "MAX_POOL_2D": _POOL,
    "RESHAPE": ("ReshapeOptions", ""),
    "PAD": ("PadOptions", ""),
    "PADV2": ("PadV2Options", ""),
}


def write(graph: Graph, stage: Stage, pad: bool) -> bytes:
    """The stretch as a TFLite file, with tensors named t0, t1, ...

    Weights of 4 bits are written as the same numbers in 8. With `pad`, a convolution that pads more on one side than
    on the other gets a PAD before it: bakenn uses CMSIS-NN for it only then. Raises `CannotRunError` naming the
    operator.
    """
    import flatbuffers  # type: ignore[import-untyped]  # what the schema needs

    writer = _Writer(graph, pad)
    for place in stage.places:
        writer.add(place)
    writer.finish(stage)
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(writer.model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


class _Writer:
    """Collects tensors, buffers and operators of one file."""

    def __init__(self, graph: Graph, pad: bool) -> None:
        from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

        self.schema: Any = schema
        self.whole, self.source = graph.whole, graph.whole.subgraphs[0]
        self.model = schema.ModelT()
        self.graph = schema.SubGraphT()
        self.model.version, self.model.subgraphs = 3, [self.graph]
        self.model.operatorCodes, self.model.buffers = [], [schema.BufferT()]
        self.graph.tensors, self.graph.operators = [], []
        self.activations: dict[int, int] = {}  # by the index in the model
        self.pad = pad

    def finish(self, stage: Stage) -> None:
        self.graph.inputs = [self.activations[stage.source]]
        self.graph.outputs = [self.activations[stage.result]]

    def add(self, place: Place) -> None:
        if place.kind in MOVES:
            ends = [self.activation(int(index), place) for index in (place.operator.inputs[0], *place.operator.outputs)]
            self.reshape(ends[0], ends[1])
        elif place.kind == "FULLY_CONNECTED":
            self.fully_connected(place)
        elif place.kind in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            self.convolution(place)
        else:
            inputs = [self.input(int(index), place) for index in place.operator.inputs]
            self.operator(place.kind, inputs, self.output(place), place)

    def fully_connected(self, place: Place) -> None:
        """On one row of numbers, whatever shape they have in the model: it makes no difference to the device."""
        source, result = (self.source.tensors[i] for i in (place.operator.inputs[0], place.operator.outputs[0]))
        weights = self.constants(place)
        outputs, columns = self.graph.tensors[weights[0]].shape
        if prod(shape_of(source)) != columns or prod(shape_of(result)) != outputs:
            raise place.refusal("works on several rows at once; firmware does one")
        first, last = self.activation(int(place.operator.inputs[0]), place), self.output(place)
        if len(shape_of(source)) != 2:
            first = self.reshape(first, self.twin(first, (1, columns)))
        wanted = last if len(shape_of(result)) == 2 else self.twin(last, (1, outputs))
        self.operator(place.kind, [first, *weights], wanted, place)
        if wanted != last:
            self.reshape(wanted, last)

    def convolution(self, place: Place) -> None:
        first, result, weights = (
            self.activation(int(place.operator.inputs[0]), place),
            self.output(place),
            self.constants(place),
        )
        margins = self.margins(place, first, result, weights[0])
        lopsided = any(before != after for before, after in margins)
        if not (self.pad and lopsided):
            self.operator(place.kind, [first, *weights], result, place)
            return
        shape = self.graph.tensors[first].shape
        larger = [side + before + after for side, (before, after) in zip(shape[1:3], margins, strict=True)]
        padded = self.twin(first, (shape[0], *larger, shape[3]))
        amounts = np.asarray([(0, 0), *margins, (0, 0)], dtype="<i4")
        sizes = self.tensor((4, 2), "INT32", [], 0, amounts.tobytes())
        self.append("PAD", [first, sizes], padded, self.schema.PadOptionsT())
        self.operator(place.kind, [padded, *weights], result, place)
        self.graph.operators[-1].builtinOptions.padding = self.schema.Padding.VALID

    def margins(self, place: Place, source: int, result: int, weights: int) -> list[tuple[int, int]]:
        """What a convolution with the padding SAME adds before and after height and width."""
        options, (before, after) = (
            place.operator.builtinOptions,
            [self.graph.tensors[i].shape for i in (source, result)],
        )
        if len(before) != 4 or len(after) != 4:
            raise place.refusal("works on tensors that are not maps")
        if options is None or options.padding != self.schema.Padding.SAME:
            return [(0, 0), (0, 0)]
        strides, dilations = (options.strideH, options.strideW), (options.dilationHFactor, options.dilationWFactor)
        margins = []
        for axis, (stride, dilation) in enumerate(zip(strides, dilations, strict=True), 1):
            reach = (self.graph.tensors[weights].shape[axis] - 1) * dilation + 1
            total = max(0, (after[axis] - 1) * stride + reach - before[axis])
            margins.append((total // 2, total - total // 2))
        return margins

    def constants(self, place: Place) -> list[int]:
        """Weights as int8 and, if there is one, the bias as int32 in the steps of input times weight."""
        if len(place.operator.inputs) < 2:
            raise place.refusal("has no weights")
        source, tensor = (self.source.tensors[index] for index in place.operator.inputs[:2])
        values, scales = self.weights(tensor, place), np.asarray(tensor.quantization.scale, dtype=np.float32)
        axis = 3 if place.kind == "DEPTHWISE_CONV_2D" else 0
        if values.ndim != (2 if place.kind == "FULLY_CONNECTED" else 4) or len(scales) not in (1, values.shape[axis]):
            raise place.refusal(f"has weights of shape {values.shape} with {len(scales)} scales")
        weights = self.tensor(values.shape, "INT8", scales, axis, values.astype(np.int8).tobytes())
        if len(place.operator.inputs) < 3 or place.operator.inputs[2] < 0:
            return [weights]
        bias = self.source.tensors[place.operator.inputs[2]]
        data = data_of(self.whole, bias)
        if bias.type != self.schema.TensorType.INT32 or len(data) != 4 * values.shape[axis]:
            raise place.refusal("has a bias that is not one INT32 number per output")
        steps = np.float32(step_of(source, place).scale * scales.astype(np.float64))
        return [weights, self.tensor((values.shape[axis],), "INT32", steps, 0, data)]

    def weights(self, tensor: Any, place: Place) -> np.ndarray[Any, Any]:  # noqa: ANN401 - generated code
        data, shape, kinds = data_of(self.whole, tensor), shape_of(tensor), self.schema.TensorType
        quantization = tensor.quantization
        zeros = () if quantization is None or quantization.zeroPoint is None else quantization.zeroPoint
        if quantization is None or quantization.scale is None or any(zeros):
            raise place.refusal("has weights without a scale, or with a zero point")
        if tensor.type == kinds.INT4:
            pairs = np.frombuffer(data, np.int8)
            values = np.stack([(pairs << 4) >> 4, pairs >> 4], axis=-1).reshape(-1)[: prod(shape)]  # low half first
        elif tensor.type == kinds.INT8:
            values = np.frombuffer(data, np.int8)
        else:
            raise place.refusal("has weights that are neither INT8 nor INT4")
        if values.size != prod(shape):
            raise place.refusal(f"has {values.size} weights for the shape {shape}")
        return values.reshape(shape)

    def input(self, index: int, place: Place) -> int:
        """An activation, or a constant as it is: paddings, or a number to pad with."""
        if index < 0:
            raise place.refusal("lacks an input")
        tensor = self.source.tensors[index]
        if not data_of(self.whole, tensor):
            return self.activation(index, place)
        if tensor.type == self.schema.TensorType.INT8:
            step = step_of(tensor, place)
            data = data_of(self.whole, tensor)
            return self.tensor(shape_of(tensor), "INT8", [step.scale], 0, data, step.zero_point)
        values = np.asarray(integers(self.whole, tensor, place), dtype="<i4")
        return self.tensor(shape_of(tensor), "INT32", [], 0, values.tobytes())

    def output(self, place: Place) -> int:
        return self.activation(int(place.operator.outputs[0]), place)

    def activation(self, index: int, place: Place) -> int:
        if index not in self.activations:
            tensor = self.source.tensors[index]
            step = step_of(tensor, place)
            mine = self.tensor(shape_of(tensor), "INT8", [step.scale], 0, b"", step.zero_point)
            self.activations[index] = mine
        return self.activations[index]

    def twin(self, index: int, shape: tuple[int, ...]) -> int:
        """An activation with the scale of another and a shape of its own."""
        quantization = self.graph.tensors[index].quantization
        return self.tensor(shape, "INT8", quantization.scale, 0, b"", quantization.zeroPoint[0])

    def tensor(self, shape: Any, kind: str, scales: Any, axis: int, data: bytes, zero: int = 0) -> int:  # noqa: ANN401
        tensor, quantization = self.schema.TensorT(), self.schema.QuantizationParametersT()
        tensor.name, tensor.shape = f"t{len(self.graph.tensors)}", [int(side) for side in shape]
        tensor.type, tensor.buffer = getattr(self.schema.TensorType, kind), 0
        quantization.scale = [float(scale) for scale in scales]
        quantization.zeroPoint = [zero] * len(quantization.scale)
        quantization.quantizedDimension = axis if len(quantization.scale) > 1 else 0
        tensor.quantization = quantization
        if data:
            buffer = self.schema.BufferT()
            buffer.data = np.frombuffer(data, np.uint8)
            self.model.buffers.append(buffer)
            tensor.buffer = len(self.model.buffers) - 1
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def reshape(self, source: int, result: int) -> int:
        options = self.schema.ReshapeOptionsT()
        options.newShape = self.graph.tensors[result].shape
        self.append("RESHAPE", [source], result, options)
        return result

    def operator(self, kind: str, inputs: list[int], result: int, place: Place) -> None:
        name, fields = _OPTIONS[kind]
        options, given = getattr(self.schema, f"{name}T")(), place.operator.builtinOptions
        if given is not None and type(given).__name__ != f"{name}T":
            raise place.refusal("has the options of another operator")
        for field in fields.split():
            if given is not None:
                setattr(options, field, getattr(given, field))
        self.append(kind, inputs, result, options)

    def append(self, kind: str, inputs: list[int], result: int, options: Any) -> None:  # noqa: ANN401
        code, operator = self.schema.OperatorCodeT(), self.schema.OperatorT()
        number = getattr(self.schema.BuiltinOperator, kind)
        code.builtinCode, code.deprecatedBuiltinCode = number, min(number, 127)
        code.version = 6 if kind == "FULLY_CONNECTED" and len(inputs) == 2 else VERSIONS[kind]
        self.model.operatorCodes.append(code)
        operator.opcodeIndex = len(self.model.operatorCodes) - 1
        operator.inputs, operator.outputs = inputs, [result]
        operator.builtinOptionsType = getattr(self.schema.BuiltinOptions, _OPTIONS[kind][0])
        operator.builtinOptions = options
        self.graph.operators.append(operator)
