"""One bias per use, in the steps of that use: input scale times weight scale.

TensorFlow's converter keeps one tensor for constants that are equal, as where a layer is used twice or two layers have
the same bias. Its int16x8 quantiser then gives that bias the scale of the first use, and TFLite Micro reads it with the
scale of each (`tensorflow/lite/kernels/kernel_util.cc`, GetQuantizedConvolutionMultipler).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from jaxtyping import Float, Int

from edge.tensors import constant_of, kinds_of, packed, quantised, type_names, unpacked, with_values, without_orphans

PLACES: Final = {  # of input, weights and bias among an operator's inputs
    "CONV_2D": (0, 1, 2),
    "DEPTHWISE_CONV_2D": (0, 1, 2),
    "FULLY_CONNECTED": (0, 1, 2),
    "TRANSPOSE_CONV": (2, 1, 3),
}
_OFF: Final = 1e-5  # relative: scales are products in float32
_SMALLEST: Final = 1e-30  # a scale below has no use: float32 products with it vanish
# The sum of products and bias stays in its accumulator: 32 bits in int8; in int16x8 the 48 bits that TFLite Micro
# rescales (common.h, MultiplyByQuantizedMultiplier: -(1 << 47) <= x < (1 << 47)). One bit is left for the products; the
# converter widens int8 weights until a bias is within its own 2^30, to the rounding of a float32.
_LARGEST: Final = {"INT8": 1.01 * 2**30, "INT16": 1.01 * 2**46}


class BiasError(ValueError):
    """A tensor of the file has no usable scale, or a bias does not fit the steps that its input and weights have."""


@dataclass(frozen=True)
class Use:
    """A bias as one operator uses it: which operator and which of its inputs, and the steps that it is read in."""

    operator: int
    place: int
    tensor: int
    steps: Float[np.ndarray, " scales"]
    activations: str  # INT8 or INT16


def with_own_biases(model: bytes) -> bytes:
    """The same quantised file with a bias tensor of its own, in its own steps, for each operator that has a bias.

    Raises `BiasError` for scales that are not finite or next to zero and for a bias that overflows its accumulator:
    where a layer gave next to nothing on the calibration records.
    """
    whole = unpacked(model)
    tensors, taken = whole.subgraphs[0].tensors, set[int]()
    changed = _with_scales(whole)
    _check_scales(tensors)
    for use in list(bias_uses(whole)):
        constant = constant_of(whole, tensors[use.tensor])
        assert constant is not None  # `bias_uses` gives constants only
        levels = np.rint(constant.real.astype(np.float64) / use.steps)
        if np.abs(levels).max(initial=0) > _LARGEST[use.activations]:
            raise BiasError(f"bias '{constant.name}' needs {np.abs(levels).max():.2g} steps of its layer")
        if use.tensor in taken or not np.allclose(constant.scale, use.steps, rtol=_OFF, atol=0):
            give_bias(whole, use.operator, use.place, use.steps, levels.astype(constant.values.dtype))
            changed = True
        taken.add(use.tensor)
    return packed(without_orphans(whole)) if changed else model


def bias_uses(whole: Any) -> Iterator[Use]:  # noqa: ANN401 - generated code, untyped
    """Every fixed bias of an unpacked file's main graph, operator by operator."""
    graph = whole.subgraphs[0]
    for number, (kind, operator) in enumerate(zip(kinds_of(whole), graph.operators, strict=True)):
        source, weights, place = PLACES.get(kind, (0, 0, len(operator.inputs)))
        if place >= len(operator.inputs) or operator.inputs[place] < 0:
            continue
        given, kernel, bias = (graph.tensors[operator.inputs[at]] for at in (source, weights, place))
        if quantised(given) and quantised(kernel) and constant_of(whole, bias) is not None:
            scales = np.asarray(kernel.quantization.scale, dtype=np.float64)
            steps = float(given.quantization.scale[0]) * scales
            yield Use(number, place, int(operator.inputs[place]), steps, type_names()[given.type])


def _with_scales(whole: Any) -> bool:  # noqa: ANN401 - generated code, untyped
    """Give zeros that have no scale, as in `x + 0`, a scale of 1; returns whether there were any."""
    found = False
    for tensor in filter(quantised, whole.subgraphs[0].tensors):
        scale = np.asarray(tensor.quantization.scale, dtype=np.float32)
        constant = constant_of(whole, tensor) if not scale.all() else None
        if constant is not None and not constant.values.any():
            tensor.quantization.scale = np.where(scale == 0, np.float32(1), scale).tolist()
            found = True
    return found


def _check_scales(tensors: Any) -> None:  # noqa: ANN401 - generated code, untyped
    for tensor in filter(quantised, tensors):
        scale = np.asarray(tensor.quantization.scale, dtype=np.float64)
        if not (np.isfinite(scale) & (scale > _SMALLEST)).all():
            raise BiasError(f"tensor '{tensor.name.decode()}' has the scale {float(scale.min()):.3g}")


def give_bias(
    whole: Any,  # noqa: ANN401 - generated code, untyped
    operator: int,
    place: int,
    steps: Float[np.ndarray, " scales"],
    levels: Int[np.ndarray, " outputs"],
) -> None:
    """Give one operator of an unpacked file, which has a bias, one in a tensor of its own."""
    from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

    graph = whole.subgraphs[0]
    inputs = np.array(graph.operators[operator].inputs, dtype=np.int32)
    bias, old = schema.TensorT(), graph.tensors[inputs[place]]
    bias.name, bias.shape, bias.type = old.name + b"/%d" % operator, old.shape, old.type
    bias.quantization = schema.QuantizationParametersT()
    bias.quantization.scale = steps.astype(np.float32).tolist()
    bias.quantization.zeroPoint = [0] * len(steps)
    with_values(whole, bias, levels)
    graph.tensors.append(bias)
    inputs[place] = len(graph.tensors) - 1
    graph.operators[operator].inputs = inputs
