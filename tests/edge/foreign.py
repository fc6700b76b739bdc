"""Files as other people bring them: with a memory, for other hardware, with scales that do not go together.

Made with TensorFlow's converter, or operator by operator where it does not make them any more.
"""

from __future__ import annotations

import functools

import numpy as np

from edge.quiet import quiet_stderr
from edge.tensors import kinds_of, packed, unpacked

STEPS, FEATURES, UNITS = 6, 5, 4
HEAD = np.random.default_rng(3).normal(size=(FEATURES, UNITS)).astype(np.float32)


@functools.cache
def made(name: str) -> bytes:
    """A file by its name in `MAKERS`."""
    return MAKERS[name]()


def records(name: str, count: int = 8) -> np.ndarray:
    """Records for a file that can be asked, as real numbers in its own layout."""
    from edge.artifact import Artifact

    shape = Artifact.from_bytes(made(name)).input.shape[1:]
    return np.random.default_rng(4).normal(size=(count, *shape)).astype(np.float32)


def converted(function, *shapes, ask=lambda tf, converter: None, numbers=None) -> bytes:
    """A function of tensors as the converter makes it."""
    import tensorflow as tf

    specs = [tf.TensorSpec(shape, numbers or tf.float32) for shape in shapes]
    graph = tf.function(functools.partial(function, tf), input_signature=specs).get_concrete_function()
    with quiet_stderr():
        converter = tf.lite.TFLiteConverter.from_concrete_functions([graph])
        ask(tf, converter)
        return bytes(converter.convert())


def quantised(tf, converter, shape=(1, FEATURES), ends="int8"):
    rng = np.random.default_rng(5)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([rng.normal(size=shape).astype(np.float32)] for _ in range(40))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = getattr(tf, ends)


def ring(ask=lambda tf, converter: None) -> bytes:
    """Two steps at a time into a buffer of four, which is not zero when it is switched on."""
    import tensorflow as tf

    class Ring(tf.Module):
        def __init__(self):
            self.kept = tf.Variable(np.full((1, 4, FEATURES), 0.5, np.float32), name="kept")
            self.head = tf.constant(np.random.default_rng(6).normal(size=(4 * FEATURES, UNITS)).astype(np.float32))

        @tf.function(input_signature=[tf.TensorSpec([1, 2, FEATURES], tf.float32)])
        def infer(self, x):
            self.kept.assign(tf.concat([self.kept, x], 1)[:, -4:])
            return tf.matmul(tf.reshape(self.kept, [1, 4 * FEATURES]), self.head)

    module = Ring()
    with quiet_stderr():
        converter = tf.lite.TFLiteConverter.from_concrete_functions([module.infer.get_concrete_function()], module)
        converter.experimental_enable_resource_variables = True
        ask(tf, converter)
        return bytes(converter.convert())


def by_hand(kind: str, tensors: list, inputs: list[int], options=None, custom: bytes = b"") -> bytes:
    """A file of one operator; tensors are (shape, values or None, is it a variable), the first in, the last out."""
    from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

    whole, graph, code, operator = schema.ModelT(), schema.SubGraphT(), schema.OperatorCodeT(), schema.OperatorT()
    code.builtinCode = getattr(schema.BuiltinOperator, kind)
    code.deprecatedBuiltinCode, code.version, code.customCode = min(code.builtinCode, 127), 1, custom or None
    whole.buffers, graph.tensors = [schema.BufferT()], []
    for number, (shape, values, variable) in enumerate(tensors):
        tensor = schema.TensorT()
        tensor.shape, tensor.isVariable, tensor.name = list(shape), variable, f"tensor {number}".encode()
        tensor.type, tensor.buffer = schema.TensorType.FLOAT32, 0
        if values is not None:
            whole.buffers.append(schema.BufferT())
            whole.buffers[-1].data = np.frombuffer(np.asarray(values, np.float32).tobytes(), np.uint8)
            tensor.buffer = len(whole.buffers) - 1
        graph.tensors.append(tensor)
    operator.inputs, operator.outputs = inputs, [len(tensors) - 1]
    if options is not None:
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        operator.builtinOptions = options
    graph.inputs, graph.outputs, graph.operators = [0], [len(tensors) - 1], [operator]
    whole.version, whole.operatorCodes, whole.subgraphs = 3, [code], [graph]
    return packed(whole)


def lstm(time_major=False) -> bytes:
    """A fused LSTM: four gates of the input, four of the state, four biases, and two variable tensors."""
    from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

    rng, options = np.random.default_rng(7), schema.UnidirectionalSequenceLSTMOptionsT()
    options.fusedActivationFunction, options.timeMajor = schema.ActivationFunctionType.TANH, time_major
    gates = [((UNITS, FEATURES), rng.normal(size=(UNITS, FEATURES)), False) for _ in range(4)]
    again = [((UNITS, UNITS), rng.normal(size=(UNITS, UNITS)), False) for _ in range(4)]
    biases = [((UNITS,), np.ones(UNITS), False) for _ in range(4)]
    states = [((1, UNITS), None, True), ((1, UNITS), None, True)]
    ends = [(STEPS, 1, width) if time_major else (1, STEPS, width) for width in (FEATURES, UNITS)]
    tensors = [(ends[0], None, False), *gates, *again, *biases, *states, (ends[1], None, False)]
    inputs = [*range(9), -1, -1, -1, *range(9, 13), -1, -1, 13, 14, -1, -1, -1, -1]
    return by_hand("UNIDIRECTIONAL_SEQUENCE_LSTM", tensors, inputs, options)


def svdf() -> bytes:
    from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

    rng, options = np.random.default_rng(8), schema.SVDFOptionsT()
    options.rank = 1
    kept = 3
    tensors = [
        ((1, FEATURES), None, False),
        ((UNITS, FEATURES), rng.normal(size=(UNITS, FEATURES)), False),
        ((UNITS, kept), rng.normal(size=(UNITS, kept)), False),
        ((UNITS,), np.zeros(UNITS), False),
        ((1, kept * UNITS), None, True),
        ((1, UNITS), None, False),
    ]
    return by_hand("SVDF", tensors, [0, 1, 2, 3, 4], options)


def circular_buffer() -> bytes:
    """TFLite Micro's own operator for streaming convolutions, in int8: the last five slices."""
    tensors = [((1, 1, 1, 3), None, False), ((1, 5, 1, 3), None, False)]
    return in_int8(by_hand("CUSTOM", tensors, [0], custom=b"CIRCULAR_BUFFER"))


def in_int8(model: bytes) -> bytes:
    """A file without constants, with all its tensors called int8."""
    from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

    whole = unpacked(model)
    for tensor in whole.subgraphs[0].tensors:
        tensor.type, tensor.quantization = schema.TensorType.INT8, schema.QuantizationParametersT()
        tensor.quantization.scale, tensor.quantization.zeroPoint = [0.1], [0]
    return packed(whole)


def sequence_rnn() -> bytes:
    """A plain recurrent layer, which LiteRT has and TFLite Micro has not."""
    from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

    rng, options = np.random.default_rng(9), schema.SequenceRNNOptionsT()
    options.fusedActivationFunction = schema.ActivationFunctionType.TANH
    tensors = [
        ((1, STEPS, FEATURES), None, False),
        ((UNITS, FEATURES), rng.normal(size=(UNITS, FEATURES)), False),
        ((UNITS, UNITS), rng.normal(size=(UNITS, UNITS)), False),
        ((UNITS,), np.zeros(UNITS), False),
        ((1, UNITS), None, True),
        ((1, STEPS, UNITS), None, False),
    ]
    return by_hand("UNIDIRECTIONAL_SEQUENCE_RNN", tensors, [0, 1, 2, 3, 4], options)


def forgotten() -> bytes:
    """The ring without what sets it: read, and never assigned."""
    whole = unpacked(ring())
    graph = whole.subgraphs[0]
    kinds = kinds_of(whole)
    graph.operators = [
        operator
        for kind, operator in zip(kinds, graph.operators, strict=True)
        if kind not in ("CALL_ONCE", "ASSIGN_VARIABLE")
    ]
    whole.subgraphs = [graph]
    return packed(whole)


def with_uint8_ends(model: bytes) -> bytes:
    """An int8 file that takes and gives uint8: a QUANTIZE at each end, as the converter puts there."""
    from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

    whole = unpacked(model)
    graph, code = whole.subgraphs[0], schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.QUANTIZE
    whole.operatorCodes.append(code)
    whole.signatureDefs, ends = None, []
    for inside in (int(graph.inputs[0]), int(graph.outputs[0])):
        tensor, quantisation = schema.TensorT(), schema.QuantizationParametersT()
        twin = graph.tensors[inside]
        quantisation.scale, quantisation.zeroPoint = (
            twin.quantization.scale,
            [int(twin.quantization.zeroPoint[0]) + 128],
        )
        tensor.shape, tensor.type, tensor.quantization = twin.shape, schema.TensorType.UINT8, quantisation
        tensor.name, tensor.buffer = b"end", 0
        graph.tensors.append(tensor)
        operator = schema.OperatorT()
        operator.opcodeIndex, outside = len(whole.operatorCodes) - 1, len(graph.tensors) - 1
        operator.inputs, operator.outputs = ([inside], [outside]) if ends else ([outside], [inside])
        graph.operators.insert(len(graph.operators) if ends else 0, operator)
        ends.append(outside)
    graph.inputs, graph.outputs = ends[:1], ends[1:]
    return packed(whole)


def custom(name: bytes) -> bytes:
    """One operator that only other hardware has, with working memory that nothing writes beforehand."""
    tensors = [((1, FEATURES), None, False), ((64,), None, False), ((1, UNITS), None, False)]
    return by_hand("CUSTOM", tensors, [1, 0], custom=name)


def switched(tf, x):
    return tf.cond(tf.reduce_sum(x) > 0, lambda: tf.matmul(x, HEAD), lambda: 1 - tf.matmul(x, HEAD))


def looped(tf, x):
    return tf.while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, tf.tanh(2 * y)), [0, tf.matmul(x, HEAD)])[1]


def normalised(tf, x):
    """Over the batch, as batch normalisation does in training."""
    spread = tf.math.reduce_std(x, 0, keepdims=True) + 0.1
    return tf.matmul((x - tf.reduce_mean(x, 0, keepdims=True)) / spread, HEAD)


ONE = [1, FEATURES]
MAKERS = {
    "ring": ring,
    "ring-int8": lambda: ring(functools.partial(quantised, shape=(1, 2, FEATURES))),
    "lstm": lstm,
    "lstm-time-major": functools.partial(lstm, time_major=True),
    "svdf": svdf,
    "sequence-rnn": sequence_rnn,
    "circular-buffer": circular_buffer,
    "forgotten": forgotten,
    "vela": lambda: custom(b"ethos-u"),
    "edgetpu": lambda: custom(b"edgetpu-custom-op"),
    "neutron": lambda: custom(b"NeutronGraph"),
    "dispatched": lambda: custom(b"DISPATCH_OP"),
    "somebody-s": lambda: custom(b"MyOwnOperator"),
    "flex": lambda: custom(b"FlexMatrixInverse"),
    "if": lambda: converted(switched, ONE),
    "while": lambda: converted(looped, ONE),
    "batch-of-3": lambda: converted(lambda tf, x: tf.matmul(x, HEAD), [3, FEATURES]),
    "normalised-over-its-batch": lambda: converted(normalised, [3, FEATURES]),
    "random": lambda: converted(lambda tf, x: tf.matmul(x + tf.random.uniform(ONE), HEAD), ONE),
    "dropout": lambda: converted(lambda tf, x: tf.matmul(tf.nn.dropout(x, 0.5), HEAD), ONE),
    "two-outputs": lambda: converted(lambda tf, x: (tf.matmul(x, HEAD), tf.reduce_sum(x, 1)), ONE),
    "label": lambda: converted(lambda tf, x: tf.argmax(tf.matmul(x, HEAD), 1, tf.int32), ONE),
    "bool": lambda: converted(lambda tf, x: tf.matmul(x, HEAD) > 0, ONE),
    "no-batch": lambda: converted(lambda tf, x: tf.reshape(tf.linalg.matvec(HEAD.T, x), [1, UNITS]), [FEATURES]),
    "open-length": lambda: converted(lambda tf, x: tf.reduce_sum(tf.tensordot(x, HEAD, 1), 1), [1, None, FEATURES]),
    "uint8": lambda: converted(
        lambda tf, x: tf.nn.softmax(tf.matmul(x, HEAD)), ONE, ask=functools.partial(quantised, ends="uint8")
    ),
    "int8": lambda: converted(lambda tf, x: tf.nn.softmax(tf.matmul(x, HEAD)), ONE, ask=quantised),
}
