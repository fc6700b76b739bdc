"""The reference models of MLPerf Tiny (Banbury et al. 2021, arXiv 2106.07597), for records of other shapes too.

MLPerf's Keras models have a BatchNorm behind each convolution and each hidden dense layer. Its statistics are data, so
here there is none, or a GroupNorm in its place. A converter folds BatchNorm into the layer before it: the exported
graph of `norm = "none"` is MLPerf's exported graph, with the same operators and the same number of weights. Strided
convolutions are padded as Keras pads them.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import nn

from clients.models.blocks import Norm, Shape, Sides, at_least, conv2d, normalised, shrunk


class Residual(nn.Module):
    """Two convolutions around which the input is added, through a 1x1 convolution where the shapes differ.

    The parameters are defined in the order in which they are used, also by the exported file.
    """

    def __init__(self, inputs: int, outputs: int, norm: Norm, stride: int, sides: Sides) -> None:
        super().__init__()
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, stride)
        self.first = nn.Sequential(*conv2d(inputs, outputs, norm, stride=stride, sides=sides))
        self.second = nn.Sequential(*conv2d(outputs, outputs, norm, relu=False))
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps in, maps out."""
        total: torch.Tensor = self.relu(self.shortcut(x) + self.second(self.first(x)))
        return total


def resnet8(shape: Shape, classes: int, width: int, norm: Norm) -> nn.Module:
    """Image classification: three residual blocks. Natively 3x32x32, 10 classes, width 16."""
    sides = (shape[1], shape[2])
    at_least("resnet8", min(sides), 4)
    return nn.Sequential(
        *conv2d(shape[0], width, norm),
        Residual(width, width, norm, 1, sides),
        Residual(width, 2 * width, norm, 2, sides),
        Residual(2 * width, 4 * width, norm, 2, shrunk(sides, 2)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4 * width, classes),
    )


def mobilenet_v1(shape: Shape, classes: int, width: int, norm: Norm) -> nn.Module:
    """Visual wake words: MobileNetV1 (Howard et al. 2017, arXiv 1704.04861). Natively 3x96x96, 2 classes.

    `width` is the channels of the first layer: 32 times the paper's width multiplier, 8 for a quarter.
    """
    sides = (shape[1], shape[2])
    at_least("mobilenet-v1-0.25", min(sides), 32)
    layers = conv2d(shape[0], width, norm, stride=2, sides=sides)
    sides, channels = shrunk(sides, 2), width
    for times, stride in [(2, 1), (4, 2), (4, 1), (8, 2), (8, 1), (16, 2), *[(16, 1)] * 5, (32, 2), (32, 1)]:
        layers += _separable(channels, times * width, norm, stride, sides)
        sides, channels = shrunk(sides, stride), times * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


def ds_cnn(shape: Shape, classes: int, width: int, norm: Norm) -> nn.Module:
    """Keyword spotting: DS-CNN (Zhang et al. 2017, arXiv 1711.07128). Natively 1x49x10 MFCCs, 12 words, width 64.

    The first kernel is 10 steps of time by 4 coefficients.
    """
    at_least("ds-cnn", min(shape[1:]), 4)
    layers = conv2d(shape[0], width, norm, kernel=(10, 4), stride=2, sides=(shape[1], shape[2]))
    for _ in range(4):
        layers += _separable(width, width, norm)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))


def autoencoder(shape: Shape, _: int, width: int, norm: Norm) -> nn.Module:
    """Anomaly detection: a record that is rebuilt badly is unlike those trained on. Natively 640 features, width 128.

    It returns the record's numbers, flattened: there are no classes.
    """
    features, neck = math.prod(shape), max(4, width // 64 * 4)
    widths = [features, width, width, width, width, neck, width, width, width, width]
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Linear(inputs, outputs), *normalised(norm, outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(width, features))


def _separable(inputs: int, outputs: int, norm: Norm, stride: int = 1, sides: Sides = (0, 0)) -> list[nn.Module]:
    """A depthwise 3x3 convolution, then one over channels."""
    depth = conv2d(inputs, inputs, norm, stride=stride, sides=sides, groups=inputs)
    return [*depth, *conv2d(inputs, outputs, norm, kernel=(1, 1))]
