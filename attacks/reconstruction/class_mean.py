"""Model inversion: what a model takes for a typical record of a class, beside what the attacker's own people show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import nn
from torch.func import functional_call

from attacks.broadcast import parameters, resting
from attacks.observation import Records

Record = Float[np.ndarray, "..."]


@dataclass(frozen=True, slots=True)
class ClassInversion:
    """A record that the model is sure belongs to `label`, and the honest baseline: the population's mean of that class.

    It shows a class and no person: only what it adds to `class_mean` was learnt from the model.
    """

    label: int
    record: Record
    probability: float  # that the model gives the label to the record
    class_mean: Record


def invert(
    architecture: nn.Module,
    weights: Float[np.ndarray, " params"],
    label: int,
    population: Records,
    *,
    iterations: int = 500,
    step: float = 0.1,
    decay: float = 1e-2,
) -> ClassInversion:
    """Fredrikson et al. 2015 (CCS, algorithm 1): gradient descent on 1 - p_label, from the mean of the population.

    `decay` pulls towards that mean (squared distance), without which the record runs off to where the model was never
    trained; values stay within the population's range. Vantage: whoever has the weights (server, or the owner of a
    device). Unit: class, not record. Raises ValueError where the population has no record of the class.
    """
    own = population.x[population.y == label]
    if not len(own):
        raise ValueError(f"the attacker has no record of class {label}: there is no class mean to compare with")
    model, mean = resting(architecture), torch.tensor(population.x.mean(axis=0, keepdims=True), dtype=torch.float32)
    at, low, high = parameters(model, weights), float(population.x.min()), float(population.x.max())
    x = mean.clone().requires_grad_()
    optimizer = torch.optim.SGD([x], lr=step * (high - low))
    for _ in range(iterations):
        probability = functional_call(model, at, (x,)).softmax(dim=1)[0, label]
        (x.grad,) = torch.autograd.grad(1 - probability + decay * (x - mean).square().sum(), [x])
        optimizer.step()
        with torch.no_grad():
            x.clamp_(low, high)
    with torch.no_grad():
        sure = float(functional_call(model, at, (x,)).softmax(dim=1)[0, label])
    return ClassInversion(label, x.detach().numpy()[0], sure, own.mean(axis=0))
