"""Where in a model a malicious server can take hold: its layers as they follow each other, and their features."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import nn
from torch.func import functional_call

from attacks.broadcast import Parameters, parameters
from attacks.observation import Records, VantageLacksError

_PASSING = (nn.Dropout, nn.Identity)  # what changes nothing in a model that rests
_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.GroupNorm, nn.LayerNorm)  # with a bias for every unit


@dataclass(frozen=True, slots=True)
class Detecting:
    """A linear layer, a ReLU on its units, and the linear layer that they go to: by name."""

    first: str
    second: str


def detecting(model: nn.Module) -> Detecting | None:
    """The first linear layer that feeds a ReLU and nothing but another linear layer after it, if there is one."""
    leaves = _leaves(model)
    for (name, layer), (_, middle), (after, last) in zip(leaves, leaves[1:], leaves[2:], strict=False):
        if isinstance(layer, nn.Linear) and isinstance(middle, nn.ReLU) and isinstance(last, nn.Linear):
            return Detecting(name, after)
    return None


def detecting_or_refuse(attack: str, model: nn.Module) -> Detecting:
    """As `detecting`.

    Raises:
        VantageLacksError: there is none, and what there is instead.
    """
    found = detecting(model)
    if found is None:
        kinds = " - ".join(type(layer).__name__ for _, layer in _leaves(model))
        raise VantageLacksError(
            f"attack '{attack}' needs a Linear layer whose units go through a ReLU into another Linear layer, this "
            f'model has none: {kinds}. Leave \'{attack}\' out, or use model.name = "mlp" with norm = "none"'
        )
    return found


def last_hidden(model: nn.Module) -> str | None:
    """The layer, with weights and a bias, whose units go through the last ReLU; None if there is no such layer."""
    leaves = _leaves(model)
    fed = [
        name
        for (name, layer), (_, after) in pairwise(leaves)
        if isinstance(after, nn.ReLU) and isinstance(layer, _LAYERS) and isinstance(layer.bias, nn.Parameter)
    ]
    return fed[-1] if fed else None


def after(model: nn.Module, layer: str) -> list[str]:
    """The names of the layers behind `layer` that have weights."""
    names = [name for name, _ in _leaves(model)]
    behind = _leaves(model)[names.index(layer) + 1 :]
    return [name for name, module in behind if next(module.parameters(recurse=False), None) is not None]


def inputs(
    model: nn.Module, weights: Float[np.ndarray, " params"], layer: str, records: Records
) -> Float[np.ndarray, "records features"]:
    """What reaches `layer` for each record, float64."""
    caught: list[torch.Tensor] = []
    hook = model.get_submodule(layer).register_forward_pre_hook(lambda _, given: caught.append(given[0].detach()))
    try:
        with torch.no_grad():
            for chunk in torch.split(torch.tensor(records.x), 1024):
                functional_call(model, parameters(model, weights), (chunk,))
    finally:
        hook.remove()
    return torch.cat(caught).flatten(start_dim=1).double().numpy()


def to_vector(weights: Parameters) -> Float[np.ndarray, " params"]:
    """`attacks.broadcast.parameters` undone."""
    return torch.cat([part.flatten() for part in weights.values()]).numpy().astype(np.float32)


def _leaves(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """All layers without layers of their own, in the order in which they were put together."""
    leaves = [(name, module) for name, module in model.named_modules() if not list(module.children())]
    return [(name, module) for name, module in leaves if not isinstance(module, _PASSING)]
