"""Quantisation-aware training: the model sees the device's rounding while it learns, and learns to bear it.

Jacob et al. 2018 (arXiv 1712.05877, section 3): in the forward pass weights and activations are rounded as the export
rounds them, in the backward pass the rounding counts as the identity (the straight-through estimator of Bengio et al.
2013, arXiv 1308.3432). What is trained are float weights; they are exported as those of any other model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Final, Literal

import torch
from jaxtyping import Float
from torch import nn
from torch.func import functional_call

Bits = Literal[8, 4]
Forward = Callable[[torch.Tensor], torch.Tensor]

_WEIGHTED: Final = (nn.Conv1d, nn.Conv2d, nn.Linear)
_FUSED: Final = (nn.ReLU, nn.ReLU6)  # into the layer before, whose own result the device never rounds
_MOVES: Final = (
    nn.Flatten,
    nn.Identity,
    nn.Dropout,
    nn.MaxPool1d,
    nn.MaxPool2d,
    nn.ZeroPad2d,
)  # numbers stay as they are
_BATCH_NORM: Final = nn.modules.batchnorm._BatchNorm


@contextmanager
def rounding(model: nn.Module, bits: Bits) -> Iterator[Forward]:
    """A forward pass of `model` with weights of so many bits and activations of eight; outside nothing is changed.

    Weights have a scale per output channel, except those of linear layers in 4 bits, which have one, as the device
    wants it. Activations have the batch's own range, so a record's result depends on the others of its batch. A layer
    is taken to feed the one that is defined after it.

    Raises:
        ValueError: the model has a BatchNorm: the export folds it into weights, and those are what would be rounded.
    """
    folded = [name for name, layer in model.named_modules() if isinstance(layer, _BATCH_NORM)]
    if folded:
        raise ValueError(
            f"quantisation-aware training does not fold BatchNorm, which '{folded[0]}' is; use GroupNorm or no norm"
        )
    scales = {
        f"{name}.weight".lstrip("."): bits == 8 or not isinstance(layer, nn.Linear)
        for name, layer in model.named_modules()
        if isinstance(layer, _WEIGHTED)
    }

    def forward(x: torch.Tensor) -> torch.Tensor:
        weights = dict(model.named_parameters())
        rounded = {name: rounded_weights(weights[name], bits, each) for name, each in scales.items()}
        result: torch.Tensor = functional_call(model, rounded, (rounded_activations(x),))
        return result

    hooks = [layer.register_forward_hook(lambda _, __, result: rounded_activations(result)) for layer in _ends(model)]
    try:
        yield forward
    finally:
        for hook in hooks:
            hook.remove()


def rounded_weights(
    weights: Float[torch.Tensor, "outputs ..."], bits: Bits, per_channel: bool
) -> Float[torch.Tensor, "outputs ..."]:
    """Weights on 2^bits - 1 levels around zero, with a scale for each output or one for all."""
    top = 2 ** (bits - 1) - 1
    flat = weights.detach().reshape(len(weights), -1) if per_channel else weights.detach().reshape(1, -1)
    scale = flat.abs().amax(dim=1).clamp_min(1e-30) / top
    scale = scale.reshape(-1, *[1] * (weights.ndim - 1))
    return _straight_through(weights, torch.round(weights.detach() / scale).clamp(-top, top) * scale)


def rounded_activations(x: Float[torch.Tensor, "records ..."]) -> Float[torch.Tensor, "records ..."]:
    """Activations on 256 levels from their smallest to their largest, zero being one of them."""
    low, high = x.detach().amin().clamp_max(0), x.detach().amax().clamp_min(0)
    scale = ((high - low) / 255).clamp_min(1e-30)
    zero = torch.round(-low / scale)
    levels = (torch.round(x.detach() / scale) + zero).clamp(0, 255)
    return _straight_through(x, (levels - zero) * scale)


def _straight_through(exact: torch.Tensor, rounded: torch.Tensor) -> torch.Tensor:
    """The rounded numbers, with the gradient of the exact ones."""
    return exact + (rounded - exact).detach()


def _ends(model: nn.Module) -> list[nn.Module]:
    """The layers whose results the device rounds."""
    leaves = [layer for layer in model.modules() if not list(layer.children())]
    following = [*pairwise(leaves), (leaves[-1], None)]
    return [layer for layer, after in following if not isinstance(layer, _MOVES) and not isinstance(after, _FUSED)]
