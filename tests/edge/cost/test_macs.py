"""Multiply-accumulates by hand, and MLPerf Tiny's own models against the counts that are published with its times."""

import numpy as np
import pytest

from clients.models import new_model
from clients.randomness import generator, torch_generator
from edge.artifact import ArtifactError
from edge.cost.anchors import TINY
from edge.cost.macs import count
from edge.export import export

NATIVE = {
    "ad": ("autoencoder", (640,), 1),
    "ic": ("resnet8", (3, 32, 32), 10),
    "kws": ("ds-cnn", (1, 49, 10), 12),
    "vww": ("mobilenet-v1-0.25", (3, 96, 96), 2),
}


def test_a_small_network_by_hand(exported):
    work = count(exported("depthwise"))  # 16x16 to 8x8x8 to 4x4x8 to 4x4x16 to 4
    assert work.macs == {
        "CONV_2D": 8 * 8 * 8 * 9 * 1 + 4 * 4 * 16 * 8,
        "DEPTHWISE_CONV_2D": 4 * 4 * 8 * 9,
        "FULLY_CONNECTED": 16 * 4,
    }
    assert work.total_macs == 6656 + 1152 + 64
    assert work.elements == {"PAD": 18 * 18 * 1 + 10 * 10 * 8, "MEAN": 4 * 4 * 16}
    assert work.numbers == "int8"
    assert work.uncounted == ()


def test_a_reshape_computes_nothing_and_an_addition_its_elements(exported):
    work = count(exported("residual"))
    assert work.elements == {"ADD": 8 * 8 * 8, "MAX_POOL_2D": 8 * 8 * 8, "RESHAPE": 0}


@pytest.mark.parametrize(
    ("variant", "numbers"),
    [("int8", "int8"), ("float32", "float32"), ("int16x8", "int16x8"), ("int4", "int4 weights")],
)
def test_every_variant_computes_the_same_in_its_own_numbers(exported, variant, numbers):
    work = count(exported("cnn", variant=variant))
    assert work.numbers == numbers
    assert work.macs == {"CONV_2D": 8 * 8 * 8 * 9 * 2, "FULLY_CONNECTED": 128 * 4}


@pytest.mark.parametrize("model", TINY)
def test_mlperf_tiny_s_models_have_the_published_counts(model):
    name, shape, classes = NATIVE[model]
    network = new_model(name, shape, classes, torch_generator(generator(1, "test")))
    work = count(export(network.eval(), np.zeros((4, *shape), dtype=np.float32), "float32"))
    assert work.macs == TINY[model]


@pytest.mark.parametrize("size", [0, 7, 40, 400])
def test_what_is_no_model_is_refused(exported, size):
    with pytest.raises(ArtifactError, match="the TFLite file is damaged"):
        count(exported("cnn")[:size])


def test_a_damaged_model_is_counted_or_refused_and_nothing_else(exported):
    rng, whole = np.random.default_rng(5), exported("cnn")
    refused = 0
    for _ in range(300):
        bytes_ = np.frombuffer(whole, np.uint8).copy()
        bytes_[rng.integers(len(bytes_), size=3)] = rng.integers(256, size=3)
        try:
            count(bytes_.tobytes())
        except ArtifactError:
            refused += 1
    assert 0 < refused < 300
