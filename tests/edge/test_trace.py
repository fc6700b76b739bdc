"""A trace belongs to an architecture, not to a model's weights."""

import numpy as np
from torch import nn

from edge.export import export, trace


def test_a_trace_of_another_model_of_the_same_architecture_gives_the_same_file():
    records = np.random.default_rng(0).normal(size=(20, 4, 16)).astype(np.float32)
    first, second = (
        nn.Sequential(nn.Conv1d(4, 8, 4, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
        for _ in range(2)
    )
    shared = trace(first, records)
    assert export(second, records, traced=shared) == export(second, records)
    assert export(first, records, traced=shared) != export(second, records, traced=shared)
