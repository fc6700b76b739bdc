"""Models sized for microcontrollers, in torch: each maps a batch of records to logits of shape (batch, classes).

One of them rebuilds its input instead: it is there to be exported and audited, no federation trains it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import nn

from clients.models.blocks import ModelShapeError, Norm, Shape
from clients.models.small import cnn, cnn1d, mlp
from clients.models.tiny import autoencoder, ds_cnn, mobilenet_v1, resnet8

__all__ = [
    "CLASSIFIERS",
    "MODELS",
    "ModelConfig",
    "ModelEntry",
    "ModelShapeError",
    "Name",
    "Norm",
    "build_model",
    "new_model",
    "parameter_count",
]

Name = Literal["mlp", "cnn", "cnn1d", "ds-cnn", "resnet8", "mobilenet-v1-0.25", "autoencoder"]
Task = Literal["classification", "reconstruction"]


class ModelConfig(BaseModel):
    """Which model every client trains."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: Name = Field(description="architecture, see `seepage list models`")
    norm: Norm = Field("none", description="normalisation layers; no BatchNorm: its statistics are data")
    width: int | None = Field(
        None, ge=4, le=512, description="hidden units (mlp) or channels of the first layer; default: the model's own"
    )

    @field_validator("name")
    @classmethod
    def _classifies(cls, name: Name) -> Name:
        if name not in CLASSIFIERS:
            raise ValueError(
                f"'{name}' rebuilds its input and has no classes, and the clients of a federation train classifiers; "
                f"choose one of {', '.join(CLASSIFIERS)}"
            )
        return name


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One architecture: `build(shape, classes, width, norm)` gives a module for records of `shape` (no batch).

    `initial` are its first weights: uniform in ±1/sqrt(inputs) as torch draws them, or in ±sqrt(6/inputs) with zero
    biases (He et al. 2015, arXiv 1502.01852), without which a deep model's signal fades and it learns nothing.
    """

    title: str
    dimensions: int  # of one record: (features,), (channels, length) or (channels, height, width)
    width: int
    build: Callable[[Shape, int, int, Norm], nn.Module]
    task: Task = "classification"
    flattens: bool = False  # takes records of any number of dimensions
    initial: Literal["torch", "he"] = "torch"


def build_model(config: ModelConfig, shape: Shape, classes: int, rng: torch.Generator) -> nn.Module:
    """A freshly initialised classifier for records of `shape`. Raises as `new_model` does."""
    return new_model(config.name, shape, classes, rng, width=config.width, norm=config.norm)


def new_model(
    name: Name, shape: Shape, classes: int, rng: torch.Generator, *, width: int | None = None, norm: Norm = "none"
) -> nn.Module:
    """A freshly initialised model of any task for records of `shape`; one that rebuilds has no use for `classes`.

    Raises:
        ModelShapeError: the architecture takes records of another number of dimensions, or larger ones.
    """
    entry = MODELS[name]
    if len(shape) != entry.dimensions and not entry.flattens:
        raise ModelShapeError(
            f"{name} takes records with {entry.dimensions} dimensions, the data's have shape {shape}; "
            f"models for this data: {', '.join(_fitting(len(shape)))}"
        )
    width = width or entry.width
    if norm == "group" and width % 4:
        raise ModelShapeError(f"width {width} cannot be normalised in 4 groups; use a multiple of 4, or norm = 'none'")
    if norm == "group" and entry.flattens and width < 8:  # a group of one value is normalised to nothing
        raise ModelShapeError(f"width {width} leaves one unit in each of 4 groups; use 8 or more, or norm = 'none'")
    with torch.random.fork_rng(devices=[]):  # torch's layers draw first weights from the global state
        model = entry.build(shape, classes, width, norm)
    _initialise(model, entry, rng)
    return model


def parameter_count(model: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in model.parameters())


def _fitting(dimensions: int) -> list[str]:
    return [name for name in CLASSIFIERS if MODELS[name].flattens or MODELS[name].dimensions == dimensions]


def _initialise(model: nn.Module, entry: ModelEntry, rng: torch.Generator) -> None:
    """Weights and biases uniform in ±1/sqrt(inputs), or as He et al. have them, drawn from `rng`."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
            nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5) if entry.initial == "torch" else 0, generator=rng)
            if module.bias is not None:
                bound = 1 / math.sqrt(module.weight[0].numel()) if entry.initial == "torch" else 0.0
                nn.init.uniform_(module.bias, -bound, bound, generator=rng)


MODELS: dict[str, ModelEntry] = {
    "mlp": ModelEntry("one hidden layer, for features of any shape", 1, 64, mlp, flattens=True),
    "cnn": ModelEntry("two convolutions, for small images", 3, 8, cnn),
    "cnn1d": ModelEntry("three 1-D convolutions, for sensor windows", 2, 24, cnn1d),
    "ds-cnn": ModelEntry("MLPerf Tiny's depthwise-separable CNN, for spectrograms", 3, 64, ds_cnn, initial="he"),
    "resnet8": ModelEntry("MLPerf Tiny's residual CNN, for images", 3, 16, resnet8, initial="he"),
    "mobilenet-v1-0.25": ModelEntry(
        "MLPerf Tiny's MobileNetV1, for images of 32x32 and more", 3, 8, mobilenet_v1, initial="he"
    ),
    "autoencoder": ModelEntry(
        "MLPerf Tiny's anomaly detector: no classes, for export and audit, no federation trains it",
        1,
        128,
        autoencoder,
        task="reconstruction",
        flattens=True,
        initial="he",
    ),
}
CLASSIFIERS: tuple[str, ...] = tuple(name for name, entry in MODELS.items() if entry.task == "classification")
