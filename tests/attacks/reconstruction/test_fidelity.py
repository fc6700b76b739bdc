"""Figures of likeness by hand."""

import math

import numpy as np
import pytest

from attacks.reconstruction.fidelity import fidelity, nearest, paired, psnr, ssim


def window():
    weights = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    weights /= weights.sum()
    return np.outer(weights, weights)


def test_psnr_by_hand():
    assert psnr(np.full((2, 2), 0.1), np.zeros((2, 2))) == pytest.approx(20)
    assert psnr(np.full(3, 25.5), np.zeros(3), data_range=255) == pytest.approx(20)
    assert psnr(np.ones(3), np.ones(3)) == math.inf


def test_ssim_of_flat_images_is_that_of_their_means():
    """Without variance the formula is (2 a b + C1) / (a^2 + b^2 + C1), C1 = 1e-4."""
    found = ssim(np.full((12, 13), 0.5), np.full((12, 13), 0.25))
    assert found == pytest.approx((2 * 0.125 + 1e-4) / (0.25 + 0.0625 + 1e-4))


def test_ssim_of_one_window_by_hand():
    """An image as large as the window has one place for it: weighted moments, computed here directly."""
    rng = np.random.default_rng(0)
    a, b, w = rng.random((11, 11)), rng.random((11, 11)), window()
    mean_a, mean_b = (w * a).sum(), (w * b).sum()
    var_a, var_b = (w * (a - mean_a) ** 2).sum(), (w * (b - mean_b) ** 2).sum()
    covariance = (w * (a - mean_a) * (b - mean_b)).sum()
    expected = (2 * mean_a * mean_b + 1e-4) * (2 * covariance + 9e-4)
    expected /= (mean_a**2 + mean_b**2 + 1e-4) * (var_a + var_b + 9e-4)
    assert ssim(a, b) == pytest.approx(expected, rel=1e-9)
    assert ssim(np.stack([a, a]), np.stack([b, a])) == pytest.approx((expected + 1) / 2, rel=1e-9)
    assert ssim(255 * a, 255 * b, data_range=255) == pytest.approx(expected, rel=1e-9)


def test_ssim_is_one_for_equals_and_symmetric():
    rng = np.random.default_rng(1)
    a, b = rng.random((28, 28)), rng.random((28, 28))
    assert ssim(a, a) == pytest.approx(1)
    assert ssim(a, b) == pytest.approx(ssim(b, a))
    assert ssim(a, a + 0.05 * b) > ssim(a, a + 0.5 * b)


def test_images_smaller_than_the_window_are_refused():
    with pytest.raises(ValueError, match="at least 11 by 11"):
        ssim(np.zeros((8, 8)), np.zeros((8, 8)))


def test_the_nearest_public_record_stands_beside():
    true = np.zeros(4)
    public = np.array([[1.0, 1, 1, 1], [0.2, 0, 0, 0], [0, 0.3, 0, 0]])
    assert nearest(true, public) == 1
    found = fidelity(np.full(4, 0.05), true, public)
    assert found.mse == pytest.approx(0.0025) and found.public_mse == pytest.approx(0.01)
    assert found.psnr > found.public_psnr == pytest.approx(20)
    assert math.isnan(found.ssim) and math.isnan(found.public_ssim)
    image = np.random.default_rng(0).random((1, 12, 12))
    assert fidelity(image, image, image[None] + 0.1).ssim == 1 > fidelity(image, image, image[None] + 0.1).public_ssim


def test_a_batch_is_paired_whatever_its_order():
    true = np.random.default_rng(0).random((5, 3, 3))
    order = np.array([3, 1, 4, 0, 2])
    found = paired(true[order] + 0.01, true)
    np.testing.assert_array_equal(order[found], np.arange(5))
