"""Handwritten digits of 8 x 8 pixels, from scikit-learn: small, installed already, and without known writers."""

from __future__ import annotations

import numpy as np

from sim.data.dataset import Dataset, check

TITLE = "digits (scikit-learn's copy of UCI optdigits)"


def load() -> Dataset:
    """1,797 grey images of shape (1, 8, 8) from 0 to 1, 10 classes. The writers are unknown: no natural clients."""
    from sklearn.datasets import load_digits  # a second to import: only for those who ask for it

    bunch = load_digits()
    return check(
        Dataset(
            source="digits",
            title=TITLE,
            licence="UCI data, shipped with scikit-learn (BSD-3-Clause)",
            synthetic=False,
            x=(bunch.images[:, None] / 16).astype(np.float32),
            channels=("ink from 0 (none) to 1",),
            y=bunch.target.astype(np.int64),
            classes=tuple(map(str, range(10))),
        )
    )
