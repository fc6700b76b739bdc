"""The same training as a TFLite file with signatures, for LiteRT on phones and larger boards, without Flex operators.

TFLite Micro cannot run it (it crashes on CALL_ONCE): on a microcontroller the step of `edge.head` is written in C.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import Float

from edge.head import Features, Head
from edge.quiet import quiet_stderr

Batch = tuple[Features, Float[np.ndarray, "records classes"]]


def training_file(head: Head, batch_size: int, learning_rate: float) -> bytes:
    """A TFLite file with the signatures `train` (features, wanted -> loss), `infer` (features -> logits) and `weights`.

    The gradient of mean cross-entropy is written out in built-in operators, since those that TensorFlow derives need
    Flex, which LiteRT no longer has. The file takes batches of `batch_size` records.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before the import: it is read once
    with quiet_stderr():
        import tensorflow as tf

    module = _module(tf, head, batch_size, learning_rate)
    functions = [getattr(module, name).get_concrete_function() for name in ("train", "infer", "weights")]
    with quiet_stderr():
        converter = tf.lite.TFLiteConverter.from_concrete_functions(functions, module)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        converter.experimental_enable_resource_variables = True
        return bytes(converter.convert())


def train_in_litert(model: bytes, batches: Iterable[Batch]) -> tuple[Head, list[float]]:
    """Train in LiteRT on batches of (features, one-hot labels); the head that comes out, and the loss of each step."""
    from ai_edge_litert.interpreter import Interpreter

    with quiet_stderr():
        interpreter = Interpreter(model_content=model, num_threads=1)
        interpreter.allocate_tensors()
    step = interpreter.get_signature_runner("train")
    losses = [float(step(features=features, wanted=wanted)["loss"]) for features, wanted in batches]
    found = interpreter.get_signature_runner("weights")()
    return Head(found["weight"], found["bias"]), losses


def _module(tf: Any, head: Head, batch_size: int, learning_rate: float) -> Any:  # noqa: ANN401 - untyped library
    features, classes = head.weight.shape
    x = tf.TensorSpec([batch_size, features], tf.float32, name="features")
    y = tf.TensorSpec([batch_size, classes], tf.float32, name="wanted")

    class Trainer(tf.Module):  # type: ignore[misc]  # an untyped library's class
        def __init__(self) -> None:
            self.w, self.b = tf.Variable(head.weight), tf.Variable(head.bias)

        def logits(self, features: Any) -> Any:  # noqa: ANN401
            return tf.matmul(features, self.w) + self.b

        @tf.function(input_signature=[x, y])  # type: ignore[untyped-decorator]
        def train(self, features: Any, wanted: Any) -> Any:  # noqa: ANN401
            said = tf.nn.softmax(self.logits(features))
            error = (said - wanted) / batch_size
            self.w.assign(self.w - learning_rate * tf.matmul(features, error, transpose_a=True))
            self.b.assign(self.b - learning_rate * tf.reduce_sum(error, 0))
            return {"loss": -tf.reduce_mean(tf.reduce_sum(wanted * tf.math.log(said + 1e-7), 1))}

        @tf.function(input_signature=[x])  # type: ignore[untyped-decorator]
        def infer(self, features: Any) -> Any:  # noqa: ANN401
            return {"logits": self.logits(features)}

        @tf.function(input_signature=[])  # type: ignore[untyped-decorator]
        def weights(self) -> Any:  # noqa: ANN401
            return {"weight": self.w.read_value(), "bias": self.b.read_value()}

    return Trainer()
