"""Robustness to noise against closed forms, and what the attacks by robustness share."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from attacks import label_only
from attacks.observation import Observation, Oracle, Records, Reference


def half_line(boundary):
    """A model of two classes on a line: class 1 above the boundary. Its answers are labels."""
    return lambda x: np.eye(2, dtype=np.float32)[(x[:, 0] > boundary).astype(int)]


def records(*x):
    x = np.array(x, dtype=np.float32)[:, None]
    return Records(x, (x[:, 0] > 0).astype(int))


@pytest.fixture
def observation():
    own = np.random.default_rng(1).choice([-1, 1], 300) * np.random.default_rng(2).uniform(0.5, 1.5, 300)
    return Observation(
        vantage="query",
        candidates=records(0.1, 0.5, 1.0, 2.0, -0.05, -1.0),
        population=records(*own),
        oracle=Oracle(half_line(0), "label"),
    )


def test_survival_by_hand():
    noise = np.array([[-2.0], [-0.5], [1.0]])
    kept = label_only.survival(half_line(0), Records(np.ones((2, 1)), np.array([1, 0])), noise)
    np.testing.assert_allclose(kept, [2 / 3, 0])  # a wrong answer has no robustness, wherever noise leads


def test_survival_is_the_normal_tail_of_the_distance():
    x, noise = records(0.2, 1.0, 2.5), np.random.default_rng(0).normal(scale=1.5, size=(20_000, 1))
    np.testing.assert_allclose(
        label_only.survival(half_line(0), x, noise), norm.cdf(np.array([0.2, 1.0, 2.5]) / 1.5), atol=0.01
    )


def test_farther_from_the_boundary_is_likelier_a_member(observation):
    scores = label_only.run(observation, np.random.default_rng(0)).scores
    assert scores[0] < scores[1] < scores[2] <= scores[3]
    assert scores[4] < scores[5]


def test_a_noise_level_that_records_survive(observation):
    """Both populations spread alike, but half of one stands at the boundary, and so bears less noise."""
    far, near = records(*[-1.0, 1.0] * 50), records(*[-0.1, 0.1, -1.4, 1.4] * 25)
    of_far, of_near = (
        label_only.level(replace(observation, population=each), (), np.random.default_rng(0)) for each in (far, near)
    )
    assert of_near < of_far
    noise = label_only.directions(500, far, np.random.default_rng(1))
    assert 0.85 < label_only.survival(half_line(0), far, of_far * noise).mean() < 1
    assert label_only.survival(half_line(0), far, 2 * of_far * noise).mean() < 0.9


def test_a_reference_tells_the_noise_level_without_queries(observation):
    reference = Reference(half_line(0), np.arange(300) < 150)
    level = label_only.level(observation, (reference,), np.random.default_rng(0))
    assert observation.oracle.queries == 0
    assert 0.5 <= level / label_only.level(observation, (), np.random.default_rng(0)) <= 2


def test_the_noise_level_is_the_one_that_tells_a_references_own_members(observation):
    """Others stand at the boundary or one off it, members two: what all others survive tells half of them apart."""
    others = np.where(np.arange(150) % 4 < 2, 0.02, 1.0)
    population = records(*np.concatenate([np.full(150, 2.0), others]) * np.where(np.arange(300) % 2, 1, -1))
    reference, seen = Reference(half_line(0), np.arange(300) < 150), replace(observation, population=population)
    level = label_only.level(seen, (reference,), np.random.default_rng(0))
    assert level > 2 * label_only.steady_level(seen, (reference,), np.random.default_rng(0))


def test_more_copies_where_the_budget_allows(observation):
    for budget, fewest in ((4_000, 20), (12_000, 40)):
        oracle = Oracle(half_line(0), "label", budget=budget)
        label_only.run(replace(observation, oracle=oracle), np.random.default_rng(0))
        assert fewest * 106 - 106 < oracle.queries <= budget


def test_calibrated_by_the_references_that_left_a_record_out(observation):
    small = replace(observation, candidates=records(1.0), population=records(1.0, 2.0, 3.0))
    trained_on = np.array([[True, False, True], [False, True, True]])
    references = tuple(Reference(half_line(0), each) for each in trained_on)
    others = [np.array([0.25, 0.0, 0.5, 1.0]), np.array([0.75, 1.0, 0.0, 1.0])]
    own, target = np.arange(3), np.array([0.875, 0.5, 0.75, 1.0])
    guess = label_only.calibrated(small, own, target, references, others)
    np.testing.assert_allclose(guess.scores, [0.375])
    shrunk = np.sqrt(1.5 / 2)  # one reference's mean spreads wider than the mean of two
    np.testing.assert_allclose(guess.population_scores, [-0.5 * shrunk, 0.25 * shrunk, np.nan])
    assert guess.references == 2


def test_as_many_own_records_as_candidates(observation):
    scores = label_only.run(observation, np.random.default_rng(0)).population_scores
    assert np.isfinite(scores).sum() == label_only.FEWEST_OWN


def test_a_personal_model_is_held_against_references_tuned_from_the_global_model(observation):
    scratch, tuned = (Reference(half_line(b), np.ones(300, dtype=bool)) for b in (0, 1))
    both = replace(observation, references=(scratch,), tuned=(tuned,))
    assert label_only.alike(both) == (scratch,)
    assert label_only.alike(replace(both, before=Oracle(half_line(0)))) == (tuned,)
