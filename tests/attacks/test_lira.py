import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from attacks.lira import one_sided, pooled_deviation


@settings(deadline=None)
@given(st.floats(-40, 40), st.floats(0.01, 20))
def test_only_high_confidence_speaks_for_membership(phi, more):
    """The published code scores both tails: there an unusually unsure record would count as a member."""
    reference_phi = np.random.default_rng(0).normal(size=(4, 2))
    reference_phi[:, 1] = reference_phi[:, 0]
    z, _ = one_sided(np.array([phi, phi + more]), reference_phi, np.ones((4, 2), dtype=bool))
    assert z[1] > z[0]


def test_far_scores_do_not_tie():
    """Phi(z) is 1 in float64 from z = 8.3 on."""
    reference_phi = np.random.default_rng(0).normal(size=(4, 2))
    z, _ = one_sided(np.array([50.0, 60.0]), reference_phi, np.ones((4, 2), dtype=bool))
    assert z[0] != z[1]


def test_the_deviation_is_within_records_not_between_them():
    rng = np.random.default_rng(1)
    difficulty = rng.normal(scale=30, size=2_000)
    reference_phi = difficulty + rng.normal(scale=2, size=(4, 2_000))
    out = np.ones((4, 2_000), dtype=bool)
    assert abs(pooled_deviation(reference_phi, out) - 2) < 0.1
    out[2:, :1_000] = False  # fewer references for some records do not shift it
    assert abs(pooled_deviation(reference_phi, out) - 2) < 0.1


def test_one_reference_orders_by_the_difference():
    reference_phi = np.array([[1.0, 5.0, 2.0]])
    z, count = one_sided(np.array([3.0, 6.0, 9.0]), reference_phi, np.ones((1, 3), dtype=bool))
    np.testing.assert_allclose(z, [2, 1, 7])
    np.testing.assert_array_equal(count, 1)
