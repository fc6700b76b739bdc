"""The attempts on one update: what the attacker makes of it with the recipe and records of its own."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from torch import nn

from attacks.broadcast import Parameters, answers, parameters, resting
from attacks.observation import Records, VantageLacksError
from attacks.reconstruction import inversion, labels, linear

Vector = Float[np.ndarray, " params"]
Found = Float[np.ndarray, "found ..."]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenUpdate:
    """One update, or the mean of several, and what the attacker knows of how it came about.

    `gradient` is the attacker's estimate of the gradient of the mean loss over the `records` behind it, exact for one
    step of plain SGD; of these records at most `sought` are looked for. Vectors in `named_parameters` order.
    """

    architecture: nn.Module
    weights: Vector
    gradient: Vector
    population: Records
    records: int
    sought: int
    classes: int

    @property
    def bounds(self) -> tuple[float, float]:
        """The range of a value, as far as the attacker's own records show it."""
        return float(self.population.x.min()), float(self.population.x.max())

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one record."""
        return self.population.x.shape[1:]


def linear_recovery(seen: SeenUpdate, rng: np.random.Generator) -> Found:  # noqa: ARG001  # as every attempt is called
    """The first layer's inputs, one record exactly and several as far as units tell them apart: `linear.singled_out`.

    Raises VantageLacksError where the first layer is no linear one: what comes back of others is no record.
    """
    name, layer = _layers(seen.architecture)[0]
    if not isinstance(layer, nn.Linear) or layer.in_features != math.prod(seen.shape):
        need = "first layer that is linear"
        message = f"attack 'linear-recovery' needs a {need}, this model's is a {type(layer).__name__}"
        raise VantageLacksError(message, need)
    weight, bias = _of_layer(seen, name)
    try:
        found = linear.singled_out(weight, bias, seen.sought, seen.bounds)
    except ValueError:  # no unit moved
        return np.empty((0, *seen.shape))
    return found.reshape(-1, *seen.shape)


def dlg(seen: SeenUpdate, rng: np.random.Generator) -> Found:
    """Records and labels whose gradient is the one seen: `inversion.dlg`. What it finds is cut to the bounds."""
    found = inversion.dlg(_as_gradient(seen), seen.sought, seen.classes, rng, restarts=2)
    return np.asarray(np.nan_to_num(found.records.x).clip(*seen.bounds))


def gradient_inversion(seen: SeenUpdate, rng: np.random.Generator) -> Found:
    """Records whose gradient points where the one seen does, smooth if images: `inversion.cosine_inversion`.

    Their labels are the likeliest of those that the last bias tells.
    """
    counts = recovered_labels(seen)
    chosen = np.repeat(np.arange(seen.classes), counts)
    chosen = chosen[np.linspace(0, len(chosen) - 1, seen.sought).round().astype(int)]
    return inversion.cosine_inversion(_as_gradient(seen), chosen, rng, iterations=500, bounds=seen.bounds).records.x


def recovered_labels(seen: SeenUpdate) -> Int[np.ndarray, " classes"]:
    """How many of the records have each label, out of the last layer's bias: `labels`."""
    name, _ = _layers(seen.architecture)[-1]
    _, bias = _of_layer(seen, name)
    if seen.records == 1 and (bias < 0).sum() == 1:
        return np.bincount([labels.one_label(bias)], minlength=seen.classes)
    try:
        return labels.label_counts(bias, seen.records, _mean_probability(seen))
    except ValueError:  # the bias tells nothing
        return guessed_labels(seen)


def guessed_labels(seen: SeenUpdate) -> Int[np.ndarray, " classes"]:
    """The same without the update: as often as in the attacker's own population."""
    shares = np.bincount(seen.population.y, minlength=seen.classes) / len(seen.population)
    return labels.label_counts(np.zeros(seen.classes), seen.records, shares)


ATTEMPTS: dict[str, Callable[[SeenUpdate, np.random.Generator], Found]] = {
    "linear-recovery": linear_recovery,
    "dlg": dlg,
    "gradient-inversion": gradient_inversion,
}


def _as_gradient(seen: SeenUpdate) -> inversion.Seen:
    return inversion.Seen(seen.architecture, seen.weights, seen.gradient, seen.shape)


def _layers(architecture: nn.Module) -> list[tuple[str, nn.Module]]:
    """The layers that have weights of their own, in the order in which they are defined."""
    return [(name, part) for name, part in architecture.named_modules() if list(part.parameters(recurse=False))]


def _of_layer(seen: SeenUpdate, name: str) -> tuple[Float[np.ndarray, "units inputs"], Float[np.ndarray, " units"]]:
    parts = parameters(seen.architecture, seen.gradient)
    return parts[f"{name}.weight"].numpy(), parts[f"{name}.bias"].numpy()


def _mean_probability(seen: SeenUpdate) -> Float[np.ndarray, " classes"]:
    """What the broadcast model gives each class, on average over the attacker's own records."""
    model = resting(seen.architecture)
    weights: Parameters = parameters(model, seen.weights)
    logits = answers(model, weights, seen.population.x).astype(np.float64)
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray((odds / odds.sum(axis=1, keepdims=True)).mean(axis=0))
