"""Randomness is an argument: every generator is derived from the seed and a purpose, never from a global state."""

from __future__ import annotations

import hashlib
import secrets

import numpy as np
import torch


def generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """A NumPy generator that depends on `seed` and `purpose` only, e.g. `generator(7, "train", round, client)`.

    Different purposes give independent streams: the parts, joined by `/` as text, are hashed into the seed sequence's
    spawn key. So `"a/b"` is the same purpose as `"a", "b"`.
    """
    digest = hashlib.sha256("/".join(map(str, purpose)).encode()).digest()
    key = tuple(int.from_bytes(digest[i : i + 4], "little") for i in range(0, 16, 4))
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


class SystemGenerator(np.random.Generator):
    """A generator keyed by the operating system's randomness: nobody can draw from it again.

    Philox, a counter under 128 fresh bits of key, so that numbers that are known give no state away from which the
    others would follow. Noise is still floating point.
    """

    def __init__(self) -> None:
        super().__init__(np.random.Philox(key=secrets.randbits(128)))


def noise_generator(seed: int | None, *purpose: str | int) -> np.random.Generator:
    """What noise that protects is drawn from: as `generator`, so that a run can be repeated, or without a seed from the
    operating system.
    """
    return SystemGenerator() if seed is None else generator(seed, *purpose)


def torch_generator(rng: np.random.Generator) -> torch.Generator:
    """A torch generator on the CPU, seeded with the next draw of `rng`."""
    return torch.Generator().manual_seed(int(rng.integers(2**63 - 1)))
