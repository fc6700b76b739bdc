"""Coarse ranges: what is left in the file, and what the model still computes."""

import numpy as np
import pytest

from edge.artifact import Artifact
from edge.coarse import coarse_ranges
from edge.reading import read
from edge.runtimes import predict

NETS = ["mlp", "cnn", "windows", "depthwise", "residual", "group-norm"]


@pytest.mark.parametrize("name", NETS)
def test_every_end_is_a_power_of_two_further_out(name, exported):
    before, after = read(exported(name)).ranges, read(coarse_ranges(exported(name), 2.0)).ranges
    for old, new in zip(before, after, strict=True):
        width = new.high - new.low
        slack = 1.01 * new.scale  # the zero point is a whole number
        assert old.high - slack <= new.high <= 2 * old.high + slack
        assert 2 * old.low - slack <= new.low <= old.low + slack
        ends = [end for end in (new.high, -new.low) if end > slack]
        grid = np.array([a + b for a in [0, *2.0 ** np.arange(-12, 12)] for b in 2.0 ** np.arange(-12, 12)])
        assert np.abs(grid - width).min() < 1e-5 * width, ends


@pytest.mark.parametrize("name", NETS)
def test_answers_change_by_a_few_steps(name, trained, exported):
    """The device's own arithmetic on the new file: biases and scales still belong together."""
    plain, coarse = (Artifact.from_bytes(blob) for blob in (exported(name), coarse_ranges(exported(name), 2.0)))
    x = trained(name).fresh[:40]
    before, after = predict(plain, x), predict(coarse, x)
    assert (
        np.abs(after - trained(name).logits[:40]).mean() < 4 * np.abs(before - trained(name).logits[:40]).mean() + 0.02
    )
    assert (before.argmax(axis=1) == after.argmax(axis=1)).mean() >= 0.9


def test_two_calibration_sets_give_one_file(trained):
    """On a fine grid their ends differ, on a coarse one they do not."""
    from edge.export import export

    net = trained("windows")
    one, other = (export(net.model, net.x[rows]) for rows in (slice(0, 150), slice(150, 300)))
    assert [r.scale for r in read(one).ranges] != [r.scale for r in read(other).ranges]
    same = [
        a.scale == b.scale for a, b in zip(*(read(coarse_ranges(f, 4.0)).ranges for f in (one, other)), strict=True)
    ]
    assert np.mean(same) >= 0.6


def test_a_softmax_keeps_its_scale(exported):
    artifact = Artifact.from_bytes(coarse_ranges(exported("cnn", "probabilities"), 2.0))
    assert (artifact.answers, artifact.output.scale, artifact.output.zero_point) == ("probabilities", 1 / 256, -128)


def test_a_grid_of_one_point_is_refused(exported):
    with pytest.raises(ValueError, match="ratio 1: a grid needs a ratio above 1"):
        coarse_ranges(exported("cnn"), 1.0)
