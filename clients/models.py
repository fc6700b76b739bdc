"""Models sized for microcontrollers, in torch: each maps a batch of records to logits of shape (batch, classes)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

Norm = Literal["none", "group"]
Shape = tuple[int, ...]


class ModelConfig(BaseModel):
    """Which model every client trains."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Literal["mlp", "cnn", "cnn1d", "ds-cnn"] = Field(description="architecture, see `seepage list models`")
    norm: Norm = Field("none", description="normalisation layers; no BatchNorm: its statistics are data")
    width: int | None = Field(
        None, ge=4, le=512, description="hidden units (mlp) or channels of the first layer; default: the model's own"
    )


class ModelShapeError(ValueError):
    """The model cannot take records of this shape."""


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One architecture: `build(shape, classes, width, norm)` gives a module for records of `shape` (no batch)."""

    title: str
    dimensions: int  # of one record: (features,), (channels, length) or (channels, height, width)
    width: int
    build: Callable[[Shape, int, int, Norm], nn.Module]


def build_model(config: ModelConfig, shape: Shape, classes: int, rng: torch.Generator) -> nn.Module:
    """A freshly initialised model for records of `shape`.

    Raises:
        ModelShapeError: the architecture takes records of another number of dimensions, or larger ones.
    """
    entry = MODELS[config.name]
    if len(shape) != entry.dimensions and config.name != "mlp":
        fitting = [name for name, other in MODELS.items() if other.dimensions == len(shape) or name == "mlp"]
        raise ModelShapeError(
            f"{config.name} takes records with {entry.dimensions} dimensions, the data's have shape {shape}; "
            f"models for this data: {', '.join(fitting)}"
        )
    width = config.width or entry.width
    if config.norm == "group" and width % 4:
        raise ModelShapeError(f"width {width} cannot be normalised in 4 groups; use a multiple of 4, or norm = 'none'")
    with torch.random.fork_rng(devices=[]):  # torch's layers draw first weights from the global state
        model = entry.build(shape, classes, width, config.norm)
    _initialise(model, rng)
    return model


def parameter_count(model: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in model.parameters())


def _initialise(model: nn.Module, rng: torch.Generator) -> None:
    """Weights and biases uniform in ±1/sqrt(inputs), as torch itself draws them, but from `rng`."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
            nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5), generator=rng)
            if module.bias is not None:
                bound = 1 / math.sqrt(module.weight[0].numel())
                nn.init.uniform_(module.bias, -bound, bound, generator=rng)


def _norm(norm: Norm, channels: int) -> list[nn.Module]:
    return [nn.GroupNorm(4, channels)] if norm == "group" else []


def _mlp(shape: Shape, classes: int, width: int, norm: Norm) -> nn.Module:
    features = math.prod(shape)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(features, width), *_norm(norm, width), nn.ReLU(), nn.Linear(width, classes)
    )


def _conv1d(inputs: int, outputs: int, kernel: int, norm: Norm, stride: int = 1) -> list[nn.Module]:
    conv = nn.Conv1d(inputs, outputs, kernel, stride, padding=(kernel - 1) // 2)
    return [conv, *_norm(norm, outputs), nn.ReLU()]


def _conv2d(inputs: int, outputs: int, kernel: int, norm: Norm, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups)
    return [conv, *_norm(norm, outputs), nn.ReLU()]


def _cnn1d(shape: Shape, classes: int, width: int, norm: Norm) -> nn.Module:
    """Strides instead of pooling: half the work, and with even kernels the padding is TFLite's own."""
    channels, length = shape
    _at_least("cnn1d", length, 4)
    middle, last = width * 5 // 3 // 4 * 4, width * 8 // 3 // 4 * 4
    return nn.Sequential(
        *_conv1d(channels, width, 6, norm, stride=2),
        *_conv1d(width, middle, 6, norm, stride=2),
        *_conv1d(middle, last, 3, norm),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(last, classes),
    )


def _cnn(shape: Shape, classes: int, width: int, norm: Norm) -> nn.Module:
    channels, height, wide = shape
    _at_least("cnn", min(height, wide), 4)
    return nn.Sequential(
        *_conv2d(channels, width, 3, norm),
        nn.MaxPool2d(2),
        *_conv2d(width, 2 * width, 3, norm),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(2 * width * (height // 4) * (wide // 4), classes),
    )


def _ds_cnn(shape: Shape, classes: int, width: int, norm: Norm) -> nn.Module:
    """Depthwise-separable blocks after a strided stem, as in Zhang et al. 2017 (arXiv 1711.07128)."""
    _at_least("ds-cnn", min(shape[1:]), 4)
    blocks: list[nn.Module] = []
    for _ in range(3):
        blocks += _conv2d(width, width, 3, norm, groups=width) + _conv2d(width, width, 1, norm)
    return nn.Sequential(
        *_conv2d(shape[0], width, 3, norm, stride=2),
        *blocks,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, classes),
    )


def _at_least(name: str, size: int, smallest: int) -> None:
    if size < smallest:
        raise ModelShapeError(f"{name} needs records at least {smallest} long on every side, these have {size}")


MODELS: dict[str, ModelEntry] = {
    "mlp": ModelEntry("one hidden layer, for features of any shape", 1, 64, _mlp),
    "cnn": ModelEntry("two convolutions, for small images", 3, 8, _cnn),
    "cnn1d": ModelEntry("three 1-D convolutions, for sensor windows", 2, 24, _cnn1d),
    "ds-cnn": ModelEntry("depthwise-separable CNN, for images and spectrograms", 3, 32, _ds_cnn),
}
