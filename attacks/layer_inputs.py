"""Layers whose weight gradients are sums over their inputs: where their weights lie in a vector, and their inputs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from attacks.broadcast import parameters
from attacks.span import Inputs, Rows

_RECORDS = 256  # at a time: patches of images are many
Vector = Float[np.ndarray, " params"]


@dataclass(frozen=True, slots=True)
class Layer:
    """A linear layer, or a convolution as one over patches; with a bias, inputs get a last column of ones."""

    name: str
    weight: slice  # in a vector of all parameters
    bias: slice | None
    units: int
    inputs: int
    raw: bool  # its inputs are the records themselves (their patches), whatever the weights are
    patches: bool

    def rows(self, vector: Vector) -> Rows:
        """This layer's part of a vector of parameters: one row per unit, its bias last."""
        rows = vector[self.weight].reshape(self.units, -1).astype(np.float64)
        return rows if self.bias is None else np.column_stack([rows, vector[self.bias].astype(np.float64)])


def layers(model: nn.Module, example: Float[np.ndarray, "1 ..."]) -> list[Layer]:
    """The linear layers and ungrouped convolutions of a model, in the order in which it runs them on `example`.

    A convolution only where its patches are the records' own. Weights used twice, or tied, count once.
    """
    ran = _execution(model, example)
    spans = _slices(model)
    found = []
    for position, (name, module) in enumerate(ran):
        kind = isinstance(module, nn.Linear) or (position == 0 and _ungrouped(module))
        prefix = f"{name}." if name else ""  # a model may be one layer and nothing else
        if kind and f"{prefix}weight" in spans:
            weight, bias = spans[f"{prefix}weight"], spans.get(f"{prefix}bias")
            units = len(module.get_parameter("weight"))
            inputs = (weight.stop - weight.start) // units + (bias is not None)
            found.append(Layer(name, weight, bias, units, inputs, position == 0, not isinstance(module, nn.Linear)))
    return found


def layer_inputs(
    model: nn.Module, weights: Vector, layer: Layer, x: Float[np.ndarray, "records ..."]
) -> Iterator[Inputs]:
    """What reaches `layer` for each record in evaluation mode, float64, in chunks of records in their order."""
    at, module = parameters(model, weights), model.get_submodule(layer.name)
    for chunk in torch.split(torch.tensor(x), _RECORDS):
        caught: list[Tensor] = []
        handle = module.register_forward_pre_hook(lambda _, given, caught=caught: caught.append(given[0].detach()))
        try:
            with torch.no_grad():
                functional_call(model, at, (chunk,))
        finally:
            handle.remove()
        seen = _positions(module, caught[0]).double().numpy()
        yield seen if layer.bias is None else np.concatenate([seen, np.ones((*seen.shape[:2], 1))], axis=2)


def _execution(model: nn.Module, example: Float[np.ndarray, "1 ..."]) -> list[tuple[str, nn.Module]]:
    """Modules with parameters of their own, in the order in which they first run."""
    ran: dict[str, nn.Module] = {}
    handles = [
        module.register_forward_pre_hook(lambda own, _, name=name: ran.update({name: ran.get(name, own)}))
        for name, module in model.named_modules()
        if list(module.parameters(recurse=False))
    ]
    try:
        with torch.no_grad():
            model(torch.tensor(example))
    finally:
        for handle in handles:
            handle.remove()
    return list(ran.items())


def _slices(model: nn.Module) -> dict[str, slice]:
    """Where each parameter lies in a vector in `named_parameters` order."""
    start, found = 0, {}
    for name, each in model.named_parameters():
        found[name] = slice(start, start + each.numel())
        start += each.numel()
    return found


def _ungrouped(module: nn.Module) -> bool:
    plain = isinstance(module, nn.Conv1d | nn.Conv2d) and module.groups == 1 and module.padding_mode == "zeros"
    return plain and not isinstance(module.padding, str)


def _positions(module: nn.Module, x: Tensor) -> Tensor:
    """(records, positions, inputs): one position for a plain linear layer, one per patch for a convolution."""
    if isinstance(module, nn.Linear):
        return x.reshape(len(x), -1, x.shape[-1])
    assert isinstance(module, nn.Conv1d | nn.Conv2d)
    one = isinstance(module, nn.Conv1d)
    before, image = ((1,), x.unsqueeze(2)) if one else ((), x)
    patches = nn.functional.unfold(
        image,
        (*before, *module.kernel_size),
        dilation=(*before, *module.dilation),
        padding=((0,) if one else ()) + tuple(map(int, module.padding)),
        stride=(*before, *module.stride),
    )
    return patches.transpose(1, 2)
