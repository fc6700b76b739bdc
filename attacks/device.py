"""Whoever holds the device has the model's weights: gradients and activations of single records, not only answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.func import functional_call

from attacks import signals
from attacks.alignment import align
from attacks.broadcast import Parameters, parameters, resting
from attacks.observation import Guess, Observation, Records, Reference, VantageLacksError
from attacks.references import left_out, mean_left_out

_LEAST = float(np.finfo(np.float32).tiny)  # what a gradient or activation of zero counts as, in logarithms

Vector = Float[np.ndarray, " params"]
Values = Float[np.ndarray, " records"]
Features = Float[np.ndarray, "records features"]


@dataclass(frozen=True, slots=True)
class Inside:
    """What a model shows of records besides its answers, one value per record."""

    gradient: Values  # log of the norm of the loss's gradient by all weights
    head: Values  # log of its norm by the last layer's: |p - e_y| |h|
    size: Values  # log |h|, h the activations that go into the last layer
    distance: Values  # log of the distance of h to the mean of the population's records of the same class


def gradient(observation: Observation, rng: np.random.Generator) -> Guess:  # noqa: ARG001 (nothing is random here)
    """Score: minus log |g_x| at the file's weights, g_x the gradient of the record's cross-entropy.

    Training leaves little of it to a member: the white-box baseline of Nasr et al. 2019 (arXiv 1812.00910). int8
    weights are dequantised: what the device computes has no gradient, and the dequantised network is close to it.
    Unit: record. Vantage: whoever holds the file.
    """
    assert observation.file is not None
    return _guess(observation, -_gradient(_model(observation), observation.file.weights, _both(observation)))


def gradient_calibrated(observation: Observation, rng: np.random.Generator) -> Guess:
    """Score: `gradient`, above its mean at those references that the record was left out of. Unit: record.

    Difficulty calibration as in Watson et al. 2022 (arXiv 2111.08440). Vantage: whoever holds the file and trained
    references with the recipe. NaN for a population record that every reference trained on.
    """
    both, model, references = _both(observation), _model(observation), _with_weights(observation)
    own = gradient(observation, rng)
    assert own.population_scores is not None
    each = np.stack([_gradient(model, r.weights, both) for r in references if r.weights is not None])
    mean, _ = mean_left_out(each, _left_out(observation, references))
    return _guess(observation, np.concatenate([own.scores, own.population_scores]) + mean)


def joined(observation: Observation, rng: np.random.Generator) -> Guess:  # noqa: ARG001 (nothing is random here)
    """Score: log-odds of a logistic regression over the answers' confidence and what the weights show (`Inside`).

    It is taught on the references as targets, whose members among the attacker's own records are known to it; each
    feature also less its mean over the other references that the record was left out of, where there are any. Per
    model, features are put in deviations of records that it was not trained on. After Nasr et al. 2019 (arXiv
    1812.00910), whose attack knows half of the target's members; this one knows none of them. Unit: record. Vantage:
    whoever holds the file. Raises VantageLacksError where a reference trained on all of the population, or none.
    """
    file, oracle, references = observation.file, observation.oracle, _with_weights(observation)
    assert file is not None and oracle is not None
    both, model, own = _both(observation), _model(observation), len(observation.candidates)
    trained_on = np.stack([reference.trained_on for reference in references])
    if (trained_on.all(axis=1) | ~trained_on.any(axis=1)).any():
        raise VantageLacksError("attack 'device-joined' needs references that trained on a part of the population")
    out = _left_out(observation, references)
    answers = [oracle(both.x), *(reference.predict(both.x) for reference in references)]
    weights = [file.weights, *(r.weights for r in references if r.weights is not None)]
    confidence = [signals.scaled_confidence(a, both.y, oracle.output, oracle.resolution) for a in answers]
    stacked = np.stack(
        [_features(model, w, both, own, phi) for w, phi in zip(weights, confidence, strict=True)]
    )  # models, records, features; the target first
    seen = np.stack([np.arange(len(both)) >= own, *out])
    stacked = np.stack([_standardised(each, rows) for each, rows in zip(stacked, seen, strict=True)])
    target, *taught = _calibrated(stacked, out)
    scores = _taught(np.concatenate([each[own:] for each in taught]), trained_on.ravel(), target)
    return _guess(observation, scores)


def look_inside(model: nn.Module, weights: Vector, records: Records, known: slice) -> Inside:
    """`Inside` of a model with these weights; classes' means are taken over the records `known`."""
    at = parameters(model, weights)
    answers, h = _into_head(model, at, records)
    p, _ = signals.shares(answers, "logits")
    residual = np.linalg.norm(p - np.eye(p.shape[1])[records.y], axis=1)
    size = np.linalg.norm(h, axis=1)
    away = np.linalg.norm(h - _class_means(h[known], records.y[known], p.shape[1])[records.y], axis=1)
    return Inside(_gradient(model, weights, records), _log(residual * size), _log(size), _log(away))


def _features(model: nn.Module, weights: Vector, both: Records, own: int, confidence: Values) -> Features:
    inside = look_inside(model, weights, both, slice(own, None))
    return np.column_stack([confidence, inside.gradient, inside.head, inside.size, inside.distance])


def _standardised(features: Features, rows: Bool[np.ndarray, " records"]) -> Features:
    """In deviations of the records in `rows`, which the model was not trained on: models differ in scale."""
    spread = features[rows].std(axis=0)
    return np.asarray((features - features[rows].mean(axis=0)) / np.where(spread > 0, spread, 1.0))


def _calibrated(
    stacked: Float[np.ndarray, "models records features"], out: Bool[np.ndarray, "references records"]
) -> list[Features]:
    """Each model's features, beside the same less their mean over the other references that left the record out.

    Only the features themselves if some record was left out of none of them.
    """
    others = [out, *(_without(out, number) for number in range(len(out)))]
    if any((mask.sum(axis=0) == 0).any() for mask in others):
        return list(stacked)
    means = [np.einsum("rn,rnf->nf", mask, stacked[1:]) / mask.sum(axis=0)[:, None] for mask in others]
    return [np.concatenate([each, each - mean], axis=1) for each, mean in zip(stacked, means, strict=True)]


def _without(out: Bool[np.ndarray, "references records"], number: int) -> Bool[np.ndarray, "references records"]:
    rest = out.copy()
    rest[number] = False
    return rest


def _taught(taught: Features, member: Bool[np.ndarray, " taught"], asked: Features) -> Values:
    # Imported here: scikit-learn takes a second, and few attacks need it.
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=0.1, max_iter=1_000).fit(taught, member)
    return np.asarray(model.decision_function(asked), dtype=np.float64)


def _gradient(model: nn.Module, weights: Vector, records: Records) -> Values:
    return _log(align(model, weights, [weights], records).length)


def _into_head(
    model: nn.Module, at: Parameters, records: Records
) -> tuple[Float[np.ndarray, "records classes"], Float[np.ndarray, "records features"]]:
    """Logits, and the activations that go into the last linear layer, in float64."""
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise VantageLacksError("attack 'device-joined' needs a model that ends in a linear layer")
    kept: list[Tensor] = []
    handle = linear[-1].register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0]))
    with torch.no_grad():
        answers = functional_call(model, at, (torch.from_numpy(records.x),))
    handle.remove()
    return answers.double().numpy(), kept[0].flatten(start_dim=1).double().numpy()


def _class_means(
    h: Float[np.ndarray, "known features"], y: Int[np.ndarray, " known"], classes: int
) -> Float[np.ndarray, "classes features"]:
    """The mean of all for a class that has no record."""
    means = [h[y == label].mean(axis=0) if (y == label).any() else h.mean(axis=0) for label in range(classes)]
    return np.stack(means)


def _log(values: Values) -> Values:
    return np.asarray(np.log(np.maximum(values, _LEAST)))


def _model(observation: Observation) -> nn.Module:
    assert observation.architecture is not None
    return resting(observation.architecture)


def _both(observation: Observation) -> Records:
    return observation.candidates.joined(observation.population)


def _with_weights(observation: Observation) -> list[Reference]:
    found = [reference for reference in observation.references if reference.weights is not None]
    if not found:
        raise VantageLacksError("a calibrated white-box attack needs weights of reference models", "their weights")
    return found


def _left_out(observation: Observation, references: list[Reference]) -> Bool[np.ndarray, "references records"]:
    rows = left_out(observation)
    kept = [reference.weights is not None for reference in observation.references]
    assert sum(kept) == len(references)
    return rows[kept]


def _guess(observation: Observation, scores: Values) -> Guess:
    candidates = len(observation.candidates)
    return Guess(scores[:candidates], scores[candidates:])
