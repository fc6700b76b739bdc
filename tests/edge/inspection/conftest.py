"""One file of every kind, made with TensorFlow's converter, or from such a file by editing it."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from edge.quiet import quiet_stderr
from edge.tensors import packed, unpacked

SHAPE = (1, 8, 8, 3)
RECORDS = np.random.default_rng(8).normal(size=(100, *SHAPE[1:])).astype(np.float32)


@pytest.fixture(scope="session")
def made(exported):
    """A file by the name of its kind."""

    @functools.cache
    def make(kind: str) -> bytes:
        return exported("cnn", variant="int4") if kind == "int4" else MAKERS[kind]()

    return make


def converted(ask=lambda tf, converter: None, batch=1, ends="logits") -> bytes:
    """A small convolutional net, as the converter is asked to make it."""
    import tensorflow as tf

    rng = np.random.default_rng(2)
    kernel = tf.constant(rng.normal(size=(3, 3, 3, 48)).astype(np.float32) * 0.2)
    kernel *= np.geomspace(0.1, 3, 48).astype(np.float32)  # channels whose scales differ
    head = tf.constant(rng.normal(size=(48, 32)).astype(np.float32) * 0.2)

    @tf.function(input_signature=[tf.TensorSpec([batch, *SHAPE[1:]], tf.float32)])
    def net(x):
        x = tf.nn.relu(tf.nn.conv2d(x, kernel, 2, "SAME"))
        x = tf.matmul(tf.reduce_mean(x, [1, 2]), head)
        return tf.nn.softmax(x) if ends == "softmax" else x

    with quiet_stderr():
        converter = tf.lite.TFLiteConverter.from_concrete_functions([net.get_concrete_function()])
        ask(tf, converter)
        return bytes(converter.convert())


def quantised(tf, converter, operators="TFLITE_BUILTINS_INT8", ends=None):
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([row[None]] for row in RECORDS)
    converter.target_spec.supported_ops = [getattr(tf.lite.OpsSet, operators)]
    if ends is not None:
        converter.inference_input_type = converter.inference_output_type = getattr(tf, ends)


def int16x8(tf, converter):
    quantised(tf, converter, "EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8", "int16")


def float16(tf, converter):
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]


def dynamic_range(tf, converter):
    converter.optimizations = [tf.lite.Optimize.DEFAULT]


def mixed() -> bytes:
    """Everything in int8 but the last layer."""
    import tensorflow as tf

    options = tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=["FULLY_CONNECTED"])
    kept = []

    def ask(tf, converter):
        quantised(tf, converter)
        records = converter.representative_dataset
        kept.append(
            tf.lite.experimental.QuantizationDebugger(
                converter=converter, debug_dataset=records, debug_options=options
            ).get_nondebug_quantized_model()
        )

    converted(ask)
    return bytes(kept[0])


def weight_only(per_channel: bool) -> bytes:
    """The float32 file with int8 weights, each turned into float32 by a DEQUANTIZE of its own."""
    from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

    whole = unpacked(converted())
    graph = whole.subgraphs[0]
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.DEQUANTIZE
    whole.operatorCodes.append(code)
    for operator in list(graph.operators):
        index = int(operator.inputs[1]) if len(operator.inputs) > 2 else -1
        if index >= 0 and graph.tensors[index].type == schema.TensorType.FLOAT32:
            operator.inputs = [operator.inputs[0], len(graph.tensors), *operator.inputs[2:]]
            graph.operators.insert(0, dequantize(schema, whole, index, per_channel))
    return packed(whole)


def dequantize(schema, whole, index, per_channel):
    """Turn a float32 constant into an int8 one; returns the operator that turns it back, into a new tensor."""
    graph, tensor = whole.subgraphs[0], whole.subgraphs[0].tensors[index]
    values = np.frombuffer(bytes(whole.buffers[tensor.buffer].data), np.float32).reshape(tensor.shape)
    largest = (
        np.abs(values).reshape(len(values), -1).max(1) if per_channel else np.abs(values).max(keepdims=True).ravel()
    )
    scale = np.maximum(largest, 1e-6) / 127
    steps = np.round(values / scale.reshape(-1, *[1] * (values.ndim - 1))).astype(np.int8)
    back, operator = schema.TensorT(), schema.OperatorT()
    back.shape, back.type, back.name = tensor.shape, tensor.type, b"back"
    graph.tensors.append(back)
    whole.buffers[tensor.buffer].data = np.frombuffer(steps.tobytes(), np.uint8)
    tensor.type, tensor.quantization = schema.TensorType.INT8, schema.QuantizationParametersT()
    tensor.quantization.scale, tensor.quantization.zeroPoint = scale.tolist(), [0] * len(scale)
    operator.opcodeIndex, operator.inputs = len(whole.operatorCodes) - 1, [index]
    operator.outputs = [len(graph.tensors) - 1]
    return operator


def uint8() -> bytes:
    """The int8 file with every int8 tensor called uint8, zero points moved along."""
    from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

    whole = unpacked(converted(functools.partial(quantised, ends="int8")))
    for tensor in whole.subgraphs[0].tensors:
        if tensor.type == schema.TensorType.INT8:
            tensor.type, tensor.quantization.zeroPoint = schema.TensorType.UINT8, [128]
            tensor.quantization.scale = tensor.quantization.scale[:1]
    return packed(whole)


def training() -> bytes:
    from edge.head import Head
    from edge.training_file import training_file

    rng = np.random.default_rng(1)
    return training_file(Head(rng.normal(size=(8, 4)).astype(np.float32), np.zeros(4, np.float32)), 8, 0.1)


def two_inputs() -> bytes:
    import tensorflow as tf

    specs = [tf.TensorSpec([1, 4], tf.float32, name="left"), tf.TensorSpec([1, 4], tf.float32, name="right")]
    add = tf.function(lambda left, right: left + right, input_signature=specs)
    with quiet_stderr():
        return bytes(tf.lite.TFLiteConverter.from_concrete_functions([add.get_concrete_function()]).convert())


def custom() -> bytes:
    """The last operator is somebody's own, with a name that would move a terminal's cursor."""
    whole = unpacked(converted())
    code = whole.operatorCodes[whole.subgraphs[0].operators[-1].opcodeIndex]
    code.builtinCode = code.deprecatedBuiltinCode = 32
    code.customCode = b"\x1b[2J../../etc/passwd\n" + "\u202eevil".encode() * 50
    return packed(whole)


MAKERS = {
    "full-int8": lambda: converted(functools.partial(quantised, ends="int8")),
    "int8-float-io": lambda: converted(quantised, ends="softmax"),
    "int16x8": lambda: converted(int16x8),
    "float32": converted,
    "float16": lambda: converted(float16),
    "dynamic-range": lambda: converted(dynamic_range),
    "weight-only": lambda: weight_only(per_channel=True),
    "weight-only-per-tensor": lambda: weight_only(per_channel=False),
    "uint8": uint8,
    "mixed": mixed,
    "training": training,
    "several-ports": two_inputs,
    "control-flow-or-custom": custom,
    "dynamic-batch": lambda: converted(functools.partial(quantised, ends="int8"), batch=None),
    "batch-of-8": lambda: converted(batch=8),
}
