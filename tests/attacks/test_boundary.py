"""HopSkipJump where the distance to the boundary is known: a linear classifier."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from attacks import boundary
from attacks.observation import Observation, Oracle, Records, VantageLacksError

FEATURES = 20
WEIGHTS = np.random.default_rng(5).normal(size=FEATURES)
OFFSET = 0.3


def linear(x):
    score = x.reshape(len(x), -1) @ WEIGHTS + OFFSET
    return np.column_stack([-score, score]).astype(np.float32)


def labelled(x):
    return Records(x.astype(np.float32), linear(x).argmax(axis=1))


def drawn(count, seed=0):
    return labelled(np.random.default_rng(seed).normal(size=(count, FEATURES)))


def true_distance(x):
    return np.abs(x.reshape(len(x), -1) @ WEIGHTS + OFFSET) / np.linalg.norm(WEIGHTS)


def found(queries, asked=None, answer=linear):
    asked = drawn(150) if asked is None else asked
    return boundary.distance(answer, asked, drawn(200, 1).x, boundary.planned(queries), np.random.default_rng(0))


@pytest.mark.parametrize(("queries", "typical", "most"), [(120, 1.5, 2.2), (400, 1.1, 1.4), (2_000, 1.01, 1.05)])
def test_linear_classifier(queries, typical, most):
    """Never nearer than the truth, and closer to it the more may be asked."""
    over = found(queries) / true_distance(drawn(150).x)
    assert over.min() > 1 - 1e-5
    assert np.median(over) < typical
    assert np.quantile(over, 0.95) < most


def test_the_order_of_distances_needs_few_queries():
    assert spearmanr(found(120), true_distance(drawn(150).x)).statistic > 0.9


def test_a_wrong_answer_is_at_no_distance():
    right = drawn(150)
    y = right.y.copy()
    y[::3] = 1 - y[::3]
    distances = found(120, Records(right.x, y))
    assert (distances[::3] == 0).all() and (distances[1::3] > 0).all()


def test_records_of_any_shape():
    flat = drawn(40)
    shaped = Records(flat.x.reshape(-1, 4, 5), flat.y)
    seeds = drawn(200, 1).x
    by_shape = [
        boundary.distance(linear, asked, own, boundary.planned(200), np.random.default_rng(0))
        for asked, own in ((flat, seeds), (shaped, seeds.reshape(-1, 4, 5)))
    ]
    np.testing.assert_allclose(*by_shape)


def test_a_model_that_rounds_its_input_to_int8():
    """Steps of 6/256: the paper's radius of a distance over d would move fewer than half of the inputs."""
    over = found(2_000, answer=lambda x: linear(np.round(x * 256 / 6) * 6 / 256)) / true_distance(drawn(150).x)
    assert 0.9 < np.median(over) < 1.05


@given(st.integers(9, 5_000))
def test_a_plan_keeps_to_its_queries(queries):
    plan = boundary.planned(queries)
    assert min(plan, default=1) >= 1
    assert 1 + boundary.HALVINGS + sum(count + boundary.HALVINGS + boundary._JUMPS for count in plan) <= queries


@pytest.mark.parametrize("budget", [3_500, 10_000, 100_000])
def test_keeps_to_the_budget(budget):
    oracle = Oracle(linear, budget=budget)
    observation = Observation(vantage="query", candidates=drawn(100), population=drawn(150, 1), oracle=oracle)
    boundary.run(observation, np.random.default_rng(0))
    assert 0.2 * min(budget, 24_000) < oracle.queries <= budget


def test_nowhere_to_start_from():
    observation = Observation(
        vantage="query",
        candidates=drawn(5),
        population=drawn(20),
        oracle=Oracle(lambda x: np.eye(2)[np.zeros(len(x), int)]),
    )
    with pytest.raises(VantageLacksError, match="own records that the model answers with another label"):
        boundary.run(observation, np.random.default_rng(0))


def test_all_wrong_is_all_zero():
    right = drawn(30)
    assert not found(120, Records(right.x, 1 - right.y)).any()


THEIRS = """
import sys
import numpy as np
from art.attacks.evasion import HopSkipJump
from art.estimators.classification import BlackBoxClassifier
given = np.load(sys.argv[1] + "/given.npz")
asked = 0
def predict(x):
    global asked
    asked += len(x)
    score = x @ given["weights"] + given["offset"]
    return np.column_stack([-score, score])
classifier = BlackBoxClassifier(predict, input_shape=given["x"].shape[1:], nb_classes=2, clip_values=(-9.0, 9.0))
attack = HopSkipJump(classifier, norm=2, max_iter=12, init_eval=60, max_eval=400, init_size=50, verbose=False)
moved = attack.generate(given["x"])
distance = np.linalg.norm(moved - given["x"], axis=1)
np.savez(sys.argv[1] + "/found.npz", distance=distance, queries=asked / len(moved))
"""


@pytest.mark.slow
def test_art(tmp_path):
    """On the same records with as many queries (1,884 each) as ART's HopSkipJump took: 1.01 and 1.29 of the truth."""
    packages, right = tmp_path / "packages", drawn(25)
    wanted = ["adversarial-robustness-toolbox==1.20.1", "six"]
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", packages, *wanted]
    subprocess.run(install, check=True)
    np.savez(tmp_path / "given.npz", x=right.x, weights=WEIGHTS, offset=OFFSET)
    environment = os.environ | {"PYTHONPATH": str(packages)}
    subprocess.run([sys.executable, "-c", THEIRS, tmp_path], check=True, env=environment, cwd=tmp_path)
    theirs = np.load(tmp_path / "found.npz")
    ours, truth = found(int(theirs["queries"]), right), true_distance(right.x)
    assert min(*(theirs["distance"] / truth), *(ours / truth)) > 1 - 1e-5
    assert np.median(ours / truth) <= np.median(theirs["distance"] / truth) < 1.5
