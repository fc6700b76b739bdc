"""What one answer of a model says about one record: probability of the true label, loss, scaled confidence.

All three are computed in float64 from what the model really answered. Near a probability of one the interesting part
is 1 - p, which float32 rounds away; so it is summed from the other classes, never formed by subtraction.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy.special import logsumexp

from attacks.observation import Output

Answers = Float[np.ndarray, "records classes"]
Labels = Int[np.ndarray, " records"]
Signal = Float[np.ndarray, " records"]


def loss(answers: Answers, labels: Labels, output: Output = "logits", resolution: float = 0.0) -> Signal:
    """Cross-entropy of the true label, -log p_y, in nats.

    `answers` are logits or probabilities, one row per record; probabilities are clipped at half of `resolution`, the
    smallest step an answer can take. Raises ValueError where the answers do not fit the labels.
    """
    _check(answers, labels)
    if output == "logits":
        # log(1 + exp(-phi)) keeps the order of very sure answers; logsumexp(z) - z_y rounds them all to zero.
        return np.asarray(np.logaddexp(0.0, -scaled_confidence(answers, labels)))
    true, _ = _true_and_others(answers, labels)
    return np.asarray(-np.log(np.maximum(true, _floor(answers, resolution))))


def true_label_probability(
    answers: Answers, labels: Labels, output: Output = "logits", resolution: float = 0.0
) -> Signal:
    """The probability p_y that the model gives to the true label. Arguments and errors as for `loss`."""
    return np.asarray(np.exp(-loss(answers, labels, output, resolution)))


def scaled_confidence(answers: Answers, labels: Labels, output: Output = "logits", resolution: float = 0.0) -> Signal:
    """Scaled confidence: phi = log(p_y / (1 - p_y)) = z_y - logsumexp of the other logits.

    Carlini et al. 2022 (arXiv 2112.03570), section IV-C.

    For probabilities, p_y and the sum of the others are each clipped at half of `resolution`. Arguments and errors as
    for `loss`.
    """
    _check(answers, labels)
    true, others = _true_and_others(answers, labels)
    if output == "logits":
        return np.asarray(true - logsumexp(others, axis=1))
    floor = _floor(answers, resolution)
    return np.asarray(np.log(np.maximum(true, floor)) - np.log(np.maximum(others.sum(axis=1), floor)))


def _true_and_others(answers: Answers, labels: Labels) -> tuple[Signal, Float[np.ndarray, "records others"]]:
    answers = answers.astype(np.float64)
    records, classes = answers.shape
    other = np.ones(answers.shape, dtype=bool)
    other[np.arange(records), labels] = False
    return answers[np.arange(records), labels], answers[other].reshape(records, classes - 1)


def _floor(answers: Answers, resolution: float) -> float:
    """Half a step; for floating point the smallest normal number of the type the model answered in."""
    return resolution / 2 or float(np.finfo(answers.dtype).tiny)


def _check(answers: Answers, labels: Labels) -> None:
    if answers.ndim != 2 or len(answers) != len(labels):
        raise ValueError(f"answers of shape {answers.shape} for {len(labels)} labels: one row per record, please")
    if answers.shape[1] < 2:
        raise ValueError("a model with one class has no confidence to measure: answers need two columns or more")
    if len(labels) and not 0 <= labels.min() <= labels.max() < answers.shape[1]:
        raise ValueError(
            f"labels run from {labels.min()} to {labels.max()}, the answers have {answers.shape[1]} classes"
        )
