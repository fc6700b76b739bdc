"""Firmware that several tests share, and files of single operators."""

from __future__ import annotations

import functools

import flatbuffers
import numpy as np
import pytest

from edge.artifact import Artifact
from edge.firmware import build, missing
from edge.runtimes import run


@pytest.fixture(scope="session")
def toolchain(lacking):
    """Asked for by every test that compiles or emulates."""
    advice = missing()
    if advice is not None:
        lacking(f"firmware cannot be built or run here: {advice}")


@pytest.fixture(scope="session")
def built(toolchain, exported, tmp_path_factory):
    """Firmware of a network of `NETS`, compiled once per session."""

    @functools.cache
    def make(name, answers="probabilities", core="cortex-m4", kernels=None, variant="int8"):
        return build(exported(name, answers, variant), tmp_path_factory.mktemp("firmware"), core, kernels)

    return make


@pytest.fixture(scope="session")
def inputs():
    """Records of random levels for a model, with the extremes among them."""

    def draw(model, count=20, seed=0):
        shape = Artifact.from_bytes(model).input.shape[1:]
        rows = np.random.default_rng(seed).integers(-128, 128, (count, *shape)).astype(np.int8)
        rows[0], rows[1], rows[2] = -128, 127, 0
        rows[3] = np.where(rows[3] < 0, -128, 127)
        return rows

    return draw


@pytest.fixture(scope="session")
def on_tflm():
    """TFLite Micro's answers."""
    return lambda model, rows: run(Artifact.from_bytes(model), rows, "tflm")


@pytest.fixture(scope="session")
def single():
    """A TFLite file of one operator: its kind, the (shape, scale, zero point) of both ends, options, constants."""
    from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

    def make(kind, source, result, options=None, constants=()):
        whole, graph, code, operator = schema.ModelT(), schema.SubGraphT(), schema.OperatorCodeT(), schema.OperatorT()
        number = getattr(schema.BuiltinOperator, kind)
        code.builtinCode, code.deprecatedBuiltinCode, code.version = number, min(number, 127), 2
        whole.version, whole.subgraphs, whole.operatorCodes, whole.buffers = 3, [graph], [code], [schema.BufferT()]
        graph.tensors = [_tensor(schema, name, *end) for name, end in (("in", source), ("out", result))]
        for values in constants:
            buffer, tensor = schema.BufferT(), schema.TensorT()
            buffer.data = np.frombuffer(np.asarray(values, dtype="<i4").tobytes(), np.uint8)
            whole.buffers.append(buffer)
            tensor.name, tensor.shape, tensor.type = "constant", [len(values)], schema.TensorType.INT32
            tensor.buffer = len(whole.buffers) - 1
            graph.tensors.append(tensor)
        operator.inputs, operator.outputs = [0, *range(2, 2 + len(constants))], [1]
        if options is not None:
            name, values = options
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, name)
            operator.builtinOptions = getattr(schema, f"{name}T")()
            for field, value in values.items():
                setattr(operator.builtinOptions, field, value)
        graph.inputs, graph.outputs, graph.operators = [0], [1], [operator]
        builder = flatbuffers.Builder(1024)
        builder.Finish(whole.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    return make


def _tensor(schema, name, shape, scale, zero_point):
    tensor, quantization = schema.TensorT(), schema.QuantizationParametersT()
    tensor.name, tensor.shape, tensor.type, tensor.buffer = name, list(shape), schema.TensorType.INT8, 0
    quantization.scale, quantization.zeroPoint = [scale], [zero_point]
    tensor.quantization = quantization
    return tensor
