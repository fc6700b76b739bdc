"""Which attacks are compared with which, and that both sides of a comparison are of the same records."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from edge.config import EdgeConfig
from sim.judge import Judged, Truth
from sim.paired import comparisons
from sim.results import AttackResult
from sim.score import auc

SCENARIO = SimpleNamespace(seed=5, edge=EdgeConfig())  # all that is asked of a scenario here
MODELS = {
    "training": ("server", "global", "float32"),
    "global float32": ("global-user", "global", "float32"),
    "global int8": ("global-user", "global", "int8"),
    "personal float32": ("query", "personal", "float32"),
    "personal int8": ("query", "personal", "int8"),
}


@pytest.fixture(scope="module")
def truth():
    count = np.arange(240)
    return Truth(
        member=count % 2 == 0, client=count // 40, person=count // 80, label=count % 3, classes=("a", "b", "c")
    )


@pytest.fixture(scope="module")
def judged(truth):
    rng = np.random.default_rng(2)
    tried = [("cosine", "training"), *((a, m) for m in MODELS if m != "training" for a in ("loss", "rmia"))]
    return [one(attack, model, rng.normal(size=240) + 0.5 * truth.member, truth) for attack, model in tried]


def one(attack, model, scores, truth):
    vantage, target, precision = MODELS[model]
    result = AttackResult.model_construct(
        attack=attack, vantage=vantage, target=target, precision=precision, output="logits"
    )
    return Judged(result, scores, truth)


def test_each_attack_is_compared_with_itself_on_another_model(judged, truth):
    found = [(c.question, c.attack, c.before, c.after) for c in comparisons(SCENARIO, judged, truth)]
    sides = [
        ("personalising", "global float32", "personal float32"),
        ("rounding", "global float32", "global int8"),
        ("rounding", "personal float32", "personal int8"),
    ]
    assert found == [(question, attack, *models) for question, *models in sides for attack in ("loss", "rmia")]


def test_a_difference_is_after_less_before_and_the_same_every_time(judged, truth):
    first = comparisons(SCENARIO, judged, truth)
    scores = {(j.result.attack, j.result.vantage, j.result.precision): j.scores for j in judged}
    before, after = scores["loss", "global-user", "float32"], scores["loss", "query", "float32"]
    assert first[0].auc_difference == pytest.approx(auc(after, truth.member) - auc(before, truth.member))
    assert comparisons(SCENARIO, judged, truth) == first


def test_an_attack_on_one_model_only_is_not_compared(judged, truth):
    assert comparisons(SCENARIO, judged[:3], truth) == []
