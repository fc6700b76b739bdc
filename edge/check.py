"""How far the shipped model is from its float parent, and how far LiteRT is from the device."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from edge.artifact import Artifact, Levels
from edge.runtimes import CannotRunError, run

Scores = Float[np.ndarray, "records classes"]


@dataclass(frozen=True)
class Agreement:
    """What was found on `rows_compared` records.

    `top1_agreement` is the share of records with the same first label (of tied classes, the first). The largest and the
    mean absolute error are in logits, or in probabilities where the artefact answers with those. The two LiteRT counts
    are rows where LiteRT's outputs, or its label, differ from TFLite Micro's on the same input bytes; None where LiteRT
    refuses the model.
    """

    top1_agreement: float
    max_logit_error: float
    mean_logit_error: float
    rows_compared: int
    litert_rows_differing: int | None
    litert_labels_differing: int | None
    device_scores: Scores = field(repr=False, compare=False)  # TFLite Micro's answers, float32


def compare(artifact: Artifact, x: Float[np.ndarray, "records ..."], float_logits: Scores) -> Agreement:
    """Run `x` (torch's layout) through TFLite Micro and LiteRT and compare with the float model's logits.

    Raises `ValueError` for no records, or for logits of another shape than the artefact's answers.
    """
    if len(x) == 0 or float_logits.shape != (len(x), artifact.classes):
        raise ValueError(
            f"{len(x)} records and float logits of shape {float_logits.shape} "
            f"cannot be compared with an artefact of {artifact.classes} classes"
        )
    inputs = artifact.quantize_input(x)
    device, litert = run(artifact, inputs, "tflm"), _litert(artifact, inputs)
    scores = artifact.dequantize(device)
    parent = _softmax(float_logits) if artifact.answers == "probabilities" else float_logits
    return Agreement(
        top1_agreement=float(np.mean(scores.argmax(1) == parent.argmax(1))),
        max_logit_error=float(np.abs(scores - parent).max()),
        mean_logit_error=float(np.abs(scores - parent).mean()),
        rows_compared=len(x),
        litert_rows_differing=None if litert is None else int((litert != device).any(axis=1).sum()),
        litert_labels_differing=None if litert is None else int((litert.argmax(1) != device.argmax(1)).sum()),
        device_scores=scores,
    )


def silent_words(layers: tuple[str, ...]) -> str:
    """What silent layers mean for a file, and what to do."""
    return (
        f"{', '.join(layers)} gave nothing but zeros on the calibration records, so the file computes with "
        "zeros in its place whatever the record. Calibrate with other records, on which it gives something"
    )


def _litert(artifact: Artifact, inputs: Levels) -> Levels | None:
    try:
        return run(artifact, inputs, "litert")
    except CannotRunError:
        return None


def _softmax(logits: Scores) -> Scores:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: Scores = powers / powers.sum(axis=1, keepdims=True)
    return probabilities
