"""The file that is shipped: a TFLite model, and how torch's records go in and scores come out of it."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from jaxtyping import Float, Shaped

Output = Literal["logits", "probabilities"]
Numbers = Literal["int8", "int16", "uint8", "float32"]
Shape = tuple[int, ...]
Levels = Shaped[np.ndarray, "records ..."]  # numbers as the file takes them: those of a port
NUMBERS: Final[tuple[Numbers, ...]] = ("int8", "int16", "uint8", "float32")


class ArtifactError(ValueError):
    """The bytes are not a model this package can ask: not TFLite, or not one tensor in and one out, or of a number
    format that it does not know.
    """


@dataclass(frozen=True)
class Port:
    """One end of a model: its shape, the batch in front and channels last, and how its numbers stand for real ones.

    Of whole numbers real = scale * (level - zero point); of float32 the scale is 1 and the zero point 0.
    """

    shape: Shape
    numbers: Numbers
    scale: float = 1.0
    zero_point: int = 0

    @property
    def size(self) -> int:
        """How many numbers one record has."""
        return prod(self.shape[1:])

    def levels(self, real: Float[np.ndarray, "records ..."]) -> Levels:
        """Real numbers in the port's own format.

        Rounded as TFLite's own QUANTIZE kernel does: float32 division, halves away from zero, then clipped. Values
        outside the calibrated range end at its edges.
        """
        rows = np.asarray(real, dtype=np.float32)
        if self.numbers == "float32":
            return rows
        ratio = (rows / np.float32(self.scale)).astype(np.float64)
        rounded = np.copysign(np.floor(np.abs(ratio) + 0.5), ratio) + self.zero_point
        ends = np.iinfo(self.numbers)
        return np.asarray(np.clip(rounded, ends.min, ends.max).astype(self.numbers))

    def real(self, levels: Levels) -> Float[np.ndarray, "records ..."]:
        """The port's numbers as float32."""
        if self.numbers == "float32":
            return np.asarray(levels, dtype=np.float32)
        steps = levels.astype(np.float32) - np.float32(self.zero_point)  # exact: small whole numbers
        return np.asarray(steps * np.float32(self.scale))


@dataclass(frozen=True)
class Artifact:
    """A model with one input and one output, each int8, int16, uint8 or float32, of the same batch.

    `answers` says what the numbers of the output mean. Callers keep torch's layout throughout: `quantize_input` moves
    the channels.
    """

    model: bytes = field(repr=False)
    input: Port
    output: Port
    answers: Output

    @staticmethod
    def from_bytes(model: bytes, answers: Output | None = None) -> Artifact:
        """Read shapes and quantisation from a TFLite file's bytes.

        `answers` is what the caller expects of the model; without it, a model that ends in a softmax answers
        probabilities and any other one logits. Raises `ArtifactError` where the file says otherwise, or cannot be
        asked.
        """
        try:
            return _read(model, answers)
        except (struct.error, IndexError, TypeError, AttributeError, UnicodeDecodeError) as error:
            raise ArtifactError(f"the TFLite file is damaged: {error}") from error

    @staticmethod
    def load(path: Path, answers: Output | None = None) -> Artifact:
        """Read a `.tflite` file; raises `ArtifactError` naming it."""
        try:
            return Artifact.from_bytes(path.read_bytes(), answers)
        except ArtifactError as error:
            raise ArtifactError(f"{path}: {error}") from error

    @property
    def resolution(self) -> float:
        """The smallest step between two probabilities, 1/256 in int8; 0.0 for logits, whose step means nothing by
        itself.
        """
        return self.output.scale if self.answers == "probabilities" and self.output.numbers != "float32" else 0.0

    @property
    def batch(self) -> int:
        """How many records the file takes at once; 1 in most files."""
        return self.input.shape[0]

    @property
    def classes(self) -> int:
        """How many scores one record gets."""
        return self.output.size

    def quantize_input(self, x: Float[np.ndarray, "records ..."]) -> Levels:
        """Records in torch's layout, (C, H, W), (C, W) or (F,) each, as the numbers that every runtime is given."""
        return self.input.levels(self.channels_last(np.asarray(x, dtype=np.float32)))

    def dequantize(self, outputs: Levels) -> Float[np.ndarray, "records classes"]:
        """The runtime's answers as float32 logits or probabilities."""
        return self.output.real(outputs)

    def channels_last(self, x: Float[np.ndarray, "records ..."]) -> Float[np.ndarray, "records ..."]:
        """Records in torch's layout as the file takes them, still in floating point."""
        rows = np.moveaxis(x, 1, -1) if x.ndim > 2 else x
        wanted = self.input.shape[1:]
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


def _read(model: bytes, wanted: Output | None) -> Artifact:
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
    if wanted is not None and wanted != answers:
        raise ArtifactError(f"the model answers with {answers}, not {wanted}: export it anew, or say so")
    source, result = _port(schema, graph, graph.Inputs(0)), _port(schema, graph, graph.Outputs(0))
    if source.shape[0] != result.shape[0]:
        raise ArtifactError(
            f"the model takes shape {source.shape} and gives shape {result.shape}: the first axis is not a batch of "
            "records, with one answer each"
        )
    return Artifact(model, source, result, answers)


def _port(schema: Any, graph: Any, index: int) -> Port:  # noqa: ANN401 - generated code, untyped
    tensor = graph.Tensors(index)
    name, quantization = (tensor.Name() or b"").decode(), tensor.Quantization()
    shape = tuple(int(tensor.Shape(axis)) for axis in range(tensor.ShapeLength()))
    if not shape or shape[0] < 1:
        raise ArtifactError(f"tensor '{name}' has shape {shape}; its first axis must be a batch of 1 or more records")
    kinds = {getattr(schema.TensorType, kind.upper()): kind for kind in NUMBERS}
    numbers = kinds.get(tensor.Type())
    if numbers is None:
        raise ArtifactError(
            f"tensor '{name}' is not {', '.join(NUMBERS[:-1])} or {NUMBERS[-1]}: convert the model anew"
        )
    if numbers == "float32":
        return Port(shape, numbers)
    if quantization is None or quantization.ScaleLength() != 1 or not 0 < quantization.Scale(0) < float("inf"):
        raise ArtifactError(f"tensor '{name}' does not have one usable scale")
    zero_point = int(quantization.ZeroPoint(0)) if quantization.ZeroPointLength() else 0
    return Port(shape, numbers, float(quantization.Scale(0)), zero_point)


def _answers(schema: Any, root: Any, graph: Any) -> Output:  # noqa: ANN401 - generated code, untyped
    """Probabilities if a softmax makes the output, else logits."""
    for position in range(graph.OperatorsLength()):
        operator = graph.Operators(position)
        if graph.Outputs(0) in (operator.Outputs(i) for i in range(operator.OutputsLength())):
            code = root.OperatorCodes(operator.OpcodeIndex())
            kind = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
            return "probabilities" if kind == schema.BuiltinOperator.SOFTMAX else "logits"
    return "logits"
