"""From a torch model to a TFLite file: torch.export, a channels-last tf.function, and TensorFlow's own converter."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import nn
from torch.export import ExportedProgram

from edge.artifact import Output
from edge.check import silent_words
from edge.export.biases import BiasError, with_own_biases
from edge.export.comparison import RECORDS, check_file, check_lowered, expected
from edge.export.graph import UnsupportedLayerError, Weights, channels_last, last_operation, single_input
from edge.export.layout import memory_shape
from edge.export.ranges import may_be_silent, with_ranges
from edge.export.silent import silent_layers
from edge.export.tracing import trace
from edge.export.variants import VARIANTS, Samples
from edge.quiet import quiet_stderr

__all__ = ["VARIANTS", "ExportWarning", "Output", "UnsupportedLayerError", "export", "silent", "trace"]


class ExportWarning(UserWarning):
    """The file is what was asked for, and is not what one may take it for; the message says why and what to do."""


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

    The same model and records give the same bytes. Every file is run in TFLite Micro beside torch before it is
    returned. Raises `UnsupportedLayerError` for a layer that has no faithful counterpart on the device, `ValueError`
    for calibration records that are no use or a variant that does not exist. Warns with `ExportWarning` of layers that
    gave nothing but zeros on the calibration records.
    """
    if variant not in VARIANTS:
        raise ValueError(f"variant '{variant}' does not exist; choose one of {', '.join(VARIANTS)}")
    _check(calibration)
    samples = np.asarray(calibration, dtype=np.float32)
    program = trace(model, samples) if traced is None else traced
    _check_shape(program, samples)
    weights = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    softmax = answers == "probabilities" and last_operation(program) != "softmax"
    with quiet_stderr():
        function = _function(program, weights, softmax=softmax)
        rows = [row.reshape(memory_shape(single_input(program)[1])) for row in _channels_last(samples)]
        chosen = np.linspace(0, len(rows) - 1, min(RECORDS, len(rows))).astype(int)
        wanted = expected(program, weights, samples[chosen], softmax=softmax)
        check_lowered(function, [rows[index] for index in chosen], wanted)
        try:
            file = _file(function, variant, rows)
        except BiasError as error:
            raise UnsupportedLayerError(
                _silent_refusal(variant, silent_layers(program, weights, samples), error)
            ) from error
        check_file(file, variant, samples[chosen], wanted)
    if may_be_silent(file) and (found := silent_layers(program, weights, samples)):
        warnings.warn(silent_words(found), ExportWarning, stacklevel=2)
    return file


def silent(
    model: nn.Module,
    calibration: Float[np.ndarray, "records ..."],
    file: bytes,
    traced: Callable[[], ExportedProgram] | None = None,
) -> tuple[str, ...]:
    """The layers of an exported `file` that gave nothing but zeros on its calibration records, by operation and place.

    Whatever the record, the file answers as if these layers gave zeros. `traced` gives the `trace` of a model of the
    same architecture; it is called only where the file looks like one with such a layer.
    """
    if not may_be_silent(file):
        return ()
    samples = np.asarray(calibration, dtype=np.float32)
    program = trace(model, samples) if traced is None else traced()
    return silent_layers(program, {name: each.detach().cpu() for name, each in model.state_dict().items()}, samples)


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


def _function(program: ExportedProgram, weights: Weights, *, softmax: bool) -> Any:  # noqa: ANN401
    """The lowered model as a function of TensorFlow's."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before the import: it is read once
    import tensorflow as tf

    from edge.export.ops import OPS

    logits = channels_last(program, weights, OPS)
    shape = memory_shape(single_input(program)[1])

    def forward(record: Any) -> Any:  # noqa: ANN401 - symbolic TensorFlow tensors
        return tf.nn.softmax(logits(record)) if softmax else logits(record)

    function = tf.function(forward, input_signature=[tf.TensorSpec(shape, tf.float32, name="input")], autograph=False)
    return function.get_concrete_function()


def _file(function: Any, variant: str, rows: Samples) -> bytes:  # noqa: ANN401 - TensorFlow ships no types
    file, finish = _converted(function, variant, rows), VARIANTS[variant].finish
    if variant == "int16x8" and may_be_silent(file):
        file = with_ranges(file, _converted(function, "float32", rows))
    file = file if variant == "float32" else with_own_biases(file)
    return file if finish is None else finish(file, _converted(function, "float32", rows))


def _converted(function: Any, variant: str, rows: Samples) -> bytes:  # noqa: ANN401 - TensorFlow ships no types
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], tf.Module())
    VARIANTS[variant].ask(converter, rows)
    try:
        return bytes(converter.convert())
    except Exception as error:  # the converter names the operator, such as HARD_SWISH in int16x8
        raise UnsupportedLayerError(f"as {variant} this model cannot be exported: {str(error).strip()}") from error


def _check_shape(program: ExportedProgram, samples: Float[np.ndarray, "records ..."]) -> None:
    traced = single_input(program)[1][1:]
    if samples.shape[1:] != traced:
        raise ValueError(f"calibration records have shape {samples.shape[1:]}; the model was traced with {traced}")


def _silent_refusal(variant: str, layers: tuple[str, ...], error: BiasError) -> str:
    why = (
        f"{', '.join(layers)} gave nothing but zeros on the calibration records"
        if layers
        else "a layer's range is too small, or too large"
    )
    return (
        f"as {variant} this model cannot be exported: {why} ({error}). Calibrate with other records, on which it gives "
        "something, or choose int8"
    )
