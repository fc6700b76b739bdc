"""What a bulk query costs: TFLite Micro, one record at a time, against the device's arithmetic on batches.

Run: python benchmarks/device_arithmetic.py        (two minutes, most of them TensorFlow's converter)
The same 2,000 records, random over the whole int8 range, one thread, CPU time of the fastest of a few runs; TFLite
Micro is timed on some of them. Every record that both answer is compared. Ratio: TFLite Micro over ours.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - as everybody calls it

from clients.models import ModelConfig, build_model
from edge.arithmetic import compiled
from edge.artifact import Artifact
from edge.export import export
from edge.runtimes import run

RECORDS, SOME = 2_000, 200  # answered by ours; by TFLite Micro
REPEATS = 3
SHAPES = {"mlp": (561,), "cnn": (1, 28, 28), "cnn1d": (9, 128), "ds-cnn": (1, 49, 10)}


class Block(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, inside: int, outside: int, stride: int):
        super().__init__()
        self.first = nn.Conv2d(inside, outside, 3, stride, 1)
        self.second = nn.Conv2d(outside, outside, 3, 1, 1)
        self.shortcut = nn.Conv2d(inside, outside, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x):
        return F.relu(self.second(F.relu(self.first(x))) + self.shortcut(x))


def resnet() -> nn.Module:
    """As MLPerf Tiny's ResNet-8: 12.5 million products for 32 x 32 pixels."""
    stem = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1), nn.ReLU())
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    return nn.Sequential(stem, Block(16, 16, 1), Block(16, 32, 2), Block(32, 64, 2), head)


def nets() -> Iterator[tuple[str, tuple[int, ...], nn.Module]]:
    draw = torch.Generator().manual_seed(0)
    for name, shape in SHAPES.items():
        yield name, shape, build_model(ModelConfig(name=name), shape, 10, draw)
    yield "resnet-8", (3, 32, 32), resnet()


def fastest(work: Callable[[], object], repeats: int = REPEATS) -> float:
    """CPU seconds of the fastest of a few runs."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def main() -> None:
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    print(f"{'net':<10} {'TFLite Micro':>14} {'ours':>12} {'ratio':>8} {'rows differing':>16}")
    for name, shape, model in nets():
        artifact = Artifact.from_bytes(export(model, rng.normal(size=(64, *shape)).astype(np.float32)))
        inputs = rng.integers(-128, 128, (RECORDS, *artifact.input.shape[1:]), dtype=np.int8)
        batched = compiled(artifact.model)
        differing = (batched(inputs)[:SOME] != run(artifact, inputs[:SOME], "tflm")).any(axis=1).sum()
        one = fastest(lambda a=artifact, x=inputs[:SOME]: run(a, x, "tflm")) / SOME * 1e6
        ours = fastest(lambda b=batched, x=inputs: b(x)) / RECORDS * 1e6
        print(f"{name:<10} {one:>11,.0f} us {ours:>9,.1f} us {one / ours:>7.1f}x {differing:>11} of {SOME}")


if __name__ == "__main__":
    main()
