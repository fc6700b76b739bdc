"""Batched answers and TFLite Micro's, side by side."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np
import pytest
import torch

from edge.arithmetic import compiled
from edge.arithmetic.network import Slot, network
from edge.artifact import Artifact, Port
from edge.runtimes.tflm import TFLM


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """What callers are told to do where processors are shared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def artifact_of(model: bytes) -> Artifact:
    """Any file, whatever the shapes at its ends."""
    read = network(model)
    output = _port(read.result)
    flat = Port((1, prod(output.shape)), output.numbers, output.scale, output.zero_point)
    return Artifact(model, _port(read.source), flat, "logits")


def _port(slot: Slot) -> Port:
    return Port(slot.shape, slot.numbers, slot.scale if len(slot.scales) else 1.0, slot.zero_point)


def records(port: Port, count: int, rng: np.random.Generator) -> np.ndarray:
    """Over the whole range, with rows that hold one of its ends throughout; real numbers of several magnitudes."""
    shape = (count, *port.shape[1:])
    if port.numbers == "float32":
        return (rng.normal(size=shape) * 10 ** rng.uniform(-2, 2, (count, *[1] * (len(shape) - 1)))).astype(np.float32)
    ends = np.iinfo(port.numbers)
    levels = rng.integers(ends.min, ends.max + 1, shape)
    levels[0], levels[1] = ends.min, ends.max
    return levels.astype(port.numbers)


@pytest.fixture
def differing() -> Callable[..., int]:
    """Rows in which the batched answers differ from TFLite Micro's."""

    def count(model: bytes, rows: int = 20, seed: int = 0) -> int:
        artifact = artifact_of(model)
        inputs = records(artifact.input, rows, np.random.default_rng(seed))
        return int((compiled(model)(inputs) != TFLM.run(artifact, inputs)).any(axis=1).sum())

    return count
