"""Random small .tflite files, written with the schema's own classes: what no converter would put together, too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod

import flatbuffers
import numpy as np
from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

LIMITS = {"int8": (-128, 127), "int16": (-32768, 32767)}


@dataclass(frozen=True)
class Activation:
    index: int
    shape: tuple[int, ...]
    numbers: str
    scale: float
    zero_point: int


@dataclass
class Graph:
    """A file in the making; `rng` draws weights, shapes, scales and options."""

    rng: np.random.Generator
    tensors: list = field(default_factory=list)
    operators: list = field(default_factory=list)
    codes: list = field(default_factory=list)
    buffers: list = field(default_factory=lambda: [schema.BufferT()])
    made: list[Activation] = field(default_factory=list)

    def tensor(self, shape, numbers, scale=None, zero_point=0, values=None, axis=0):
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.buffer = f"t{len(self.tensors)}".encode(), list(shape), 0
        tensor.type = getattr(schema.TensorType, numbers.upper())
        if scale is not None:
            quantization = schema.QuantizationParametersT()
            quantization.scale = np.atleast_1d(np.asarray(scale, np.float32))
            quantization.zeroPoint = np.full(len(quantization.scale), zero_point, np.int64)
            quantization.quantizedDimension = axis
            tensor.quantization = quantization
        if values is not None:
            buffer = schema.BufferT()
            buffer.data = packed(values) if numbers == "int4" else bytes_of(values, numbers)
            self.buffers.append(buffer)
            tensor.buffer = len(self.buffers) - 1
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def activation(self, shape, numbers, scale, zero_point):
        scale = float(np.float32(np.clip(scale, 1e-20, 1e20)))
        quantization = (None, 0) if numbers == "float32" else (scale, zero_point)
        index = self.tensor(shape, numbers, *quantization)
        self.made.append(Activation(index, tuple(shape), numbers, scale, zero_point))
        return self.made[-1]

    def add(self, kind, inputs, output, options=None, **values):
        """One operator; `values` are its options."""
        code = schema.OperatorCodeT()
        code.builtinCode = getattr(schema.BuiltinOperator, kind)
        code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), 1
        operator = schema.OperatorT()
        operator.opcodeIndex, operator.inputs, operator.outputs = len(self.codes), inputs, [output.index]
        if options:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, options)
            operator.builtinOptions = getattr(schema, f"{options}T")()
            for name, value in values.items():
                setattr(operator.builtinOptions, name, value)
        self.codes.append(code)
        self.operators.append(operator)
        return output

    def packed(self, source, result):
        graph = schema.SubGraphT()
        graph.tensors, graph.operators = self.tensors, self.operators
        graph.inputs, graph.outputs = [source.index], [result.index]
        model = schema.ModelT()
        model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, self.codes, [graph], self.buffers
        builder = flatbuffers.Builder(1 << 14)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def constant(self, values, numbers="int32"):
        values = np.asarray(values)
        return self.tensor(values.shape, numbers, values=values)

    def pick(self, *choices):
        return choices[int(self.rng.integers(len(choices)))]

    def scale(self, low=-10, high=1):
        """Mostly odd, now and then a power of two: then sums can lie exactly between two levels."""
        power = self.rng.uniform(low, high)
        return 2.0 ** (round(power) if self.rng.random() < 0.3 else power)

    def zero_point(self, numbers):
        return 0 if numbers == "int16" else int(self.pick(-128, 127, 0, self.rng.integers(-128, 128)))

    def weights(self, shape, bits=8):
        """Any levels; now and then hardly any or only the largest."""
        most = (1 << bits - 1) - 1
        kind = self.rng.random()
        if kind < 0.1:
            return np.full(shape, most, np.int8) * self.rng.choice([-1, 1], shape).astype(np.int8)
        return self.rng.integers(-most, most + 1, shape).astype(np.int8) * (self.rng.random(shape) < 10 * kind)


def bytes_of(values, numbers):
    return np.frombuffer(np.ascontiguousarray(values, dtype=numbers).tobytes(), np.uint8)


def packed(values):
    """Two int4 in a byte, the first in the lower half."""
    halves = np.append(values.reshape(-1), np.zeros(values.size % 2, np.int8)).astype(np.uint8) & 15
    return (halves[::2] | halves[1::2] << 4).astype(np.uint8)


def _product(g, x, kind, weights, fan_in, shape, axis, options, **values):
    """A layer with weights, and an output scale with which the answers are anything from all zero to all clipped."""
    channels = shape[-1]
    bits = g.pick(8, 8, 8, 4) if x.numbers == "int8" else 8
    per_channel = bool(g.rng.random() < 0.6) and not (kind == "FULLY_CONNECTED" and (bits == 4 or x.numbers == "int16"))
    weight_scale = np.array([g.scale() for _ in range(channels if per_channel else 1)], np.float32)
    levels = g.weights(weights, bits)
    spread = (
        x.scale * weight_scale.max() * 40 * (1 << bits - 1) * np.sqrt(fan_in) * (256 if x.numbers == "int16" else 1)
    )
    out_scale = spread / 128 * g.scale(-5, 5) / (256 if x.numbers == "int16" else 1)
    y = g.activation(shape, x.numbers, out_scale, g.zero_point(x.numbers))
    inputs = [x.index, g.tensor(weights, "int4" if bits == 4 else "int8", weight_scale, 0, levels, axis)]
    if g.rng.random() < 0.8:
        numbers = "int32" if x.numbers == "int8" else "int64"
        bias = g.rng.integers(-(1 << 15), 1 << 15, channels) >> int(g.rng.integers(0, 12))
        bias_scale = np.float32(x.scale) * weight_scale
        inputs.append(g.tensor([channels], numbers, bias_scale, 0, bias))
    elif kind == "FULLY_CONNECTED":
        inputs.append(-1)  # left out; in the other two kinds TFLite Micro crashes on that
    activation = g.pick(0, 0, 1, 2, 3)
    return g.add(kind, inputs, y, options, fusedActivationFunction=activation, **values)


def _window(g, x, strides=True):
    """Size, stride, dilation, padding of a window and the size of what comes out; sizes are those of TFLite."""
    padding = g.pick(0, 1)
    height, width = x.shape[1:3]
    dilation = (g.pick(1, 1, 2), g.pick(1, 1, 2)) if strides else (1, 1)
    size = [int(g.rng.integers(1, 4)) for _ in range(2)]
    if padding == 1:
        size = [1 if (k - 1) * d + 1 > side else k for k, d, side in zip(size, dilation, (height, width), strict=True)]
    stride = (int(g.rng.integers(1, 4)), int(g.rng.integers(1, 4)))
    made = [
        -(-side // s) if padding == 0 else (side - (k - 1) * d - 1) // s + 1
        for side, s, k, d in zip((height, width), stride, size, dilation, strict=True)
    ]
    return size, stride, dilation, padding, made


def convolution(g, x):
    size, stride, dilation, padding, made = _window(g, x)
    groups = g.pick(1, 1, 1, x.shape[3])
    channels = groups * int(g.rng.integers(1, 9)) if groups > 1 else int(g.rng.integers(1, 20))
    inside = x.shape[3] // groups
    weights, shape = (channels, *size, inside), (x.shape[0], *made, channels)
    return _product(
        g, x, "CONV_2D", weights, prod(size) * inside, shape, 0, "Conv2DOptions",
        padding=padding, strideH=stride[0], strideW=stride[1], dilationHFactor=dilation[0], dilationWFactor=dilation[1],
    )  # fmt: skip


def depthwise(g, x):
    size, stride, dilation, padding, made = _window(g, x)
    multiplier = g.pick(1, 1, 2, 3)
    channels = x.shape[3] * multiplier
    weights, shape = (1, *size, channels), (x.shape[0], *made, channels)
    return _product(
        g, x, "DEPTHWISE_CONV_2D", weights, prod(size), shape, 3, "DepthwiseConv2DOptions",
        padding=padding, strideH=stride[0], strideW=stride[1], depthMultiplier=multiplier,
        dilationHFactor=dilation[0], dilationWFactor=dilation[1],
    )  # fmt: skip


def dense(g, x):
    inside, outputs = prod(x.shape), int(g.rng.integers(1, 20))
    return _product(g, x, "FULLY_CONNECTED", (outputs, inside), inside, (1, outputs), 0, "FullyConnectedOptions")


def pool(kind):
    def make(g, x):
        size, stride, _, padding, made = _window(g, x, strides=False)
        y = g.activation((x.shape[0], *made, x.shape[3]), x.numbers, x.scale, x.zero_point)
        return g.add(
            kind, [x.index], y, "Pool2DOptions", padding=padding, strideH=stride[0], strideW=stride[1],
            filterHeight=size[0], filterWidth=size[1], fusedActivationFunction=g.pick(0, 1, 2, 3),
        )  # fmt: skip

    return make


def reduction(kind):
    def make(g, x):
        rank = len(x.shape)
        axes = sorted(g.rng.choice(rank, int(g.rng.integers(1, rank + 1)), replace=False).tolist())
        axes = [1, 2] if rank == 4 and g.rng.random() < 0.5 else axes
        keep = bool(g.rng.random() < 0.5)
        shape = [1 if i in axes else side for i, side in enumerate(x.shape) if keep or i not in axes]
        y = g.activation(shape, x.numbers, x.scale * g.scale(-2, 5), g.zero_point(x.numbers))
        return g.add(kind, [x.index, g.constant(np.int32(axes))], y, "ReducerOptions", keepDims=keep)

    return make


def binary(kind, options=None):
    def make(g, x):
        equal = [each for each in g.made if each.shape == x.shape and each.numbers == x.numbers]
        shape = g.pick(x.shape, x.shape[-1:], (*[1] * (len(x.shape) - 1), x.shape[-1]), (1,))
        if g.rng.random() < 0.5:
            other = g.pick(*equal)
        else:
            scale, zero_point = np.float32(x.scale * g.scale(-4, 4)), g.zero_point(x.numbers)
            levels = g.rng.integers(*LIMITS[x.numbers], shape)
            index = g.tensor(shape, x.numbers, scale, zero_point, levels)
            other = Activation(index, shape, x.numbers, float(scale), zero_point)
        largest = max(x.scale, other.scale)
        scale = {
            "MUL": x.scale * other.scale * (64 if x.numbers == "int8" else 16000),
            "SQUARED_DIFFERENCE": largest * largest * 64,
            "MAXIMUM": x.scale,
            "MINIMUM": x.scale,
        }.get(kind, largest)
        moves = kind in ("MAXIMUM", "MINIMUM")
        scale, zero_point = (scale, x.zero_point) if moves else (scale * g.scale(-3, 4), g.zero_point(x.numbers))
        y = g.activation(x.shape, x.numbers, scale, zero_point)
        inputs = [x.index, other.index] if g.rng.random() < 0.7 else [other.index, x.index]
        fused = {"fusedActivationFunction": g.pick(0, 1, 2, 3)} if kind in ("ADD", "SUB", "MUL") else {}
        return g.add(kind, inputs, y, options, **fused)

    return make


def unary(kind, options=None, scale=None, zero_point=None, **values):
    def make(g, x):
        y_scale = x.scale * g.scale(-3, 4) if scale is None else scale
        y = g.activation(x.shape, x.numbers, y_scale, g.zero_point(x.numbers) if zero_point is None else zero_point)
        return g.add(kind, [x.index], y, options, **{name: value(g) for name, value in values.items()})

    return make


def softmax(g, x):
    scale, zero_point = (1 / 256, -128) if x.numbers == "int8" else (1 / 32768, 0)
    if x.numbers == "int16" and x.scale > 4:  # distances that do not fit into 32 bits: refused
        x = unary("QUANTIZE", "QuantizeOptions", g.scale(-12, 2), 0)(g, x)
    y = g.activation(x.shape, x.numbers, scale, zero_point)
    return g.add("SOFTMAX", [x.index], y, "SoftmaxOptions", beta=float(g.pick(1.0, 1.0, 0.5)))


def _moved(g, x, shape):
    return g.activation(shape, x.numbers, x.scale, x.zero_point)


def pad(g, x):
    around = np.int32([[0, 0], *g.rng.integers(0, 3, (len(x.shape) - 1, 2))])
    y = _moved(g, x, [side + sum(pair) for side, pair in zip(x.shape, around.tolist(), strict=True)])
    inputs = [x.index, g.constant(around)]
    if g.rng.random() < 0.5:
        return g.add("PAD", inputs, y, "PadOptions")
    value = g.tensor([1], x.numbers, x.scale, x.zero_point, g.rng.integers(*LIMITS[x.numbers], [1]))
    return g.add("PADV2", [*inputs, value], y, "PadV2Options")


def reshape(g, x):
    shapes = [(1, prod(x.shape)), (1, x.shape[-1], prod(x.shape[:-1])), (1, 1, 1, prod(x.shape)), (prod(x.shape),)]
    shape = g.pick(*shapes)
    return g.add(
        "RESHAPE", [x.index, g.constant(np.int32(shape))], _moved(g, x, shape), "ReshapeOptions", newShape=list(shape)
    )


def expand(g, x):
    axis = int(g.rng.integers(1, len(x.shape) + 1))
    shape = (*x.shape[:axis], 1, *x.shape[axis:])
    return g.add("EXPAND_DIMS", [x.index, g.constant(np.int32([axis]))], _moved(g, x, shape), "ExpandDimsOptions")


def squeeze(g, x):
    axes = [axis for axis, side in enumerate(x.shape) if side == 1 and axis]
    if not axes:  # TFLite Micro refuses to squeeze nothing
        return squeeze(g, expand(g, x))
    shape = [side for axis, side in enumerate(x.shape) if axis not in axes]
    return g.add("SQUEEZE", [x.index], _moved(g, x, shape), "SqueezeOptions", squeezeDims=axes)


def transpose(g, x):
    order = g.rng.permutation(len(x.shape))
    y = _moved(g, x, [x.shape[axis] for axis in order])
    return g.add("TRANSPOSE", [x.index, g.constant(np.int32(order))], y, "TransposeOptions")


def concatenation(g, x):
    axis = len(x.shape) - 1 if g.rng.random() < 0.6 else int(g.rng.integers(0, len(x.shape)))
    other = g.tensor(x.shape, x.numbers, x.scale, x.zero_point, g.rng.integers(*LIMITS[x.numbers], x.shape))
    parts = g.pick([x.index, x.index], [x.index, other], [other, x.index, x.index])
    y = _moved(g, x, [side * (len(parts) if i == axis else 1) for i, side in enumerate(x.shape)])
    return g.add("CONCATENATION", parts, y, "ConcatenationOptions", axis=g.pick(axis, axis - len(x.shape)))


def strided_slice(g, x):
    begin = [int(g.rng.integers(0, side)) for side in x.shape]
    end = [int(g.rng.integers(low + 1, side + 1)) for low, side in zip(begin, x.shape, strict=True)]
    stride = g.rng.integers(1, 3, len(x.shape)).tolist()
    from_start, to_end, single = (int(g.rng.integers(0, 16)) & int(g.rng.integers(0, 16)) for _ in range(3))
    single &= ~1  # the file's batch stays
    masks = {"beginMask": from_start & ~single, "endMask": to_end & ~single, "shrinkAxisMask": single}
    shape = []
    for axis, side in enumerate(x.shape):
        low = 0 if masks["beginMask"] >> axis & 1 else begin[axis]
        high = side if masks["endMask"] >> axis & 1 else end[axis]
        if not single >> axis & 1:
            shape.append(len(range(low, high, stride[axis])))
    constants = [g.constant(np.int32(values)) for values in (begin, end, stride)]
    return g.add("STRIDED_SLICE", [x.index, *constants], _moved(g, x, shape), "StridedSliceOptions", **masks)


def rsqrt(g, x):
    """It takes numbers from zero up only: the level -128 has to stand for zero."""
    source = g.activation(x.shape, x.numbers, x.scale * g.scale(-1, 1), -128)
    g.add("QUANTIZE", [x.index], source, "QuantizeOptions")
    y = g.activation(x.shape, x.numbers, 1 / np.sqrt(source.scale) / 100 * g.scale(-3, 3), g.zero_point(x.numbers))
    return g.add("RSQRT", [source.index], y)


MAPS = {"CONV_2D": convolution, "DEPTHWISE_CONV_2D": depthwise, "MAX_POOL_2D": pool("MAX_POOL_2D"),
        "AVERAGE_POOL_2D": pool("AVERAGE_POOL_2D")}  # fmt: skip
OPERATORS: dict[str, Callable[[Graph, Activation], Activation]] = {
    **MAPS,
    "FULLY_CONNECTED": dense,
    "ADD": binary("ADD", "AddOptions"),
    "SUB": binary("SUB", "SubOptions"),
    "MUL": binary("MUL", "MulOptions"),
    "SQUARED_DIFFERENCE": binary("SQUARED_DIFFERENCE", "SquaredDifferenceOptions"),
    "MAXIMUM": binary("MAXIMUM", "MaximumMinimumOptions"),
    "MINIMUM": binary("MINIMUM", "MaximumMinimumOptions"),
    "MEAN": reduction("MEAN"),
    "SUM": reduction("SUM"),
    "PAD": pad,
    "RESHAPE": reshape,
    "SQUEEZE": squeeze,
    "EXPAND_DIMS": expand,
    "TRANSPOSE": transpose,
    "CONCATENATION": concatenation,
    "STRIDED_SLICE": strided_slice,
    "SOFTMAX": softmax,
    "RELU": unary("RELU"),
    "RELU6": unary("RELU6"),
    "LEAKY_RELU": unary("LEAKY_RELU", "LeakyReluOptions", alpha=lambda g: float(g.rng.uniform(-0.5, 1.5))),
    "LOGISTIC": unary("LOGISTIC", None, 1 / 256, -128),
    "TANH": unary("TANH", None, 1 / 128, 0),
    "HARD_SWISH": unary("HARD_SWISH", "HardSwishOptions"),
    "RSQRT": rsqrt,
    "QUANTIZE": unary("QUANTIZE", "QuantizeOptions"),
}
WIDE = (  # with int16 activations
    *MAPS,
    *("FULLY_CONNECTED", "ADD", "MEAN", "PAD", "RESHAPE", "SOFTMAX", "QUANTIZE", "LEAKY_RELU"),
)


def random_graph(kinds, seed, numbers="int8", float_ends=False):
    """A file with the operators `kinds` in a row, as far as each fits what it is given."""
    g = Graph(np.random.default_rng(seed))
    shape = (
        (1, *g.rng.integers(1, 9, 3)) if g.rng.random() < 0.8 or set(kinds) & set(MAPS) else (1, g.rng.integers(1, 40))
    )
    shape = tuple(int(side) for side in shape)
    x = g.activation(shape, numbers, g.scale(-8, 0), g.zero_point(numbers))
    source = x
    if float_ends:
        g.made.clear()
        source = g.activation(shape, "float32", 1, 0)
        g.made[:] = [x]
        g.add("QUANTIZE", [source.index], x, "QuantizeOptions")
    for kind in kinds:
        if (kind in MAPS and len(x.shape) != 4) or not x.shape:
            continue
        x = OPERATORS[kind](g, x)
    if float_ends:
        x = g.add("DEQUANTIZE", [x.index], g.activation(x.shape, "float32", 1, 0), "DequantizeOptions")
    return g.packed(source, x)
