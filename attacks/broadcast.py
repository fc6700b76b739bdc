"""What a curious server can compute from the models it broadcasts: losses and gradients of single records."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from attacks.observation import Records

MAX_ROUNDS = 12
_GRADIENT_VALUES = 1 << 23  # gradient entries held at a time: 32 MiB in float32
_RECORDS = 4096

Parameters = dict[str, Tensor]
T = TypeVar("T")


def evenly_spaced(rounds: Sequence[T], most: int = MAX_ROUNDS) -> list[T]:
    """At most `most` of `rounds` (or of their positions), evenly spaced; the last is always one of them."""
    picked = np.linspace(len(rounds) - 1, 0, min(most, len(rounds))).round().astype(int)
    return [rounds[i] for i in picked[::-1]]


def resting(architecture: nn.Module) -> nn.Module:
    """A copy in evaluation mode: the attacker's arithmetic leaves the observation as it was."""
    return copy.deepcopy(architecture).eval()


def parameters(model: nn.Module, vector: Float[np.ndarray, " params"]) -> Parameters:
    """`vector` cut into the model's parameters, in `named_parameters` order. Raises ValueError on a wrong length."""
    named = dict(model.named_parameters())
    sizes = [p.numel() for p in named.values()]
    if len(vector) != sum(sizes):
        raise ValueError(f"weights of length {len(vector)} for a model with {sum(sizes)} parameters")
    dtype = next(iter(named.values())).dtype
    parts = torch.split(torch.tensor(vector, dtype=dtype), sizes)
    return {name: part.view_as(p) for (name, p), part in zip(named.items(), parts, strict=True)}


def answers(
    model: nn.Module, weights: Parameters, x: Float[np.ndarray, "records ..."]
) -> Float[np.ndarray, "records classes"]:
    """Logits of `model` with `weights`, one row per record."""
    dtype = next(iter(weights.values())).dtype
    with torch.no_grad():
        chunks = torch.split(torch.tensor(x, dtype=dtype), _RECORDS)
        return np.concatenate([functional_call(model, weights, (chunk,)).numpy() for chunk in chunks])


def gradients(model: nn.Module, weights: Parameters, records: Records) -> Iterator[Parameters]:
    """Gradient of the cross-entropy of each record by each parameter, of shape (records, *parameter).

    In chunks of records, in their order, to bound memory.
    """
    size = max(1, min(512, _GRADIENT_VALUES // sum(w.numel() for w in weights.values())))
    per_record = _per_record_gradient(model)
    dtype = next(iter(weights.values())).dtype
    x = torch.split(torch.tensor(records.x, dtype=dtype), size)
    y = torch.split(torch.tensor(records.y, dtype=torch.long), size)
    for some_x, some_y in zip(x, y, strict=True):
        yield per_record(weights, some_x, some_y)


def _per_record_gradient(model: nn.Module) -> Callable[[Parameters, Tensor, Tensor], Parameters]:
    def record_loss(weights: Parameters, x: Tensor, y: Tensor) -> Tensor:
        logits = functional_call(model, weights, (x.unsqueeze(0),))
        return nn.functional.cross_entropy(logits, y.unsqueeze(0))

    per_record: Callable[[Parameters, Tensor, Tensor], Parameters] = vmap(grad(record_loss), in_dims=(None, 0, 0))
    return per_record
