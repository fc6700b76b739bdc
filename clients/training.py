"""Local training on one device: SGD or Adam over shuffled batches, every draw from the client's own generator."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from clients.quantised import Bits, Forward, rounding
from clients.randomness import torch_generator


class TrainingConfig(BaseModel):
    """How one client trains on its own members."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    epochs: int = Field(1, ge=1, le=10_000, description="passes over the client's members")
    batch_size: int = Field(
        16, ge=1, le=1_000_000, description="records per step; the last batch of an epoch may be smaller"
    )
    optimizer: Literal["sgd", "adam"] = Field("sgd", description="its state starts afresh in every round")
    learning_rate: float = Field(0.05, ge=1e-12, le=10, description="step size")
    momentum: float = Field(0.0, ge=0, lt=1, description="of sgd; adam has its own")
    weight_decay: float = Field(0.0, ge=0, le=1e3, description="L2 penalty on the weights")
    quantization_aware: Bits | None = Field(
        None,
        description="train with weights rounded to so many bits, 8 or 4, and activations to 8, as the export does it; "
        "not together with DP-SGD",
    )


class DivergedError(Exception):
    """Training left the finite numbers."""


def train(
    model: nn.Module,
    x: Float[np.ndarray, "records ..."],
    y: Int[np.ndarray, " records"],
    config: TrainingConfig,
    rng: np.random.Generator,
) -> float:
    """Train `model` in place and return the mean loss over the last epoch.

    Raises:
        DivergedError: the weights are no longer finite.
        ValueError: quantisation-aware training cannot be had of this model, see `clients.quantised`.
    """
    optimizer = build_optimizer(model, config)
    model.train()
    bits = config.quantization_aware
    with nullcontext(model) if bits is None else rounding(model, bits) as forward:
        loss_sum = _epochs(forward, optimizer, torch.from_numpy(x), torch.from_numpy(y), config, torch_generator(rng))
    model.eval()
    if not is_finite(model):
        raise DivergedError(
            f"training diverged (loss {loss_sum.item():g}) with {config.optimizer} at learning rate "
            f"{config.learning_rate:g}; choose a smaller one"
        )
    return float(loss_sum) / len(y)


def _epochs(
    forward: Forward,
    optimizer: torch.optim.Optimizer,
    inputs: Float[torch.Tensor, "records ..."],
    labels: Int[torch.Tensor, " records"],
    config: TrainingConfig,
    draw: torch.Generator,
) -> Float[torch.Tensor, ""]:
    """Every step; returns the sum of the records' losses over the last epoch."""
    loss_sum = torch.zeros(())
    for _ in range(config.epochs):
        loss_sum = torch.zeros(())
        for batch in torch.split(torch.randperm(len(labels), generator=draw), config.batch_size):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(forward(inputs[batch]), labels[batch])
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves Tensor.backward untyped
            optimizer.step()
            loss_sum += loss.detach() * len(batch)
    return loss_sum


def is_finite(model: nn.Module) -> bool:
    """Whether no weight is NaN or infinite."""
    return all(bool(torch.isfinite(weights).all()) for weights in model.parameters())


def build_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """A fresh optimiser for the model's weights."""
    weights, rate, decay = model.parameters(), config.learning_rate, config.weight_decay
    if config.optimizer == "adam":
        return torch.optim.Adam(weights, rate, weight_decay=decay, fused=True)
    return torch.optim.SGD(weights, rate, momentum=config.momentum, weight_decay=decay, fused=True)


@torch.no_grad()
def logits(model: nn.Module, x: Float[np.ndarray, "records ..."]) -> Float[np.ndarray, "records classes"]:
    """The model's logits for `x`, float32, computed in batches of 1,024 records."""
    model.eval()
    return torch.cat([model(batch) for batch in torch.split(torch.from_numpy(x), 1024)]).numpy()
