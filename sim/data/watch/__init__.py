"""Shoulder exercises recorded with a smartwatch: 10 people, both wrists, 7 exercises. Shipped with the package.

The windows do not overlap, so no record shares a sample with another. Values are scaled by fixed physical units,
not by statistics of the records: a mean taken over the members would tell of them.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from sim.data.dataset import DataError, Dataset, check
from sim.data.npz import read

TITLE = "shoulder exercises with a smartwatch (Burns et al. 2018, seglearn 1.2.5)"
HOW = "shipped with seepage"
FILE = Path(__file__).with_name("windows.npz")
FILE_SHA256 = "db8b739c8414dadbf3f78a43b11866f5343fb639a9dba515cc3eeb6c5e1ca0b7"
# The same for the arrays inside, which does not change with the version of the compressor.
CONTENT_SHA256 = "dadb73012bb9609c24c67e3982761e1bdb678832d3cb12901d3ef8af37b54d5b"
RECORDS, AXES, SAMPLES, HERTZ = 2369, 6, 100, 50
EXERCISES = (
    "pendulum",
    "abduction",
    "forward elevation",
    "internal rotation",
    "external rotation",
    "lower trapezius row",
    "bent-over row",
)
# One unit of x is 1 g for the three accelerometer axes and half a turn a second for the three gyroscope axes.
UNITS = np.array([1, 1, 1, np.pi, np.pi, np.pi], dtype=np.float32)
CHANNELS = (
    *(f"acceleration along {axis} in g" for axis in "xyz"),
    *(f"rotation about {axis} in half turns a second" for axis in "xyz"),
)


def load() -> Dataset:
    """2,369 windows of shape (6, 100): two seconds at 50 Hz of acceleration (g) and rotation (half turns a second).

    20 natural clients: a device is one wrist of one person.

    Raises:
        DataError: the shipped file is not the one that was released.
    """
    if hashlib.sha256(FILE.read_bytes()).hexdigest() != FILE_SHA256:
        raise DataError(f"{FILE}: not the file that seepage was released with. Install seepage again.")
    arrays = read(FILE, str(FILE), required=("x", "y", "person", "right"))
    x = arrays["x"].astype(np.float32) / UNITS[:, None]
    assert x.shape == (RECORDS, AXES, SAMPLES)
    person = arrays["person"].astype(np.int64)
    return check(
        Dataset(
            source="watch",
            title=TITLE,
            licence="BSD-3-Clause (David M. Burns)",
            synthetic=False,
            names_people=True,
            x=x,
            y=arrays["y"].astype(np.int64),
            classes=EXERCISES,
            client=2 * (person - 1) + arrays["right"].astype(np.int64),
            client_names=tuple(f"person {p}, {side} wrist" for p in range(1, 11) for side in ("left", "right")),
            person=tuple(f"person {p}" for p in range(1, 11) for _ in range(2)),
            channels=CHANNELS,
            hertz=HERTZ,
        )
    )
