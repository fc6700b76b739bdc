"""Local training on one device: plain SGD over shuffled batches, with every draw from the client's own generator."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from clients.randomness import torch_generator


class TrainingConfig(BaseModel):
    """How one client trains on its own members."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: int = Field(1, ge=1, le=10_000, description="passes over the client's members")
    batch_size: int = Field(16, ge=1, description="records per step; the last batch of an epoch may be smaller")
    learning_rate: float = Field(0.05, gt=0, le=10, description="SGD step size")
    momentum: float = Field(0.0, ge=0, lt=1, description="SGD momentum, started afresh in every round")
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty on the weights")


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
        DivergedError: the loss is no longer finite.
    """
    draw = torch_generator(rng)
    inputs, labels = torch.from_numpy(x), torch.from_numpy(y)
    optimiser = torch.optim.SGD(
        model.parameters(), config.learning_rate, momentum=config.momentum, weight_decay=config.weight_decay
    )
    loss_sum = torch.zeros(())
    model.train()
    for _ in range(config.epochs):
        loss_sum = torch.zeros(())
        for batch in torch.split(torch.randperm(len(labels), generator=draw), config.batch_size):
            optimiser.zero_grad()
            loss = nn.functional.cross_entropy(model(inputs[batch]), labels[batch])
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves Tensor.backward untyped
            optimiser.step()
            loss_sum += loss.detach() * len(batch)
    model.eval()
    if not torch.isfinite(loss_sum):
        raise DivergedError(f"training diverged (loss {loss_sum.item()}) at learning rate {config.learning_rate}")
    return float(loss_sum) / len(labels)


@torch.no_grad()
def logits(model: nn.Module, x: Float[np.ndarray, "records ..."]) -> Float[np.ndarray, "records classes"]:
    """The model's logits for `x`, float32, computed in batches of 1,024 records."""
    model.eval()
    return torch.cat([model(batch) for batch in torch.split(torch.from_numpy(x), 1024)]).numpy()
