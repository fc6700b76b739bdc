import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from attacks.observation import VantageLacksError
from attacks.references import halves
from attacks.rmia import DEFAULT_A, dominance, log_ratio, tuned_a

# Multiples of an eighth make exact ties likely without rounding getting a say.
ratios = st.integers(-24, 24).map(lambda n: n / 8)


@settings(deadline=None)
@given(arrays(np.float64, 9, elements=ratios), arrays(np.float64, 6, elements=ratios), st.sampled_from([1.0, 2.0]))
def test_binary_search_counts_what_the_whole_matrix_counts(x, z, gamma):
    scores, own = dominance(x, z, gamma)
    dominated = (x[:, None] - z[None, :] >= np.log(gamma)).sum(axis=1)
    np.testing.assert_allclose(scores * 7 - 1 / (1 + np.exp(-x)), dominated, atol=1e-9)
    others = (z[:, None] - z[None, :] >= np.log(gamma)) & ~np.eye(6, dtype=bool)
    np.testing.assert_allclose(own * 6 - 1 / (1 + np.exp(-z)), others.sum(axis=1), atol=1e-9)


def test_saturated_scores_keep_the_order_of_the_ratio():
    scores, _ = dominance(np.array([3.0, 1.0, 2.0]), np.linspace(-2, -1, 10))
    assert (scores >= 10 / 11).all()
    np.testing.assert_array_equal(np.argsort(scores), [1, 2, 0])


def test_records_that_every_reference_trained_on_are_not_compared_with():
    z = np.array([0.5, np.nan, -0.5])
    scores, own = dominance(np.array([0.0]), z)
    assert scores[0] == pytest.approx((1 + 0.5) / 3)
    np.testing.assert_array_equal(np.isnan(own), [False, True, False])
    with pytest.raises(VantageLacksError, match="a reference left out"):
        dominance(np.array([0.0]), np.array([np.nan]))


def test_offline_correction():
    # p(x) = ((1 + a) P + (1 - a)) / 2: a = 0 -> (P + 1) / 2, a = 1 -> P
    half = np.log(np.array([0.5]))
    assert log_ratio(half, np.array([0.2]), 0.0)[0] == pytest.approx(np.log(0.5 / 0.6))
    assert log_ratio(half, np.array([0.2]), 1.0)[0] == pytest.approx(np.log(0.5 / 0.2))
    assert np.isfinite(log_ratio(half, np.array([0.0]), 1.0)).all()


def test_too_few_references_leave_the_default():
    rng = np.random.default_rng(0)
    for count in (1, 2):
        trained_on = halves(count, 100, rng)
        assert tuned_a(rng.random((count, 100)), trained_on) == DEFAULT_A


def test_tuning_finds_the_correction_that_works():
    """Hard records differ in P_out only by difficulty: dividing it out (a = 1) parts members from non-members."""
    rng = np.random.default_rng(2)
    difficulty = rng.uniform(0.01, 0.4, size=1_000)
    trained_on = halves(4, 1_000, rng)
    p = difficulty * np.where(trained_on, 2.0, 1.0) * np.exp(rng.normal(scale=0.01, size=(4, 1_000)))
    assert tuned_a(p, trained_on) == 1.0
