"""What the attacks that only query a model promise beyond their goldens: order, ties, honesty of own scores."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from attacks import quantile, shadow, signals
from attacks.difficulty import beaten
from attacks.lira import deviation
from attacks.observation import Observation, Oracle, Records, Reference, VantageLacksError
from attacks.references import halves, same_tail
from attacks.registry import launch
from attacks.thresholds import per_class, tails
from clients.models import new_model
from clients.training import TrainingConfig, logits, train
from sim.data.purchase_like import PurchaseOptions
from sim.data.registry import load
from sim.score import auc

eighths = st.integers(-24, 24).map(lambda n: n / 8)


@settings(deadline=None)
@given(arrays(np.float64, (6, 4), elements=st.floats(-30, 30)), arrays(np.int64, 6, elements=st.integers(0, 3)))
def test_logits_and_probabilities_say_the_same(answers, labels):
    p = np.exp(answers - answers.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    for signal in (signals.entropy, signals.modified_entropy):
        np.testing.assert_allclose(signal(answers, labels), signal(p, labels, "probabilities"), rtol=1e-6, atol=1e-12)
    mine, rest = signals.shares(answers)
    np.testing.assert_allclose(mine + rest, 1, atol=1e-12)


def test_the_favourite_is_never_summed_by_subtraction():
    p, rest = signals.shares(np.array([[60.0, 0.0, 0.0]]))
    assert p[0, 0] == 1.0
    assert rest[0, 0] == pytest.approx(2 * np.exp(-60), rel=1e-12)


@settings(deadline=None)
@given(arrays(np.float64, 7, elements=eighths), arrays(np.float64, 5, elements=eighths))
def test_tails_count_what_is_above(x, z):
    of_x, of_z = tails(x, z)
    np.testing.assert_allclose(of_x * 6, (z[None] > x[:, None]).sum(axis=1) + 1 / (1 + np.exp(x)), atol=1e-12)
    np.testing.assert_allclose(of_z * 6, (z[None] > z[:, None]).sum(axis=1) + 1 / (1 + np.exp(z)), atol=1e-12)


def test_per_class_takes_a_class_of_its_own_difficulty_into_account():
    """Two easy classes, one of them by 10 nats: the same loss is a surprise in one and none in the other."""
    rng = np.random.default_rng(0)
    z, labels = rng.normal(size=6_000), np.repeat([0, 1], 3_000)
    z[labels == 1] += 10
    (hard, easy), own = per_class(np.array([5.0, 5.0]), np.array([0, 1]), z, labels)
    assert hard > 8 > 0.1 > easy
    assert stats.ks_2samp(own[labels == 0], own[labels == 1]).pvalue > 0.01


def test_surest_records_do_not_tie():
    own = np.zeros(50)
    scores, _ = per_class(np.array([40.0, 60.0, 600.0]), np.zeros(3, int), own, np.zeros(50, int))
    assert (np.diff(scores) > 1).all()
    losses = np.array([1e-30, 1e-20, 0.0])
    assert len(set(beaten(losses, np.array([[30.0, 60.0, 700.0]]), np.ones((1, 3), dtype=bool)))) == 3


def test_beaten_without_a_reference_is_nan():
    out = np.array([[True, False]])
    np.testing.assert_array_equal(np.isnan(beaten(np.ones(2), np.ones((1, 2)), out)), [False, True])


def test_the_same_tail_with_other_degrees_of_freedom():
    t, freedom = np.array([2.0, -2.0, 2.0, np.nan, 50.0]), np.array([3.0, 3, 9, 3, np.inf])
    same = same_tail(t, freedom, 9)
    np.testing.assert_allclose(stats.t.sf(same[:2], 9), stats.t.sf(t[:2], 3))
    assert same[2] == 2.0 and np.isnan(same[3]) and 1e10 < same[4] < np.inf


def test_a_record_whose_references_agree_has_a_deviation_of_exactly_zero():
    phi = np.full((3, 1), 0.1 + 0.2)
    assert deviation(phi, np.ones((3, 1), dtype=bool))[0] == 0
    assert np.isnan(deviation(phi, np.zeros((3, 1), dtype=bool))[0])


def test_kernel_ridge_predicts_each_record_from_the_others():
    rng = np.random.default_rng(3)
    x, y, target = rng.normal(size=(30, 4)), rng.integers(3, size=30), rng.normal(size=30)
    inside = quantile.kernel(x, y, x, y)
    weights, without = quantile.ridge(*np.linalg.eigh(inside), target)
    (penalty,) = [p for p in quantile.PENALTIES if np.allclose((inside + p * np.eye(30)) @ weights, target)]
    assert np.trace(np.linalg.solve(inside + penalty * np.eye(30), inside)) <= 10  # degrees of freedom
    for left in range(30):
        rest = np.arange(30) != left
        fit = np.linalg.solve(inside[np.ix_(rest, rest)] + penalty * np.eye(29), target[rest])
        assert without[left] == pytest.approx(inside[left, rest] @ fit, abs=1e-8)


def asked(phi, x, y, candidates, references=()):
    """A model of two classes whose phi for the true label is given, whatever the record."""
    rows = {row.tobytes(): i for i, row in enumerate(x)}

    def answer(asked_x):
        picked = [rows[row.tobytes()] for row in asked_x]
        return np.stack([np.where(y[picked] == c, phi[picked], 0.0) for c in (0, 1)], axis=1)

    both = Records(x, y)
    return Observation(
        vantage="query",
        candidates=both[:candidates],
        population=both[candidates:],
        oracle=Oracle(answer),
        references=references,
    )


def test_quantile_finds_what_a_threshold_cannot():
    """Confidence depends on the record far more than on membership: a lift of one nat in a spread of many."""
    rng = np.random.default_rng(4)
    x, y = rng.uniform(-1, 1, size=(900, 2)), rng.integers(2, size=900)
    member = np.arange(900) < 200
    phi = 6 * np.sin(3 * x[:, 0]) * (2 * y - 1) + 3 * y + rng.normal(scale=0.5, size=900) + member
    seen = asked(phi, x, y, 400)
    guess = quantile.run(seen, np.random.default_rng(0))
    threshold = np.sort(guess.population_scores)[-25]  # aims at one false alarm in twenty
    assert (guess.scores[:200] > threshold).mean() > 0.4
    assert 0.01 < (guess.scores[200:] > threshold).mean() < 0.1
    crude = np.sort(phi[400:])[-25]
    assert (phi[:200] > crude).mean() < 0.15


def test_quantile_is_no_worse_than_the_loss_it_improves_on():
    """Overfit: a fine regression knows the target's answers nearby, and with them what members made of it."""
    digits = load("digits", None, 1, PurchaseOptions())
    order, scores, members = np.random.default_rng(1).permutation(len(digits.y)), {"quantile": [], "loss": []}, []
    own = Records(digits.x[order[:400]], digits.y[order[:400]])
    for client in range(4):
        held, rng = order[400:][100 * client :][:100], np.random.default_rng(client)
        member = rng.random(100) < 0.5
        model = new_model("mlp", digits.x.shape[1:], 10, torch.Generator().manual_seed(client))
        x, y = digits.x[held], digits.y[held]
        train(model, x[member], y[member], TrainingConfig(epochs=60, batch_size=16, learning_rate=0.1), rng)
        oracle = Oracle(partial(logits, model))
        seen = Observation(vantage="query", candidates=Records(x, y), population=own, oracle=oracle)
        for name, found in scores.items():
            found.append(launch(name, seen, np.random.default_rng(0)).scores)
        members.append(member)
    found = {name: auc(np.concatenate(each), np.concatenate(members)) for name, each in scores.items()}
    assert found["quantile"] > found["loss"]


def test_quantile_learns_from_some_and_scores_all(monkeypatch):
    monkeypatch.setattr(quantile, "MOST", 100)
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(500, 3)), rng.integers(2, size=500)
    seen = asked(rng.normal(size=500), x, y, 200)
    first, again, other = (quantile.run(seen, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert np.isfinite(first.population_scores).all() and len(first.population_scores) == 300
    np.testing.assert_array_equal(first.scores, again.scores)
    assert not np.array_equal(first.scores, other.scores)
    with pytest.raises(VantageLacksError, match="needs 20 records of the attacker's own, vantage 'query' has 10"):
        quantile.run(asked(rng.normal(size=500), x, y, 490), rng)


def test_a_model_that_answers_all_alike_gives_quantile_nothing():
    x, y = np.random.default_rng(6).normal(size=(80, 2)), np.arange(80) % 2
    guess = quantile.run(asked(np.ones(80), x, y, 40), np.random.default_rng(0))
    assert np.isfinite(guess.scores).all()


def test_shadow_learns_from_references_alone():
    """The same target, other references: if members look *less* sure there, it scores the other way round."""
    rng = np.random.default_rng(7)
    x, y, phi = rng.normal(size=(300, 2)), rng.integers(2, size=300), rng.normal(size=300)

    def reference(half, lift):
        own = np.concatenate([np.zeros(100), rng.normal(size=200) + lift * half])
        return Reference(asked(own, x, y, 100).oracle.answer, half)

    scores = [
        shadow.run(asked(phi, x, y, 100, tuple(reference(h, lift) for h in halves(4, 200, rng))), rng).scores
        for lift in (3, -3)
    ]
    assert stats.spearmanr(scores[0], phi[:100]).statistic > 0.4
    assert stats.spearmanr(scores[1], phi[:100]).statistic < -0.4
    whole = (Reference(asked(phi, x, y, 100).oracle.answer, np.ones(200, dtype=bool)),)
    with pytest.raises(VantageLacksError, match="trained on a part of the population"):
        shadow.run(asked(phi, x, y, 100, whole), rng)
