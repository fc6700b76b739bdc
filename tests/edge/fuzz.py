"""Hostile TFLite files and arrays, made from good ones: the same for the same generator.

`model(seeds, rng)` is a file with one to three faults, `array(rng, shape)` an array that somebody might hand in.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np

from tests.edge.fuzz_edits import CANARY, EDITS, edited, one

__all__ = ["CANARY", "array", "model"]


def model(seeds: list[bytes], rng: np.random.Generator) -> tuple[str, bytes]:
    """What was done to a file, and the file."""
    blob, done = seeds[rng.integers(len(seeds))], []
    for _ in range(rng.integers(1, 4)):
        name = list(FAULTS)[rng.integers(len(FAULTS))]
        try:
            blob = FAULTS[name](blob, rng, seeds)
        except (struct.error, TypeError, ValueError, IndexError, AttributeError, OverflowError, AssertionError):
            continue  # the file is too broken already to be edited, or the fault cannot be written down
        done.append(name)
    return "+".join(done) or "none", blob


# Faults in the bytes


def bit_flips(blob, rng, seeds):
    body = np.frombuffer(blob, np.uint8).copy()
    for at in rng.integers(0, len(body), rng.integers(1, 33)):
        body[at] ^= 1 << rng.integers(8)
    return body.tobytes()


def noise(blob, rng, seeds):
    at, length = rng.integers(len(blob)), rng.integers(1, 200)
    return blob[:at] + rng.bytes(length) + blob[at + length :]


def header_noise(blob, rng, seeds):
    """The tables with the offsets are at the front or at the back."""
    body = bytearray(blob)
    for _ in range(rng.integers(1, 8)):
        at = int(rng.integers(8, min(400, len(body)))) if rng.random() < 0.5 else len(body) - int(rng.integers(1, 400))
        body[max(0, at)] = int(rng.integers(256))
    return bytes(body)


def offsets(blob, rng, seeds):
    """A 32-bit word becomes an extreme one, or one that points back."""
    at = 4 * int(rng.integers(len(blob) // 4))
    word = [0, 1, 4, 0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, len(blob), len(blob) - 4, at, 0xFFFFFFFC][rng.integers(10)]
    return blob[:at] + struct.pack("<I", word) + blob[at + 4 :]


def truncated(blob, rng, seeds):
    return blob[: rng.integers(len(blob) + 1)]


def spliced(blob, rng, seeds):
    other = seeds[rng.integers(len(seeds))]
    return blob[: rng.integers(len(blob))] + other[rng.integers(len(other)) :]


def repeated(blob, rng, seeds):
    at, length = rng.integers(len(blob)), rng.integers(1, 5000)
    return blob[:at] + blob[at : at + length] * int(rng.integers(2, 20)) + blob[at + length :]


def appended(blob, rng, seeds):
    return blob + rng.bytes(rng.integers(1, 10_000))


BYTES = (bit_flips, noise, header_noise, offsets, truncated, spliced, repeated, appended)
FAULTS: dict[str, Callable] = {
    **{fault.__name__: fault for fault in BYTES},
    **{fault.__name__: edited(fault) for fault in EDITS},
}

# Arrays


def array(rng: np.random.Generator, shape: tuple[int, ...]):
    """Records for a model that takes `shape`, half of them not as they should be."""
    rows = rng.normal(size=(int(rng.integers(1, 5)), *shape)).astype(np.float32)
    return rows if rng.random() < 0.5 else one(ARRAYS, rng)(rows, rng)


def spoilt(rows, value):
    rows.flat[rows.size // 2] = value
    return rows


ARRAYS = (
    lambda rows, rng: rows,
    lambda rows, rng: rows.reshape(len(rows), -1),
    lambda rows, rng: rows * np.float32(1e38),
    lambda rows, rng: spoilt(rows, np.nan),
    lambda rows, rng: spoilt(rows, -np.inf),
    lambda rows, rng: rows[:0],
    lambda rows, rng: rows[..., :-1],
    lambda rows, rng: rows[0, ..., 0],
    lambda rows, rng: np.float32(3),
    lambda rows, rng: rows.astype(object),
    lambda rows, rng: np.array([None, print, "x"], dtype=object).reshape(1, 3),
    lambda rows, rng: rows.astype("U8"),
    lambda rows, rng: rows.astype(np.complex64),
    lambda rows, rng: rows.astype(np.float64) * 1e300,
    lambda rows, rng: np.full(rows.shape, 2**63, np.uint64),
    lambda rows, rng: rows[::-1, ::-1],
    lambda rows, rng: np.broadcast_to(np.float32(1), (3, 10**9)),
    lambda rows, rng: rows.view(np.uint8),
    lambda rows, rng: np.zeros(3, dtype=[("a", "f4"), ("b", "O")]),
    lambda rows, rng: np.array(["2020-01-01"], "M8[D]").reshape(1, 1),
)
