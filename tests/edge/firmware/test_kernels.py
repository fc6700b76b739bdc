"""Each of our own kernels, alone in a file, against TFLite Micro over a spread of scales."""

import numpy as np
import pytest

from edge.firmware import build, run

pytestmark = pytest.mark.usefixtures("toolchain")


@pytest.fixture
def differing(tmp_path, inputs, on_tflm):
    """How many rows of a file's answers differ, and the answers."""

    def compare(model, count=400):
        rows = inputs(model, count)
        outputs = run(build(model, tmp_path), rows).outputs
        return int((outputs != on_tflm(model, rows)).any(axis=1).sum()), outputs

    return compare


@pytest.mark.parametrize(
    ("scale", "beta", "classes"),
    [
        (0.002, 1.0, 10),
        (0.05, 1.0, 2),
        (0.11, 1.0, 40),
        (0.4, 1.0, 10),
        (3.0, 1.0, 5),
        (20.0, 1.0, 5),
        (0.07, 2.5, 300),
    ],
)
def test_softmax(scale, beta, classes, single, differing):
    ends = ((1, classes), scale, 17), ((1, classes), 1 / 256, -128)
    count, outputs = differing(single("SOFTMAX", *ends, ("SoftmaxOptions", {"beta": beta})))
    assert count == 0
    assert len(np.unique(outputs)) > 2


@pytest.mark.parametrize(
    ("before", "after", "shape", "axes", "keep"),
    [
        ((0.05, -128), (0.03, -128), (1, 7, 5, 12), [1, 2], False),
        ((0.05, -128), (0.05, -128), (1, 7, 5, 12), [1, 2], True),  # equal scales: no shortcut
        ((0.05, -7), (0.31, 44), (1, 1, 33, 6), [2, 1], False),
        ((0.1, 5), (0.02, -3), (1, 4, 4, 3), [-3, -2], False),  # to a finer scale: clipped at both ends
        ((0.02, 5), (0.011, 9), (1, 6, 10), [2], False),
        ((0.02, 5), (0.011, 9), (1, 3, 3, 3), [1], True),
    ],
)
def test_mean(before, after, shape, axes, keep, single, differing):
    reduced = {axis % len(shape) for axis in axes}
    kept = [1 if axis in reduced else side for axis, side in enumerate(shape)]
    result = kept if keep else [side for axis, side in enumerate(shape) if axis not in reduced]
    model = single("MEAN", (shape, *before), (result, *after), ("ReducerOptions", {"keepDims": keep}), [axes])
    count, outputs = differing(model)
    assert count == 0
    assert len(np.unique(outputs)) > 2


@pytest.mark.parametrize("kind", ["QUANTIZE", "RELU"])
@pytest.mark.parametrize(("before", "after"), [((0.05, 3), (0.013, -20)), ((0.02, -128), (0.3, 100))])
def test_from_one_scale_to_another(kind, before, after, single, differing):
    shape = (1, 64)
    assert differing(single(kind, (shape, *before), (shape, *after)))[0] == 0


@pytest.mark.parametrize("kind", ["RESHAPE", "SQUEEZE"])
def test_a_model_that_computes_nothing_is_refused(kind, single, tmp_path):
    with pytest.raises(RuntimeError, match="computes nothing"):
        build(single(kind, ((1, 4, 1), 0.1, 0), ((1, 4), 0.1, 0)), tmp_path)
