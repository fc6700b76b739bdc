"""The ways in which a model can be quantised for the device, and which runtimes take each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from jaxtyping import Float

Samples = Sequence[Float[np.ndarray, "1 ..."]]
Converter = Any  # tf.lite.TFLiteConverter: TensorFlow ships no types
ALL: Final = ("tflm", "litert", "tflite-runtime")


@dataclass(frozen=True)
class Variant:
    """One way to quantise: `ask` tells TensorFlow's converter what is wanted, with the calibration records.

    `runtimes` are those that execute the result: names from `edge.runtimes.RUNTIMES`.
    """

    title: str
    runtimes: tuple[str, ...]
    ask: Callable[[Converter, Samples], None]


def _float32(converter: Converter, samples: Samples) -> None:
    """Nothing is quantised, and no records are needed."""


def _int8(converter: Converter, samples: Samples) -> None:
    import tensorflow as tf

    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([sample] for sample in samples)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8


VARIANTS: Final[dict[str, Variant]] = {
    "float32": Variant("float32 throughout: on the device it needs a floating-point unit", ALL, _float32),
    "int8": Variant("int8 throughout, weights with a scale per channel", ALL, _int8),
}
