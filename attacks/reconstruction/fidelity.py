"""How close a recovered record is to the true one, and how close a public record would have come anyway.

For whoever holds the truth: no attack calls this.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

Record = Float[np.ndarray, "..."]
Images = Float[np.ndarray, "images ..."]
_WINDOW = 1.5  # standard deviation of the Gaussian window, in pixels; it is 11 wide
_RADIUS = 5
_K1, _K2 = 0.01, 0.03


@dataclass(frozen=True, slots=True)
class Fidelity:
    """One recovered record against the true one, beside the public record that happens to be nearest to the truth.

    Where the attack is no better than that, it has shown what such records look like, and nothing about this one.
    SSIM is NaN for records that are no images.
    """

    mse: float
    psnr: float  # decibels
    ssim: float
    public_mse: float
    public_psnr: float
    public_ssim: float


def fidelity(recovered: Record, true: Record, public: Images, data_range: float = 1.0) -> Fidelity:
    """`recovered` against `true`, both of one shape, and the nearest of `public` (records, ...) against `true`.

    Images are (height, width) or (channels, height, width); `data_range` is the largest minus the smallest value that a
    pixel can have.
    """
    near = public[nearest(true, public)]
    image = true.ndim in (2, 3) and min(true.shape[-2:]) > 2 * _RADIUS
    both = [
        (mse(each, true), psnr(each, true, data_range), ssim(each, true, data_range) if image else float("nan"))
        for each in (recovered, near)
    ]
    return Fidelity(*both[0], *both[1])


def mse(a: Record, b: Record) -> float:
    """Mean squared difference."""
    return float(np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2))


def psnr(a: Record, b: Record, data_range: float = 1.0) -> float:
    """Peak signal-to-noise ratio, 10 log10(range^2 / MSE), in decibels; infinite where nothing differs."""
    error = mse(a, b)
    return float(10 * np.log10(data_range**2 / error)) if error else float("inf")


def ssim(a: Record, b: Record, data_range: float = 1.0) -> float:
    """Mean structural similarity of two images (height, width) or (channels, height, width), at most 1.

    Wang et al. 2004 (IEEE TIP 13(4), equation 13): a Gaussian window of 11 x 11 pixels and deviation 1.5, K1 = 0.01,
    K2 = 0.03, means over the places where the window fits whole, then over the channels. Raises ValueError for images
    smaller than the window.
    """
    if a.shape != b.shape or a.ndim not in (2, 3) or min(a.shape[-2:]) <= 2 * _RADIUS:
        raise ValueError(
            f"SSIM takes two images of one shape, at least 11 by 11 pixels; these are {a.shape}, {b.shape}"
        )
    a, b = a.astype(np.float64), b.astype(np.float64)
    mean_a, mean_b = _windowed(a), _windowed(b)
    var_a, var_b = _windowed(a * a) - mean_a**2, _windowed(b * b) - mean_b**2
    covariance = _windowed(a * b) - mean_a * mean_b
    c1, c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
    similar = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    return float(np.mean(similar / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))))


def nearest(record: Record, others: Images) -> int:
    """Number of the one of `others` with the smallest squared distance to `record`."""
    return int(((others.astype(np.float64) - record) ** 2).reshape(len(others), -1).sum(axis=1).argmin())


def paired(recovered: Images, true: Images) -> Int[np.ndarray, " images"]:
    """Which of `recovered` stands for each of `true`, so that all squared distances together are smallest.

    A batch comes back in any order. If there are fewer of `true`, the rest of `recovered` stand for none.
    """
    from scipy.optimize import linear_sum_assignment

    flat, target = (x.reshape(len(x), -1).astype(np.float64) for x in (recovered, true))
    cost = (target**2).sum(axis=1)[:, None] - 2 * target @ flat.T + (flat**2).sum(axis=1)
    return np.asarray(linear_sum_assignment(cost)[1])


def _windowed(image: Record) -> Record:
    from scipy.ndimage import gaussian_filter1d

    rows = gaussian_filter1d(image, _WINDOW, axis=-1, radius=_RADIUS)
    both = gaussian_filter1d(rows, _WINDOW, axis=-2, radius=_RADIUS)
    return np.asarray(both[..., _RADIUS:-_RADIUS, _RADIUS:-_RADIUS])
