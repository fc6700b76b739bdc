"""Layers of users' own models: in float what torch computes, in int8 what the device can run, nowhere a TRANSPOSE."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from edge.artifact import Artifact
from edge.export import UnsupportedLayerError, export, trace
from edge.runtimes import predict


class Function(nn.Module):
    """A function as a model."""

    def __init__(self, function, *layers):
        super().__init__()
        self.function, self.layers = function, nn.ModuleList(layers)

    def forward(self, x):
        return self.function(x, *self.layers)


def conv():
    return nn.Conv2d(2, 4, 3, padding=1)


def excited(x, squeeze, excite):
    return F.hardsigmoid(excite(F.relu(squeeze(F.adaptive_avg_pool2d(x, 1))))) * x


def excited_by_linear(x, squeeze, excite):
    return x * torch.sigmoid(excite(F.relu(squeeze(x.mean((2, 3)))))).view(len(x), -1, 1, 1)


def halves(x, layer):
    left, right = layer(x).chunk(2, 1)
    return left * torch.sigmoid(right)


MAP = (2, 6, 6)
LAYERS = {  # shape of a record, layers
    "relu alone": ((8,), nn.ReLU()),
    "leaky relu": (MAP, nn.Sequential(conv(), nn.LeakyReLU(0.1))),
    "sigmoid": (MAP, nn.Sequential(conv(), nn.Sigmoid())),
    "tanh": (MAP, nn.Sequential(conv(), nn.Tanh())),
    "hardswish": (MAP, nn.Sequential(conv(), nn.Hardswish())),
    "silu": (MAP, nn.Sequential(conv(), nn.SiLU())),
    "hardtanh alone": ((8,), nn.Hardtanh(-1, 1)),
    "hardtanh": (MAP, nn.Sequential(conv(), nn.Hardtanh(-1, 1))),
    "clamp": (MAP, Function(lambda x, layer: layer(x).clamp(-0.5, 0.7), conv())),
    "clamp at one end": (MAP, Function(lambda x, layer: layer(x).clamp(max=0.9).clamp_min(0.1), conv())),
    "clamp at zero": (MAP, Function(lambda x, layer: layer(x).clamp(min=0), conv())),
    "gelu": (MAP, nn.Sequential(conv(), nn.GELU("tanh"))),
    "transposed convolution, cut": (MAP, nn.Sequential(conv(), nn.ConvTranspose2d(4, 2, 3, 2, 1, 1))),
    "transposed convolution of a window": ((2, 6), nn.ConvTranspose1d(2, 3, 4, 2)),
    "identity": (MAP, nn.Sequential(conv(), nn.Identity())),
    "softmax in the middle": (MAP, nn.Sequential(conv(), nn.Softmax(1))),
    "joined channels": (MAP, Function(lambda x, a, b: torch.cat([a(x), F.relu(b(x)), x], 1), conv(), conv())),
    "joined features": (MAP, Function(lambda x, a: torch.cat([x.flatten(1), a(x).flatten(1)], 1), conv())),
    "halves": (MAP, Function(halves, conv())),
    "parts": (MAP, Function(lambda x, a: torch.cat(a(x).split([1, 3], 1)[::-1], 1), conv())),
    "some channels": (MAP, Function(lambda x, a: a(x)[:, 1:3], conv())),
    "largest of all": (MAP, Function(lambda x, a: a(x).amax((2, 3)), conv())),
    "adaptive maximum": (MAP, nn.Sequential(conv(), nn.AdaptiveMaxPool2d(1))),
    "adaptive maximum of windows": ((3, 8), nn.AdaptiveMaxPool1d(2)),
    "upsampled": (MAP, nn.Sequential(conv(), nn.Upsample(scale_factor=2))),
    "upsampled window": ((2, 5), nn.Upsample(scale_factor=3)),
    "squeeze and excite": (MAP, nn.Sequential(conv(), Function(excited, nn.Conv2d(4, 2, 1), nn.Conv2d(2, 4, 1)))),
    "squeeze and excite, linear": (
        MAP,
        nn.Sequential(conv(), Function(excited_by_linear, nn.Linear(4, 2), nn.Linear(2, 4))),
    ),
    "layer norm": ((8,), nn.LayerNorm(8)),
    "layer norm after a flatten": (MAP, nn.Sequential(conv(), nn.Flatten(), nn.LayerNorm(144))),
    "group norm on features": ((8,), nn.Sequential(nn.Linear(8, 12), nn.GroupNorm(3, 12))),
}


SLOW = {  # variations on others
    "clamp at one end",
    "clamp at zero",
    "hardtanh",
    "transposed convolution of a window",
    "identity",
    "joined features",
    "layer norm after a flatten",
    "parts",
    "sigmoid",
    "softmax in the middle",
    "squeeze and excite, linear",
    "upsampled window",
}
NAMES = [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in LAYERS]


def answers(model, x):
    with torch.no_grad():
        return model(torch.from_numpy(x)).numpy()


def with_head(layers, shape):
    with torch.no_grad():
        features = layers(torch.zeros(2, *shape)).flatten(1).shape[1]
    return nn.Sequential(layers, nn.Flatten(), nn.Linear(features, 3))


@pytest.mark.parametrize("name", NAMES)
def test_float_is_torch_and_int8_runs_on_the_device(name, seeded, operators):
    shape, layers = LAYERS[name]
    model = seeded(with_head(layers, shape))
    x = np.random.default_rng(1).normal(size=(40, *shape)).astype(np.float32)
    traced, expected = trace(model, x), answers(model, x)
    exact = Artifact.from_bytes(export(model, x, "float32", traced=traced))
    np.testing.assert_allclose(predict(exact, x, "tflm"), expected, atol=1e-4)
    rounded = Artifact.from_bytes(export(model, x, "int8", traced=traced))
    device = predict(rounded, x)
    assert np.abs(device - expected).mean() < 0.03 * np.ptp(expected)
    assert np.mean(device.argmax(1) == expected.argmax(1)) >= 0.9
    assert not {"TRANSPOSE", "QUANTIZE", "DEQUANTIZE"} & set(operators(rounded.model))


def linear(*last):
    return nn.Sequential(nn.Linear(8, 3), *last)


@pytest.mark.parametrize("asked", ["logits", "probabilities"])
def test_a_softmax_of_the_model_s_own_is_the_only_one(asked, seeded, operators):
    model, x = seeded(linear(nn.Softmax(1))), np.random.default_rng(1).normal(size=(40, 8)).astype(np.float32)
    artifact = Artifact.from_bytes(export(model, x, answers=asked))
    assert operators(artifact.model)["SOFTMAX"] == 1
    assert artifact.answers == "probabilities"
    assert np.abs(predict(artifact, x) - answers(model, x)).max() < 0.03


def test_a_log_softmax_answers_logits_or_becomes_probabilities(seeded):
    model, x = seeded(linear(nn.LogSoftmax(-1))), np.random.default_rng(1).normal(size=(40, 8)).astype(np.float32)
    logits = Artifact.from_bytes(export(model, x))
    assert logits.answers == "logits"
    assert np.abs(predict(logits, x) - answers(model, x)).max() < 0.15
    shares = Artifact.from_bytes(export(model, x, answers="probabilities"))
    assert np.abs(predict(shares, x) - np.exp(answers(model, x))).max() < 0.05


@pytest.mark.parametrize(
    ("shape", "model"),
    [
        ((2, 6, 4), lambda: nn.Sequential(conv(), nn.MaxPool2d(2), nn.Upsample(scale_factor=2), nn.Conv2d(4, 2, 1))),
        ((3, 8), lambda: nn.Sequential(nn.Conv1d(3, 3, 3, padding=1))),
    ],
)
def test_a_model_that_rebuilds_maps_answers_in_the_order_of_the_file_s_input(shape, model, seeded):
    model, x = seeded(model()), np.random.default_rng(1).normal(size=(20, *shape)).astype(np.float32)
    artifact = Artifact.from_bytes(export(model, x, "float32"))
    assert artifact.output.shape == artifact.input.shape
    expected = artifact.channels_last(answers(model, x)).reshape(20, -1)
    np.testing.assert_allclose(predict(artifact, x), expected, atol=1e-4)


@pytest.mark.parametrize(("layer", "operator"), [(nn.Hardswish(), "HARD_SWISH"), (nn.LogSoftmax(1), "LOG_SOFTMAX")])
def test_what_a_variant_cannot_hold_is_refused_with_the_operator(layer, operator):
    with pytest.raises(UnsupportedLayerError, match=f"as int16x8 this model cannot be exported: .*{operator}"):
        export(linear(layer), np.random.default_rng(1).normal(size=(9, 8)), "int16x8")
