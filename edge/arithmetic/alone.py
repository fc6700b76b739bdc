"""One operator of a file in a file of its own, run by TFLite Micro."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

from edge.arithmetic.network import Node, Slot
from edge.quiet import quiet_stderr
from edge.runtimes.runtime import CannotRunError

_ARENA = 1 << 20  # bytes, besides those for the numbers themselves


def asked(node: Node, slots: Sequence[Slot], levels: Sequence[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """TFLite Micro's answers, as many as there are levels in each input. Raises `CannotRunError` where it refuses."""
    from tflite_micro.python.tflite_micro import runtime

    cases = len(levels[0])
    try:
        with quiet_stderr():
            runner = runtime.Interpreter.from_bytes(alone(node, slots, cases), arena_size=_ARENA + 16 * cases)
            for position, (slot, row) in enumerate(zip(slots, levels, strict=True)):
                runner.set_input(row.astype(slot.numbers)[None], position)
            runner.invoke()
    except RuntimeError as error:
        raise CannotRunError(str(error)) from error
    return np.asarray(runner.get_output(0)).reshape(-1)


def alone(node: Node, slots: Sequence[Slot], cases: int) -> bytes:
    """The file: the operator, with inputs and an output of shape (1, cases)."""
    import flatbuffers  # type: ignore[import-untyped]  # what the schema below needs
    from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

    graph = schema.SubGraphT()
    graph.tensors = [_tensor(slot, cases) for slot in (*slots, node.output)]
    graph.inputs, graph.outputs = list(range(len(slots))), [len(slots)]
    operator = copy.copy(node.operator)
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, graph.inputs, graph.outputs
    graph.operators = [operator]
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, [node.code], [graph], [schema.BufferT()]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _tensor(slot: Slot, cases: int) -> Any:  # noqa: ANN401 - generated code, untyped
    from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.buffer = slot.name.encode(), [1, cases], 0
    tensor.type = getattr(schema.TensorType, slot.numbers.upper())
    if len(slot.scales):
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.scale, tensor.quantization.zeroPoint = slot.scales, slot.zero_points
    return tensor
