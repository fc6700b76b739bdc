"""Quantisation-aware training: it rounds as the device does, leaves nothing behind, and helps where rounding hurts."""

import copy

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.datasets import load_digits
from torch import nn

from clients.dp_sgd import UnsafeForPrivacyError, train_privately
from clients.models import CLASSIFIERS, ModelConfig, build_model
from clients.privacy import RecordPrivacyConfig
from clients.quantised import rounded_activations, rounded_weights, rounding
from clients.training import TrainingConfig, logits, train
from edge.artifact import Artifact
from edge.export import export, trace
from edge.runtimes import predict

SHAPES = {"mlp": (12,), "cnn1d": (3, 16), "mobilenet-v1-0.25": (1, 32, 32)}


def build(name, norm="none", width=None, seed=0, shape=None, classes=4):
    draw = torch.Generator().manual_seed(seed)
    shape = shape or SHAPES.get(name, (1, 8, 8))
    return build_model(ModelConfig(name=name, norm=norm, width=width), shape, classes, draw)


def test_weights_are_rounded_to_levels_by_hand():
    weights = torch.tensor([[0.7, -0.24, 0.05], [7.0, 3.4, -3.6]])
    by_channel = torch.tensor([[0.7, -0.2, 0.0], [7.0, 3.0, -4.0]])  # steps 0.1 and 1
    torch.testing.assert_close(rounded_weights(weights, 4, per_channel=True), by_channel)
    in_one = torch.tensor([[1.0, 0.0, 0.0], [7.0, 3.0, -4.0]])  # one step of 1
    torch.testing.assert_close(rounded_weights(weights, 4, per_channel=False), in_one)
    steps = rounded_weights(weights, 8, per_channel=True) / torch.tensor([[0.7], [7.0]]) * 127
    torch.testing.assert_close(steps, steps.round(), atol=1e-4, rtol=0)
    assert torch.equal(rounded_weights(torch.zeros(2, 3), 4, per_channel=True), torch.zeros(2, 3))


def test_activations_are_rounded_to_256_levels_of_which_zero_is_one():
    x = torch.tensor([-0.5, 0.0, 0.003, 1.0, 2.05])  # 255 steps of 0.01: 50 below zero
    torch.testing.assert_close(rounded_activations(x), torch.tensor([-0.5, 0.0, 0.0, 1.0, 2.05]))
    assert torch.equal(rounded_activations(torch.zeros(3)), torch.zeros(3))
    positive = rounded_activations(torch.tensor([5.0, 5.004, 5.1]))  # the range begins at zero all the same
    torch.testing.assert_close(positive, torch.tensor([5.0, 5.0, 5.1]), atol=1e-6, rtol=0)


def test_gradients_pass_straight_through():
    weights, x = torch.randn(3, 4, requires_grad=True), torch.randn(5, requires_grad=True)
    (rounded_weights(weights, 4, per_channel=True).sum() + 2 * rounded_activations(x).sum()).backward()
    assert torch.equal(weights.grad, torch.ones(3, 4)) and torch.equal(x.grad, torch.full((5,), 2.0))


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("norm", ["none", "group"])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_every_model_trains_and_is_left_without_a_trace(name, norm, bits):
    model = build(name, norm)
    names, rng = list(model.state_dict()), np.random.default_rng(0)
    x = rng.normal(size=(8, *SHAPES.get(name, (1, 8, 8)))).astype(np.float32)
    before = torch.nn.utils.parameters_to_vector(model.parameters()).detach().clone()
    train(model, x, rng.integers(0, 4, 8), TrainingConfig(quantization_aware=bits), rng)
    assert not torch.equal(torch.nn.utils.parameters_to_vector(model.parameters()).detach(), before)
    assert list(model.state_dict()) == names
    assert not any(layer._forward_hooks for layer in model.modules())
    exact = logits(model, x)
    with rounding(model, bits) as forward, torch.no_grad():
        assert not np.array_equal(forward(torch.from_numpy(x)).numpy(), exact)
    assert np.array_equal(logits(model, x), exact)


def test_hooks_go_when_training_fails():
    model = build("cnn1d")
    with pytest.raises(RuntimeError), rounding(model, 8) as forward:
        forward(torch.zeros(2, 5, 16))
    assert not any(layer._forward_hooks for layer in model.modules())


def test_batch_norm_is_refused_and_named():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    with pytest.raises(ValueError, match="does not fold BatchNorm, which '1' is"):
        train(model, np.zeros((4, 4), np.float32), np.zeros(4, int), TrainingConfig(quantization_aware=4), None)


def test_together_with_dp_sgd_it_is_refused():
    config = TrainingConfig(quantization_aware=4)
    with pytest.raises(UnsafeForPrivacyError, match="quantization_aware = 4 cannot go with DP-SGD"):
        train_privately(
            build("mlp"), np.zeros((4, 12), np.float32), np.zeros(4, int), config,
            RecordPrivacyConfig(noise_multiplier=1.0), 1.0, np.random.default_rng(0),
        )  # fmt: skip


@pytest.mark.parametrize("bits", [0, 2, 16, "four"])
def test_other_numbers_of_bits_are_refused(bits):
    with pytest.raises(ValidationError, match="quantization_aware"):
        TrainingConfig(quantization_aware=bits)


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    order = np.random.default_rng(0).permutation(1000)
    x, y = (data.images[:, None] / 16).astype(np.float32)[order], data.target[order]
    return x[:500], y[:500], x[500:], y[500:]


@pytest.mark.parametrize(("bits", "variant"), [(8, "int8"), (4, "int4")])
def test_it_rounds_as_the_device_does(bits, variant, digits):
    """The rounded forward pass is closer to the device than the exact one, and nearly always of its opinion."""
    x, y, fresh, _ = digits
    model = build("cnn", width=4, shape=(1, 8, 8), classes=10)
    train(model, x, y, TrainingConfig(epochs=10, optimizer="adam", learning_rate=0.01), np.random.default_rng(0))
    device = predict(Artifact.from_bytes(export(model, x, variant)), fresh)
    with rounding(model, bits) as forward, torch.no_grad():
        rounded = forward(torch.from_numpy(fresh)).numpy()
    assert np.mean(rounded.argmax(1) == device.argmax(1)) >= 0.98
    error = np.abs(rounded - device).mean()
    assert error < 0.02 * np.ptp(device)
    if bits == 4:
        assert error < 0.3 * np.abs(logits(model, fresh) - device).mean()


def accuracy(scores, labels):
    return float(np.mean(scores.argmax(1) == labels))


@pytest.mark.parametrize(
    ("name", "width", "rate"), [("mlp", 12, 0.01), pytest.param("cnn", 4, 0.005, marks=pytest.mark.slow)]
)
def test_it_saves_accuracy_in_4_bits_and_costs_none_in_8(name, width, rate, digits):
    """Test accuracy of what the device answers, over three first weights, after as much training either way."""
    x, y, fresh, labels = digits
    cases, program = [(None, "int4"), (4, "int4"), (None, "int8"), (8, "int8")], None
    found = np.zeros((3, len(cases)))
    for seed, row in enumerate(found):
        start = build(name, width=width, seed=seed, shape=(1, 8, 8), classes=10)
        train(start, x, y, TrainingConfig(epochs=15, optimizer="adam", learning_rate=rate), np.random.default_rng(seed))
        program = program or trace(start, x)
        for place, (bits, variant) in enumerate(cases):
            model = copy.deepcopy(start)
            config = TrainingConfig(epochs=10, optimizer="adam", learning_rate=rate / 5, quantization_aware=bits)
            train(model, x, y, config, np.random.default_rng(seed))
            file = export(model, x[:200], variant, traced=program)
            row[place] = accuracy(predict(Artifact.from_bytes(file), fresh), labels)
    plain_4, aware_4, plain_8, aware_8 = found.mean(axis=0)
    assert plain_4 < plain_8 - 0.01, "rounding to 4 bits costs nothing here: nothing to save"
    assert aware_4 > plain_4 + 0.01
    assert aware_8 > plain_8 - 0.01
