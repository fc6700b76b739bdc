"""The smallest models: one hidden layer, two convolutions, three convolutions over time."""

from __future__ import annotations

import math

from torch import nn

from clients.models.blocks import Norm, Shape, at_least, conv1d, conv2d, normalised


def mlp(shape: Shape, classes: int, width: int, norm: Norm) -> nn.Module:
    """One hidden layer."""
    features = math.prod(shape)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(features, width), *normalised(norm, width), nn.ReLU(), nn.Linear(width, classes)
    )


def cnn1d(shape: Shape, classes: int, width: int, norm: Norm) -> nn.Module:
    """Strides instead of pooling: half the work, and with even kernels the padding is TFLite's own."""
    channels, length = shape
    at_least("cnn1d", length, 4)
    middle, last = width * 5 // 3 // 4 * 4, width * 8 // 3 // 4 * 4
    return nn.Sequential(
        *conv1d(channels, width, 6, norm, stride=2),
        *conv1d(width, middle, 6, norm, stride=2),
        *conv1d(middle, last, 3, norm),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(last, classes),
    )


def cnn(shape: Shape, classes: int, width: int, norm: Norm) -> nn.Module:
    """Two convolutions with pooling, and one linear layer that holds most of the weights."""
    channels, height, wide = shape
    at_least("cnn", min(height, wide), 4)
    return nn.Sequential(
        *conv2d(channels, width, norm),
        nn.MaxPool2d(2),
        *conv2d(width, 2 * width, norm),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(2 * width * (height // 4) * (wide // 4), classes),
    )
