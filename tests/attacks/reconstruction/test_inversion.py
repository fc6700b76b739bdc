"""Gradient inversion and class means on small networks and images of digits."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from attacks.observation import Records
from attacks.reconstruction.class_mean import invert
from attacks.reconstruction.fidelity import fidelity, paired
from attacks.reconstruction.inversion import Seen, cosine_inversion, dlg, total_variation
from clients.training import TrainingConfig, train
from clients.weights import to_vector


@pytest.fixture(scope="module")
def digits():
    found = load_digits()
    return Records((found.images[:, None] / 16).astype(np.float32), found.target)


def network(*layers):
    rng, model = np.random.default_rng(3), nn.Sequential(*layers)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.tensor(rng.uniform(-1, 1, size=p.shape) / np.sqrt(p.shape[-1])))
    return model


def mlp(pixels=64):
    return network(nn.Flatten(), nn.Linear(pixels, 32), nn.Sigmoid(), nn.Linear(32, 10))


def cnn():
    return network(nn.Conv2d(1, 8, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(512, 10))


def seen(model, batch):
    loss = nn.functional.cross_entropy(model(torch.tensor(batch.x)), torch.tensor(batch.y))
    gradient = torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(model.parameters()))])
    return Seen(model, to_vector(model), gradient.numpy(), batch.x.shape[1:])


@pytest.mark.parametrize("records", [1, 2])
@pytest.mark.parametrize("model", [mlp(), cnn()], ids=["mlp", "cnn"])
def test_dlg_finds_records_and_labels(digits, model, records):
    batch, public = digits[10 : 10 + records], digits[500:1000]
    found = dlg(seen(model, batch), records, 10, np.random.default_rng(0))
    order = paired(found.records.x, batch.x)
    np.testing.assert_array_equal(found.records.y[order], batch.y)
    for i, j in enumerate(order):
        likeness = fidelity(found.records.x[j], batch.x[i], public.x)
        assert likeness.psnr > 40 > 25 > likeness.public_psnr
    assert found.distance < 1e-6


@pytest.mark.parametrize("records", [1, 2])
def test_cosine_inversion_finds_records_whatever_the_scale(digits, records):
    batch, model = digits[10 : 10 + records], mlp()
    view = seen(model, batch)
    scaled = Seen(model, view.weights, 0.01 * view.gradient, view.shape)
    found = cosine_inversion(scaled, batch.y, np.random.default_rng(0), iterations=300, restarts=1)
    for mine, true in zip(found.records.x, batch.x, strict=True):
        likeness = fidelity(mine, true, digits.x[500:1000])
        assert likeness.psnr > 35 > 25 > likeness.public_psnr
    assert found.records.x.min() >= 0 and found.records.x.max() <= 1


def test_an_image_of_28_by_28_is_found_with_its_structure(digits):
    """A digit drawn larger; the nearest other digit is no likeness of it."""
    large = Records(np.kron(digits.x, np.ones((1, 1, 4, 4), np.float32))[..., 2:30, 2:30], digits.y)
    found = cosine_inversion(
        seen(mlp(784), large[10:11]), large.y[10:11], np.random.default_rng(0), iterations=300, restarts=1
    )
    likeness = fidelity(found.records.x[0], large.x[10], large.x[500:1000])
    assert likeness.ssim > 0.95 > 0.85 > likeness.public_ssim


def test_a_gradient_of_nothing_leaves_nothing_to_find(digits):
    """The null case: a gradient unrelated to the record gives nothing closer than a public record."""
    model, rng = mlp(), np.random.default_rng(0)
    view = seen(model, digits[10:11])
    noise = Seen(model, view.weights, rng.normal(size=len(view.gradient)).astype(np.float32), view.shape)
    found = cosine_inversion(noise, digits.y[10:11], rng, iterations=100, restarts=1)
    likeness = fidelity(found.records.x[0], digits.x[10], digits.x[500:1000])
    assert likeness.psnr < likeness.public_psnr
    assert found.distance > 0.5


def test_same_generator_same_records(digits):
    view, before = seen(mlp(), digits[10:11]), to_vector(mlp())
    first, second = (dlg(view, 1, 10, np.random.default_rng(5), iterations=5) for _ in range(2))
    np.testing.assert_array_equal(first.records.x, second.records.x)
    first, second = (cosine_inversion(view, digits.y[10:11], np.random.default_rng(5), iterations=5) for _ in range(2))
    np.testing.assert_array_equal(first.records.x, second.records.x)
    np.testing.assert_array_equal(to_vector(view.architecture), before)


def test_total_variation_by_hand():
    image = torch.tensor([[[[0.0, 1.0], [0.5, 0.5]]]])
    assert total_variation(image) == pytest.approx((0.5 + 0.5) / 2 + (1.0 + 0.0) / 2)
    assert total_variation(torch.ones(3, 5)) == 0


def test_a_class_is_shown_no_better_than_its_mean_shows_it(digits):
    """The honest baseline: the attacker's own class mean is closer to the class than what the model gives away."""
    model = network(nn.Flatten(), nn.Linear(64, 10))
    members, own = digits[:800], digits[800:]
    train(model, members.x, members.y, TrainingConfig(epochs=10, learning_rate=0.5), np.random.default_rng(0))
    for label in (0, 3):
        found = invert(model, to_vector(model), label, own)
        true = members.x[members.y == label].mean(axis=0)
        assert found.probability > 0.9
        start = own.x.mean(axis=0)
        assert np.corrcoef((found.record - start).ravel(), (true - start).ravel())[0, 1] > 0.3
        assert np.mean((found.class_mean - true) ** 2) < np.mean((found.record - true) ** 2)
        np.testing.assert_allclose(found.class_mean, own.x[own.y == label].mean(axis=0))


def test_a_class_that_the_attacker_does_not_know_is_refused(digits):
    with pytest.raises(ValueError, match="no record of class 3"):
        invert(mlp(), to_vector(mlp()), 3, digits[digits.y != 3])
