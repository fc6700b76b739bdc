"""A file beside the torch module that it was made from, on some of the calibration records."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float
from torch.export import ExportedProgram

from edge.artifact import Artifact, ArtifactError
from edge.export.graph import UnsupportedLayerError, Weights
from edge.export.silent import answers
from edge.runtimes import CannotRunError, predict

RECORDS: Final = 8
_EXACT: Final = 1e-3  # of the largest answer: float32 round-off of a deep network, with room
_FAITHFUL: Final = 0.25  # of the spread of torch's answers; int16x8 reaches .01 to .02 where weights lose most
_ROUNDING: Final = 0.02  # of the largest answer: what int8 weights cost a model that hardly tells records apart

Rows = Float[np.ndarray, "records ..."]
Answers = Float[np.ndarray, "records outputs"]


def expected(program: ExportedProgram, weights: Weights, samples: Rows, *, softmax: bool) -> Answers:
    """Torch's answers, a map channels last, with a softmax where the file has one that the module has not."""
    (result,) = program.graph.output_node().args[0]
    rows = [_flat(known[result]) for known in answers(program, weights, samples)]
    found: Answers = np.stack(rows)
    if softmax:
        powers = np.exp(found - found.max(axis=1, keepdims=True))
        found = powers / powers.sum(axis=1, keepdims=True)
    return found


def _flat(value: torch.Tensor) -> Float[np.ndarray, " outputs"]:
    array = value.numpy()
    return np.asarray(np.moveaxis(array, 1, -1) if array.ndim > 2 else array, dtype=np.float32).ravel()


def check_lowered(function: Any, rows: list[Rows], wanted: Answers) -> None:  # noqa: ANN401 - a TensorFlow function
    """That the graph handed to the converter computes what torch computes; raises `UnsupportedLayerError`."""
    found = np.stack([np.asarray(_only(function(row))).ravel() for row in rows])
    error, size = float(np.abs(found - wanted).max()), float(np.abs(wanted).max())
    if not error <= _EXACT * max(size, 1e-3):
        raise UnsupportedLayerError(
            f"the exported graph differs from the model by {error:.3g} where its answers reach {size:.3g}: "
            "one of its layers is not computed as torch does. Please report this model"
        )


def _only(result: Any) -> Any:  # noqa: ANN401 - a TensorFlow tensor, or several
    return next(iter(result.values())) if isinstance(result, dict) else result


def check_file(file: bytes, variant: str, samples: Rows, wanted: Answers) -> None:
    """That TFLite Micro runs the file and, in float32 and int16x8, that its answers are torch's.

    In int8 and int4 a deep model may be far from torch by rounding alone: there the error is a figure, given by
    `edge.check.compare`. Raises `UnsupportedLayerError`.
    """
    try:
        found = predict(Artifact.from_bytes(file), samples)
    except (ArtifactError, CannotRunError) as error:
        raise UnsupportedLayerError(f"as {variant} this model cannot be exported: {error}") from error
    spread = float(np.sqrt(np.mean((wanted - wanted.mean(axis=0)) ** 2)))
    off = float(np.sqrt(np.mean((found - wanted) ** 2)))
    slack = _ROUNDING * max(float(np.abs(wanted).max()), 1e-3)
    if variant in ("float32", "int16x8") and not off <= _FAITHFUL * spread + slack:
        raise UnsupportedLayerError(
            f"as {variant} this model cannot be exported: the file's answers are {off:.3g} from torch's (root mean "
            f"square on {len(samples)} calibration records, over which torch's vary by {spread:.3g})"
        )
