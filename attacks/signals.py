"""What one answer of a model says about one record: loss, scaled confidence, entropy and their like.

All are computed in float64 from what the model really answered. Near a probability of one the interesting part
is 1 - p, which float32 rounds away; so it is summed from the other classes, never formed by subtraction.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy.special import logsumexp

from attacks.observation import NotFiniteError, Output

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


def top_confidence(answers: Answers, labels: Labels, output: Output = "logits", resolution: float = 0.0) -> Signal:
    """Scaled confidence in the class that the model favours: orders records as the largest probability does.

    A probability would round to 1 for very sure answers and tie them. Arguments and errors as for `loss`.
    """
    _check(answers, labels)
    return scaled_confidence(answers, answers.argmax(axis=1), output, resolution)


def entropy(answers: Answers, labels: Labels, output: Output = "logits", resolution: float = 0.0) -> Signal:
    """Entropy of the answer, -sum p log p, in nats. Arguments and errors as for `loss`; the label plays no part."""
    _check(answers, labels)
    p, _ = shares(answers, output)
    return np.asarray(-(p * np.log(np.maximum(p, _floor(answers, resolution)))).sum(axis=1))


def modified_entropy(answers: Answers, labels: Labels, output: Output = "logits", resolution: float = 0.0) -> Signal:
    """Modified entropy: -(1 - p_y) log p_y - sum over k != y of p_k log(1 - p_k), in nats.

    Song and Mittal 2021 (arXiv 2003.10595), equation 8: zero for a sure and right answer, large for a sure and wrong
    one. Logarithms are taken of at least half of `resolution`. Arguments and errors as for `loss`.
    """
    _check(answers, labels)
    p, rest = shares(answers, output)
    true = np.arange(p.shape[1]) == labels[:, None]
    weight, of = np.where(true, rest, p), np.where(true, p, rest)
    return np.asarray(-(weight * np.log(np.maximum(of, _floor(answers, resolution)))).sum(axis=1))


def correctness(answers: Answers, labels: Labels) -> Signal:
    """1 where the true label has the largest answer, 0 where not; 1/k where it shares the first place with k - 1.

    Equal answers are common in int8. Errors as for `loss`.
    """
    _check(answers, labels)
    first = answers == answers.max(axis=1, keepdims=True)
    return np.asarray(first[np.arange(len(labels)), labels] / np.maximum(first.sum(axis=1), 1))


def shares(
    answers: Answers, output: Output = "logits"
) -> tuple[Float[np.ndarray, "records classes"], Float[np.ndarray, "records classes"]]:
    """For each class its probability p_k and 1 - p_k, the sum of the others': as answered, or by softmax."""
    _check_finite(answers)
    values = answers.astype(np.float64)
    if output == "logits":
        values = np.exp(values - values.max(axis=1, keepdims=True))
    rest = values.sum(axis=1, keepdims=True) - values
    # Next to a large value the small ones are lost by subtraction: for the largest, they are added up.
    rows, top = np.arange(len(values)), values.argmax(axis=1)
    small = values.copy()
    small[rows, top] = 0.0
    rest[rows, top] = small.sum(axis=1)
    total = values.sum(axis=1, keepdims=True) if output == "logits" else 1.0
    return values / total, rest / total


def _true_and_others(answers: Answers, labels: Labels) -> tuple[Signal, Float[np.ndarray, "records others"]]:
    answers = answers.astype(np.float64)
    records, classes = answers.shape
    other = np.ones(answers.shape, dtype=bool)
    other[np.arange(records), labels] = False
    return answers[np.arange(records), labels], answers[other].reshape(records, classes - 1)


def _floor(answers: Answers, resolution: float) -> float:
    """Half a step; for floating point the smallest normal number of the type the model answered in."""
    return resolution / 2 or float(np.finfo(answers.dtype).tiny)


def _check_finite(answers: Answers) -> None:
    if bad := int((~np.isfinite(answers).all(axis=1)).sum()):
        raise NotFiniteError(
            f"a model answers {bad} of {len(answers)} records with what is no finite number: its weights, or the "
            "records, are too large"
        )


def _check(answers: Answers, labels: Labels) -> None:
    if answers.ndim != 2 or len(answers) != len(labels):
        raise ValueError(f"answers of shape {answers.shape} for {len(labels)} labels: one row per record, please")
    if answers.shape[1] < 2:
        raise ValueError("a model with one class has no confidence to measure: answers need two columns or more")
    if len(labels) and not 0 <= labels.min() <= labels.max() < answers.shape[1]:
        raise ValueError(
            f"labels run from {labels.min()} to {labels.max()}, the answers have {answers.shape[1]} classes"
        )
    _check_finite(answers)
