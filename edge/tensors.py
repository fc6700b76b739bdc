"""A TFLite file taken apart: operators, tensors and the numbers in them, and how to put it together again."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from math import prod
from typing import Any, Final

import numpy as np
from jaxtyping import Float, Int, Shaped

from edge.artifact import ArtifactError

_WHOLE: Final = ("INT4", "INT8", "INT16", "INT32", "INT64")


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
        levels = self.values.astype(np.float64) - self._spread(self.zero_point)
        return np.asarray(levels * self.steps, dtype=np.float32)

    @property
    def steps(self) -> Float[np.ndarray, " *sides"]:
        """The scales, in a shape that fits beside `values`."""
        return self._spread(self.scale)

    def moved(self, rng: np.random.Generator) -> Float[np.ndarray, " *shape"]:
        """The values in float32, each anywhere within half a step: weights that would have been rounded to these."""
        within = rng.uniform(-0.5, 0.5, self.values.shape) * self.steps
        return np.asarray(self.real + within, dtype=np.float32)

    def _spread(self, per_slice: Shaped[np.ndarray, " scales"]) -> Shaped[np.ndarray, " *sides"]:
        sides = [1] * self.values.ndim
        if len(per_slice) > 1:
            sides[self.axis] = -1
        return per_slice.astype(np.float64).reshape(sides if len(per_slice) > 1 else [1] * self.values.ndim)


def constant_of(whole: Any, tensor: Any) -> Constant | None:  # noqa: ANN401 - generated code, untyped
    """A quantised tensor with values of its own; None for activations, and for shapes and axes."""
    data = whole.buffers[tensor.buffer].data
    if data is None or len(data) == 0 or not quantised(tensor):
        return None
    kind, quantization = type_names()[tensor.type], tensor.quantization
    if kind not in _WHOLE:
        raise ArtifactError(f"weights '{tensor.name.decode()}' are {kind}; known are {', '.join(_WHOLE)}")
    values = _unpaired(bytes(data)) if kind == "INT4" else np.frombuffer(bytes(data), dtype=kind.lower())
    shape = () if tensor.shape is None else tuple(tensor.shape)  # a single number has no sides
    return Constant(
        name=tensor.name.decode(),
        values=values[: prod(shape)].reshape(shape),
        scale=np.asarray(quantization.scale, dtype=np.float32),
        zero_point=np.asarray(quantization.zeroPoint, dtype=np.int64),
        axis=int(quantization.quantizedDimension),
    )


def _unpaired(data: bytes) -> Int[np.ndarray, " values"]:
    """Numbers of four bits, two to a byte, the earlier one in the lower half."""
    pairs = np.frombuffer(data, dtype=np.int8)
    return np.stack([(pairs << 4) >> 4, pairs >> 4], axis=1).ravel()  # shifts to the right keep the sign


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
def type_names() -> dict[int, str]:
    """What the numbers of tensors are called, by their code in the file."""
    from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

    return {code: name for name, code in vars(schema.TensorType).items() if isinstance(code, int)}


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


def with_values(whole: Any, tensor: Any, values: np.ndarray[Any, Any]) -> None:  # noqa: ANN401 - as above
    """Give a tensor other values, in a buffer of its own: tensors of equal values share theirs."""
    from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

    whole.buffers.append(schema.BufferT())
    whole.buffers[-1].data = np.frombuffer(values.tobytes(), dtype=np.uint8)
    tensor.buffer = len(whole.buffers) - 1


def without_orphans(whole: Any) -> Any:  # noqa: ANN401 - generated code, untyped
    """The same file without tensors that no operator uses any more, and without the bytes that only these had."""
    for graph in whole.subgraphs:
        _drop_tensors(whole, graph)
    used = {tensor.buffer for graph in whole.subgraphs for tensor in graph.tensors}
    used |= {each.buffer for each in whole.metadata or ()}
    for index, buffer in enumerate(whole.buffers):
        buffer.data = buffer.data if index in used else None
    return whole


def _drop_tensors(whole: Any, graph: Any) -> None:  # noqa: ANN401 - generated code, untyped
    """Only of a file with one graph: in others a signature's tensors would have to be told apart by graph."""
    ends = [*graph.inputs, *graph.outputs]
    used = {int(i) for operator in graph.operators for i in (*operator.inputs, *operator.outputs)} | {*map(int, ends)}
    if len(whole.subgraphs) != 1 or len(used - {-1}) == len(graph.tensors):
        return
    kept = [index for index in range(len(graph.tensors)) if index in used]
    moved = {-1: -1, **{old: new for new, old in enumerate(kept)}}
    graph.tensors = [graph.tensors[index] for index in kept]
    for holder in (graph, *graph.operators):
        for name in ("inputs", "outputs"):
            setattr(holder, name, np.array([moved[int(i)] for i in getattr(holder, name)], dtype=np.int32))
    for signature in whole.signatureDefs or ():
        for each in (*(signature.inputs or ()), *(signature.outputs or ())):
            each.tensorIndex = moved[each.tensorIndex]
