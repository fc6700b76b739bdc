"""The file that is shipped: an int8 TFLite model, and how torch's records go in and scores come out of it."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int8

Output = Literal["logits", "probabilities"]
Shape = tuple[int, ...]
LEVELS = 256  # int8 values; the softmax kernel fixes its output scale at 1/256 and its zero point at -128


class ArtifactError(ValueError):
    """The bytes are not a model this package can ask: not TFLite, not int8, or not one tensor in and one out."""


@dataclass(frozen=True)
class Artifact:
    """An int8 model with one input and one output, and their quantisation: real = scale * (int8 - zero point).

    `input_shape` and `output_shape` are the file's own, channels last, with a batch of 1. Callers keep torch's
    layout throughout: `quantize_input` moves the channels.
    """

    model: bytes = field(repr=False)
    input_shape: Shape
    input_scale: float
    input_zero_point: int
    output_shape: Shape
    output_scale: float
    output_zero_point: int
    output: Output

    @staticmethod
    def from_bytes(model: bytes, output: Output | None = None) -> Artifact:
        """Read shapes and quantisation from a TFLite file's bytes.

        `output` is what the caller expects the model to answer; without it, a model that ends in a softmax answers
        probabilities and any other one logits. Raises `ArtifactError` where the file says otherwise, or cannot be
        asked.
        """
        try:
            return _read(model, output)
        except (struct.error, IndexError, TypeError, AttributeError, UnicodeDecodeError) as error:
            raise ArtifactError(f"the TFLite file is damaged: {error}") from error

    @staticmethod
    def load(path: Path, output: Output | None = None) -> Artifact:
        """Read a `.tflite` file; raises `ArtifactError` naming it."""
        try:
            return Artifact.from_bytes(path.read_bytes(), output)
        except ArtifactError as error:
            raise ArtifactError(f"{path}: {error}") from error

    @property
    def resolution(self) -> float:
        """The smallest step between two probabilities, 1/256; 0.0 for logits, whose step means nothing by itself."""
        return 1 / LEVELS if self.output == "probabilities" else 0.0

    @property
    def classes(self) -> int:
        """How many scores one record gets."""
        return self.output_shape[-1]

    def quantize_input(self, x: Float[np.ndarray, "records ..."]) -> Int8[np.ndarray, "records ..."]:
        """Records in torch's layout, (C, H, W), (C, W) or (F,) each, as the bytes every runtime is given.

        Rounded as TFLite's own QUANTIZE kernel does: float32 division, halves away from zero, then clipped. Values
        outside the calibrated range end at its edges.
        """
        rows = self.channels_last(np.asarray(x, dtype=np.float32))
        ratio = (rows / np.float32(self.input_scale)).astype(np.float64)
        rounded = np.copysign(np.floor(np.abs(ratio) + 0.5), ratio)
        levels: Int8[np.ndarray, "records ..."] = np.clip(rounded + self.input_zero_point, -128, 127).astype(np.int8)
        return levels

    def dequantize(self, outputs: Int8[np.ndarray, "records classes"]) -> Float[np.ndarray, "records classes"]:
        """The runtime's int8 answers as float32 logits or probabilities."""
        steps = outputs.astype(np.float32) - np.float32(self.output_zero_point)  # exact: small whole numbers
        scores: Float[np.ndarray, "records classes"] = steps * np.float32(self.output_scale)
        return scores

    def channels_last(self, x: Float[np.ndarray, "records ..."]) -> Float[np.ndarray, "records ..."]:
        """Records in torch's layout as the file takes them, still in floating point."""
        rows = np.moveaxis(x, 1, -1) if x.ndim > 2 else x
        wanted = self.input_shape[1:]
        if _without_leading_ones(rows.shape[1:]) != _without_leading_ones(wanted):
            raise ValueError(
                f"records of shape {x.shape[1:]} (channels first) do not fit a model that takes {wanted} "
                "(channels last)"
            )
        return np.ascontiguousarray(rows).reshape(len(rows), *wanted)


def _without_leading_ones(shape: Shape) -> Shape:
    """A window of a one-dimensional model has height 1 in the file and no height in torch."""
    while len(shape) > 1 and shape[0] == 1:
        shape = shape[1:]
    return shape


def _read(model: bytes, output: Output | None) -> Artifact:
    from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

    if model[4:8] != b"TFL3":
        raise ArtifactError("this is not a TFLite file (its identifier is missing)")
    root = schema.Model.GetRootAs(model, 0)
    if root.SubgraphsLength() == 0:
        raise ArtifactError("the TFLite file holds no graph")
    graph = root.Subgraphs(0)
    if (graph.InputsLength(), graph.OutputsLength()) != (1, 1):
        raise ArtifactError(
            f"the model has {graph.InputsLength()} inputs and {graph.OutputsLength()} outputs; one of each is supported"
        )
    answers = _answers(schema, root, graph)
    if output is not None and output != answers:
        raise ArtifactError(f"the model answers with {answers}, not {output}: export it anew, or say so")
    source, result = (_tensor(schema, graph, index) for index in (graph.Inputs(0), graph.Outputs(0)))
    return Artifact(model, *source, *result, answers)


def _tensor(schema: Any, graph: Any, index: int) -> tuple[Shape, float, int]:  # noqa: ANN401 - generated code, untyped
    """Shape, scale and zero point of an int8 tensor."""
    tensor = graph.Tensors(index)
    name, quantization = (tensor.Name() or b"").decode(), tensor.Quantization()
    if tensor.Type() != schema.TensorType.INT8:
        raise ArtifactError(f"tensor '{name}' is not int8: convert the model with int8 input and output")
    if quantization is None or quantization.ScaleLength() != 1 or not 0 < quantization.Scale(0) < float("inf"):
        raise ArtifactError(f"tensor '{name}' does not have one usable scale")
    zero_point = int(quantization.ZeroPoint(0)) if quantization.ZeroPointLength() else 0
    shape = tuple(int(tensor.Shape(axis)) for axis in range(tensor.ShapeLength()))
    if not shape or shape[0] != 1:
        raise ArtifactError(f"tensor '{name}' has shape {shape}; a batch of 1 is supported")
    return shape, float(quantization.Scale(0)), zero_point


def _answers(schema: Any, root: Any, graph: Any) -> Output:  # noqa: ANN401 - generated code, untyped
    """Probabilities if a softmax makes the output, else logits."""
    for position in range(graph.OperatorsLength()):
        operator = graph.Operators(position)
        if graph.Outputs(0) in (operator.Outputs(i) for i in range(operator.OutputsLength())):
            code = root.OperatorCodes(operator.OpcodeIndex())
            kind = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
            return "probabilities" if kind == schema.BuiltinOperator.SOFTMAX else "logits"
    return "logits"
