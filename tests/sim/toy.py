"""The toy federation that attacks are calibrated on: small enough to run whole, large enough to order them."""

from __future__ import annotations

import numpy as np

SCENARIO = """
name = "toy"
seed = 1
[data]
source = "npz:{file}"
partition = "iid"
clients = 20
newcomers = 10
records_per_client = 240
member_share = 0.25
[population]
people = 3
records = 500
[model]
name = "mlp"
width = 64
[federation]
rounds = 60
participation = 0.5
[training]
epochs = 2
batch_size = 10
learning_rate = 0.05
[personalization]
epochs = 15
batch_size = 10
learning_rate = 0.05
[attacks]
names = [{names}]
references = 4
"""


def write(folder, names):
    """The scenario's file, beside its data: ten classes of Gaussian records in 50 dimensions, means N(0, 0.45^2)."""
    rng = np.random.default_rng(5)
    means, y = rng.normal(scale=0.45, size=(10, 50)), rng.integers(10, size=6_000)
    np.savez(folder / "toy.npz", x=(means[y] + rng.normal(size=(len(y), 50))).astype(np.float32), y=y)
    file = folder / "toy.toml"
    listed = ", ".join(f'"{name}"' for name in names)
    file.write_text(SCENARIO.format(file=folder / "toy.npz", names=listed))
    return file
