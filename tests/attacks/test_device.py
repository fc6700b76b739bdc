"""What a model's weights show of single records, by hand; the registry's contracts are in tests/contracts."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from attacks.device import gradient, gradient_calibrated, joined, look_inside
from attacks.observation import Observation, Opened, Oracle, Records, Reference, VantageLacksError

# Two inputs, two classes, weights zero: p = (1/2, 1/2) whatever the record, and |p - e_y| = 1 / sqrt(2).
ZERO = np.zeros(6, dtype=np.float32)
X = np.array([[3.0, 4.0], [0.0, 1.0], [0.0, 0.0]], dtype=np.float32)
Y = np.array([0, 1, 1])


def linear():
    return nn.Linear(2, 2)


def test_gradient_of_softmax_regression_by_hand():
    """|g|^2 = |p - e_y|^2 (|x|^2 + 1), the one for the bias."""
    inside = look_inside(linear(), ZERO, Records(X, Y), slice(None))
    assert inside.gradient == pytest.approx([math.log(math.sqrt(0.5 * (s + 1))) for s in (25, 1, 0)], abs=1e-6)
    assert inside.head[:2] == pytest.approx([math.log(math.sqrt(0.5) * s) for s in (5, 1)], abs=1e-6)
    assert inside.size[:2] == pytest.approx([math.log(5), 0], abs=1e-6)
    assert np.isfinite(inside.head[2])


def test_distance_to_the_class_s_mean_by_hand():
    """Class 1 has its mean at (0, 1/2); class 0 one record only, which is its mean."""
    distance = look_inside(linear(), ZERO, Records(X, Y), slice(None)).distance
    assert distance[1:] == pytest.approx([math.log(0.5)] * 2)
    assert distance[0] < -80


def test_activations_are_those_before_the_last_layer():
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 2))
    weights = np.concatenate([[2, 0, 0, -1], ZERO]).astype(np.float32)  # h = (2 x0, 0) for positive x
    assert look_inside(model, weights, Records(X, Y), slice(None)).size[0] == pytest.approx(math.log(6))


def observation(references):
    file = Opened(ZERO, np.zeros(1), np.ones(1), lambda x, rng: (x, x), 10)
    return Observation(
        vantage="device",
        candidates=Records(X[:2], Y[:2]),
        population=Records(X[1:], Y[1:]),
        oracle=Oracle(lambda x: np.zeros((len(x), 2), dtype=np.float32)),
        references=references,
        architecture=linear(),
        file=file,
    )


def test_calibration_takes_off_what_references_find_hard():
    """A reference that is the target itself leaves nothing."""
    same = Reference(lambda x: np.zeros((len(x), 2), dtype=np.float32), np.array([False, True]), ZERO)
    rng = np.random.default_rng(0)
    assert gradient(observation(()), rng).scores == pytest.approx([-math.log(math.sqrt(13)), 0.0], abs=1e-6)
    guess = gradient_calibrated(observation((same,)), rng)
    assert guess.scores == pytest.approx([0.0, 0.0])
    assert np.isnan(guess.population_scores[1])


def test_references_without_weights_do_not_do():
    bare = Reference(lambda x: np.zeros((len(x), 2), dtype=np.float32), np.array([False, True]))
    with pytest.raises(VantageLacksError, match="weights of reference models"):
        joined(observation((bare,)), np.random.default_rng(0))


def test_references_that_trained_on_everything_do_not_do():
    full = Reference(lambda x: np.zeros((len(x), 2), dtype=np.float32), np.array([True, True]), ZERO)
    with pytest.raises(VantageLacksError, match="on a part of the population"):
        joined(observation((full,)), np.random.default_rng(0))


def test_a_model_without_a_linear_layer_is_refused():
    with pytest.raises(VantageLacksError, match="ends in a linear layer"):
        look_inside(nn.Conv1d(1, 2, 2), np.zeros(6, dtype=np.float32), Records(X[:, None], Y), slice(None))


def test_the_model_is_left_as_it_was():
    model = linear()
    before = torch.cat([p.detach().ravel() for p in model.parameters()]).clone()
    look_inside(model, ZERO, Records(X, Y), slice(None))
    assert torch.equal(torch.cat([p.detach().ravel() for p in model.parameters()]), before)
    assert not model._forward_pre_hooks
