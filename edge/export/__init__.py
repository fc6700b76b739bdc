"""From a torch model to a TFLite file: torch.export, a channels-last tf.function, and TensorFlow's own converter."""

from __future__ import annotations

import copy
import os
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import nn
from torch.export import ExportedProgram

from edge.artifact import Output
from edge.export.graph import UnsupportedLayerError, channels_last, last_operation, single_input
from edge.export.layout import memory_shape
from edge.export.variants import VARIANTS, Samples
from edge.quiet import quiet_stderr

__all__ = ["VARIANTS", "Output", "UnsupportedLayerError", "export", "trace"]


def trace(model: nn.Module, example: Float[np.ndarray, "records ..."]) -> ExportedProgram:
    """The model's operations for one record of `example`'s shape, whatever its weights.

    Most of an export's time goes here; models of one architecture can share it.
    """
    quiet = copy.deepcopy(model).cpu().eval()
    record = torch.from_numpy(np.array(example[:1], dtype=np.float32))
    with torch.no_grad(), quiet_stderr():
        program: ExportedProgram = torch.export.export(quiet, (record,)).run_decompositions({})
    return program


def export(
    model: nn.Module,
    calibration: Float[np.ndarray, "records ..."],
    variant: str = "int8",
    answers: Output = "logits",
    traced: ExportedProgram | None = None,
) -> bytes:
    """The model as a TFLite file, quantised as `variant` (a name from `VARIANTS`) says.

    `calibration` are records in torch's layout, each (C, H, W), (C, W) or (F,): their smallest and largest
    activations set the quantisation ranges, so these records are part of what is released; for float32 they only
    give the shape. The file takes one record at a time, channels last. With `answers="probabilities"` it ends in a
    softmax, in int8 with scale 1/256 and zero point -128; the model itself returns logits of shape (records, classes)
    either way. A model that ends in a softmax of its own answers probabilities whatever is asked. `traced` is the
    `trace` of a model of the same architecture, made here if it is not given.

    A model may also return a map, as one that rebuilds its input does. The file's answer is then channels last, and
    `edge.runtimes.run` returns it flattened in that order, which is the order of `Artifact.channels_last(x)`.

    The same model and records give the same bytes. Raises `UnsupportedLayerError` for a layer that has no faithful
    counterpart on the device, `ValueError` for calibration records that are no use or a variant that does not exist.
    """
    if variant not in VARIANTS:
        raise ValueError(f"variant '{variant}' does not exist; choose one of {', '.join(VARIANTS)}")
    _check(calibration)
    samples = np.asarray(calibration, dtype=np.float32)
    program = trace(model, samples) if traced is None else traced
    with quiet_stderr():
        function, shape = _function(model, program, answers)
        rows = [row.reshape(shape) for row in _channels_last(samples)]
        finish = VARIANTS[variant].finish
        file = _converted(function, variant, rows)
        return file if finish is None else finish(file, _converted(function, "float32", rows))


def _check(calibration: Float[np.ndarray, "records ..."]) -> None:
    if calibration.ndim < 2 or calibration.ndim > 4 or len(calibration) == 0:
        raise ValueError(
            f"calibration records have shape {calibration.shape}; give (records, features), "
            "(records, channels, width) or (records, channels, height, width), at least one record"
        )
    if not np.isfinite(calibration).all():
        raise ValueError("calibration records hold NaN or infinite values; the int8 ranges would be meaningless")


def _channels_last(samples: Float[np.ndarray, "records ..."]) -> Float[np.ndarray, "records ..."]:
    return np.moveaxis(samples, 1, -1) if samples.ndim > 2 else samples


def _function(model: nn.Module, program: ExportedProgram, answers: Output) -> tuple[Any, tuple[int, ...]]:
    """The lowered model as a function of TensorFlow's, and the shape of its input."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before the import: it is read once
    import tensorflow as tf

    from edge.export.ops import OPS

    weights = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    logits = channels_last(program, weights, OPS)
    shape = memory_shape(single_input(program)[1])

    wants_softmax = answers == "probabilities" and last_operation(program) != "softmax"

    def forward(record: Any) -> Any:  # noqa: ANN401 - symbolic TensorFlow tensors
        return tf.nn.softmax(logits(record)) if wants_softmax else logits(record)

    function = tf.function(forward, input_signature=[tf.TensorSpec(shape, tf.float32, name="input")], autograph=False)
    return function.get_concrete_function(), shape


def _converted(function: Any, variant: str, rows: Samples) -> bytes:  # noqa: ANN401 - TensorFlow ships no types
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], tf.Module())
    VARIANTS[variant].ask(converter, rows)
    try:
        return bytes(converter.convert())
    except RuntimeError as error:  # the converter names the operator, such as HARD_SWISH in int16x8
        raise UnsupportedLayerError(f"as {variant} this model cannot be exported: {str(error).strip()}") from error
