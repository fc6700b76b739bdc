"""Training on the device: the last layer alone, in float32, on the frozen int8 features of the model in flash.

That is how microcontrollers personalise (TinyOL, Ren et al. 2021, arXiv 2103.08295): the quantised network stays as it
was flashed, and a copy of its last layer lies in RAM, where plain gradient descent changes it. What the device answers
is int8 again, in the scale of the flashed model's output. Nothing is exported anew, so nothing is calibrated anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from edge.artifact import Artifact, ArtifactError
from edge.config import HeadTraining
from edge.runtimes import run
from edge.tensors import constant_of, kinds_of, packed, unpacked

Features = Float[np.ndarray, "records features"]
_AFTER = ("SOFTMAX", "LOGISTIC")  # what may stand behind the last layer


@dataclass(frozen=True)
class Head:
    """A last layer in RAM: logits = features @ weight + bias, all float32."""

    weight: Float[np.ndarray, "features classes"]
    bias: Float[np.ndarray, " classes"]

    @property
    def ram_bytes(self) -> int:
        """What it takes on the device while it is trained: weights, bias, one record's features and gradient."""
        features, classes = (int(side) for side in self.weight.shape)
        return 4 * (features * classes + classes + features + classes)


@dataclass(frozen=True)
class Flashed:
    """A model in flash, split before its last layer: the frozen part, that layer as it was flashed, and the whole."""

    whole: Artifact
    frozen: Artifact
    head: Head

    def features(self, x: Float[np.ndarray, "records ..."], runtime: str = "tflm") -> Features:
        """What the frozen part makes of records in torch's layout: int8, as the real numbers they stand for."""
        return self.frozen.dequantize(run(self.frozen, self.frozen.quantize_input(x), runtime))

    def answers(self, head: Head, features: Features) -> Float[np.ndarray, "records classes"]:
        """What the device answers with this head, in the steps and between the ends of the flashed model's output."""
        logits = features @ head.weight + head.bias
        scores = _softmax(logits) if self.whole.answers == "probabilities" else logits
        return self.whole.output.real(self.whole.output.levels(scores))


def flashed(artifact: Artifact) -> Flashed:
    """Split an int8 model before its last layer. Raises `ArtifactError` where that is no fully connected one."""
    whole = unpacked(artifact.model)
    graph, kinds = whole.subgraphs[0], kinds_of(whole)
    last = len(kinds) - 1 - (kinds[-1] in _AFTER)
    if kinds[last] != "FULLY_CONNECTED" or last == 0:
        raise ArtifactError(
            f"the model ends in {', '.join(kinds[-2:])}: only a last FULLY_CONNECTED layer can be trained on the device"
        )
    layer = graph.operators[last]
    head = _head(whole, layer)
    graph.outputs, graph.operators, whole.signatureDefs = [int(layer.inputs[0])], graph.operators[:last], None
    return Flashed(artifact, Artifact.from_bytes(packed(whole)), head)


def train(
    head: Head, features: Features, labels: Int[np.ndarray, " records"], config: HeadTraining, rng: np.random.Generator
) -> Head:
    """Plain gradient descent on cross-entropy in float32, in batches drawn anew each epoch; the last may be smaller."""
    weight, bias = head.weight.copy(), head.bias.copy()
    wanted = np.eye(len(bias), dtype=np.float32)[labels]
    for _ in range(config.epochs):
        order = rng.permutation(len(features))
        for start in range(0, len(order), config.batch_size):
            rows = order[start : start + config.batch_size]
            weight, bias = step(weight, bias, features[rows], wanted[rows], config.learning_rate)
    return Head(weight, bias)


def step(
    weight: Float[np.ndarray, "features classes"],
    bias: Float[np.ndarray, " classes"],
    features: Features,
    wanted: Float[np.ndarray, "records classes"],
    learning_rate: float,
) -> tuple[Float[np.ndarray, "features classes"], Float[np.ndarray, " classes"]]:
    """One step on one batch: the gradient of mean cross-entropy over a softmax, written out as a device would."""
    error = (_softmax(features @ weight + bias) - wanted) / np.float32(len(features))
    rate = np.float32(learning_rate)
    return weight - rate * (features.T @ error), bias - rate * error.sum(axis=0)


def _softmax(logits: Float[np.ndarray, "records classes"]) -> Float[np.ndarray, "records classes"]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _head(whole: Any, layer: Any) -> Head:  # noqa: ANN401 - generated code, untyped
    tensors = [whole.subgraphs[0].tensors[int(index)] if index >= 0 else None for index in layer.inputs]
    weight = constant_of(whole, tensors[1])
    bias = constant_of(whole, tensors[2]) if len(tensors) > 2 and tensors[2] is not None else None
    if weight is None:
        raise ArtifactError("the last layer's weights are computed, not stored: it cannot be trained on the device")
    start = np.zeros(len(weight.values), dtype=np.float32) if bias is None else bias.real
    return Head(np.ascontiguousarray(weight.real.T), start)
