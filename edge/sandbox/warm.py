"""Let LiteRT look at the processor while it still can: it picks its kernels by what it finds under /sys."""

from __future__ import annotations

from functools import cache

import numpy as np


@cache
def litert() -> None:
    """Run a model of our own once: one addition."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=_addition(), num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(0, np.ones(1, np.float32))
    interpreter.invoke()


def _addition() -> bytes:
    """A TFLite file that doubles a number."""
    import flatbuffers  # type: ignore[import-untyped]  # what the schema needs
    from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

    whole, graph, code, operator = schema.ModelT(), schema.SubGraphT(), schema.OperatorCodeT(), schema.OperatorT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.ADD
    operator.inputs, operator.outputs = [0, 0], [1]
    operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.AddOptions, schema.AddOptionsT()
    graph.tensors = [schema.TensorT(), schema.TensorT()]
    for tensor in graph.tensors:
        tensor.shape = [1]
    graph.inputs, graph.outputs, graph.operators = [0], [1], [operator]
    whole.version, whole.operatorCodes, whole.subgraphs = 3, [code], [graph]
    whole.buffers = [schema.BufferT()]
    builder = flatbuffers.Builder(1024)
    builder.Finish(whole.Pack(builder), b"TFL3")
    return bytes(builder.Output())
