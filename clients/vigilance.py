"""What a client can check about a broadcast before it trains on it, from what it holds and from what came before.

Pure functions: no client app refuses anything because of them. They say what a server that deviates would give away.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import nn

from clients.training import logits
from clients.weights import load_vector

Vector = Float[np.ndarray, " params"]


@dataclass(frozen=True, slots=True)
class Look:
    """What a client notes about one broadcast."""

    weights: Vector
    loss: float  # mean, on the records it trains on
    held_back_loss: float  # mean, on records that it never trained on
    dead: float  # share of the hidden units (channels) that none of its records makes pass a ReLU


def look(
    model: nn.Module,
    weights: Vector,
    own: tuple[Float[np.ndarray, "records ..."], Int[np.ndarray, " records"]],
    held_back: tuple[Float[np.ndarray, "others ..."], Int[np.ndarray, " others"]],
) -> Look:
    """Note what can be seen of `weights`, which are put into `model`. Records that are held back may be none."""
    model = load_vector(model, weights)
    return Look(weights, _loss(model, *own), _loss(model, *held_back), dead_units(model, own[0]))


def digest(weights: Vector) -> str:
    """SHA-256 of the weights as float32 bytes, in hexadecimal: what clients can compare with each other."""
    return hashlib.sha256(np.ascontiguousarray(weights, dtype=np.float32).tobytes()).hexdigest()


def digests_differ(weights: Sequence[Vector]) -> bool:
    """Whether clients that compare what they were sent in one round find that it was not the same."""
    return len({digest(each) for each in weights}) > 1


@torch.no_grad()
def dead_units(model: nn.Module, x: Float[np.ndarray, "records ..."]) -> float:
    """Share of the units (channels of a convolution) that go through a ReLU and that no record of `x` gets through."""
    alive: dict[str, torch.Tensor] = {}

    def note(name: str) -> Callable[[nn.Module, tuple[torch.Tensor, ...], torch.Tensor], None]:
        def hook(_: nn.Module, __: tuple[torch.Tensor, ...], passed: torch.Tensor) -> None:
            fired = (passed > 0).transpose(0, 1).flatten(start_dim=1).any(dim=1)
            alive[name] = alive[name] | fired if name in alive else fired

        return hook

    layers = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.ReLU)]
    hooks = [layer.register_forward_hook(note(name)) for name, layer in layers]
    try:
        logits(model, x)
    finally:
        for hook in hooks:
            hook.remove()
    units = torch.cat(list(alive.values())) if alive else torch.ones(1)
    return float(1 - units.float().mean())


def _loss(model: nn.Module, x: Float[np.ndarray, "records ..."], y: Int[np.ndarray, " records"]) -> float:
    if not len(y):
        return 0.0
    return float(nn.functional.cross_entropy(torch.from_numpy(logits(model, x)), torch.from_numpy(y)))


Measure = Callable[[Look, Look], float]  # the broadcast before, and this one

# What a client can measure about a broadcast, by name: larger is odder.
MEASURES: dict[str, Measure] = {
    "rise of the loss": lambda before, now: now.loss - before.loss,
    "change of the weights": lambda before, now: float(
        np.linalg.norm(now.weights - before.weights) / max(float(np.linalg.norm(before.weights)), 1e-12)
    ),
    "dead units": lambda _, now: now.dead,
    "held-back records": lambda _, now: now.loss - now.held_back_loss,
}


def alarms(measure: Measure, broadcasts: Sequence[Look], odd: Look) -> bool:
    """Whether `odd`, after `broadcasts` in their order, measures more than any of them did after the one before it."""
    honest = history(measure, broadcasts)
    return bool(len(honest)) and measure(broadcasts[-1], odd) > max(honest)


def false_alarms(measure: Measure, broadcasts: Sequence[Look]) -> float:
    """Share of honest broadcasts that would raise the alarm if the threshold came from all the others."""
    honest = history(measure, broadcasts)
    if len(honest) < 2:
        return 0.0
    odd = [value > max(honest[:i] + honest[i + 1 :]) for i, value in enumerate(honest)]
    return sum(odd) / len(odd)


def history(measure: Measure, broadcasts: Sequence[Look]) -> list[float]:
    """What every broadcast but the first measured when it came."""
    return [measure(before, now) for before, now in pairwise(broadcasts)]
