import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attacks.likelihood import offline, online
from attacks.lira import one_sided
from attacks.lira_all import lira_all


def study(models, records, rng, lift=2.0):
    """Scaled confidences of records that differ in difficulty far more than members do from the rest."""
    member = rng.random((models, records)) < 0.5
    phi = rng.normal(scale=5, size=records) + rng.normal(size=(models, records)) + lift * member
    return phi, member


def one_by_one(phi, member, variance):
    others = [np.arange(len(phi)) != target for target in range(len(phi))]
    return np.stack([online(phi[t], phi[o], member[o], variance) for t, o in enumerate(others)])


@pytest.mark.parametrize("variance", ["per-record", "fixed"])
@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(2, 12), st.integers(1, 30), st.sampled_from([1, 7, 100]))
def test_all_targets_at_once_score_as_one_by_one(variance, seed, models, records, block):
    phi, member = study(models, records, np.random.default_rng(seed))
    with np.errstate(invalid="ignore"):
        wanted = one_by_one(phi, member, variance)
    # A side of one reference has no deviation: the least one stands in, and scores grow to 1e12.
    np.testing.assert_allclose(lira_all(phi, member, variance, block), wanted, rtol=1e-8, atol=1e-8)


def test_all_targets_at_once_far_from_zero():
    """Sums of squares of what is far from zero would lose the variance."""
    phi, member = study(32, 200, np.random.default_rng(1))
    np.testing.assert_allclose(lira_all(phi + 1e5, member), one_by_one(phi, member, "per-record"), atol=1e-6)


def test_answers_that_are_all_alike_stay_finite():
    member = np.tile([True, False], (1, 4)).reshape(8, 1) | np.zeros((8, 3), dtype=bool)
    scores = lira_all(np.ones((8, 3)), member)
    np.testing.assert_array_equal(scores, np.zeros((8, 3)))


def test_members_score_higher_and_a_record_without_a_side_has_no_score():
    phi, member = study(64, 500, np.random.default_rng(2))
    member[:, 0] = False
    scores = lira_all(phi, member)
    assert np.isnan(scores[:, 0]).all() and np.isfinite(scores[:, 1:]).all()
    assert np.median(scores[:, 1:][member[:, 1:]]) > 1 > -1 > np.median(scores[:, 1:][~member[:, 1:]])
    with pytest.raises(ValueError, match=r"both \(models, records\)"):
        lira_all(phi, member[:, 1:])


def test_offline_is_the_attack_that_is_launched():
    rng = np.random.default_rng(3)
    phi, member = study(5, 40, rng)
    member[:2] = False
    z, _ = one_sided(phi[0], phi[1:], ~member[1:])
    np.testing.assert_allclose(offline(phi[0], phi[1:], member[1:]), z)


def test_queries_of_the_same_record_are_averaged():
    rng = np.random.default_rng(4)
    phi, references = rng.normal(size=(6, 3)), rng.normal(size=(8, 6, 3))
    trained_on = np.arange(48).reshape(8, 6) % 2 == np.arange(8)[:, None] // 4
    trained_on[:, :] = (np.arange(8) < 4)[:, None]
    for form in (online, offline):
        each = [form(phi[:, q], references[:, :, q], trained_on, "per-record") for q in range(3)]
        np.testing.assert_allclose(form(phi, references, trained_on, "per-record"), np.mean(each, axis=0))
    with pytest.raises(ValueError, match=r"wanted: \(records, ...\)"):
        online(phi, references[:, :, 0], trained_on)


def test_the_reference_code_flags_the_unsure():
    """Its offline score has two sides; the paper's has one."""
    references = np.random.default_rng(5).normal(size=(16, 2))
    references[:, 1] = references[:, 0]
    phi, none = np.array([references.mean() - 9, references.mean() + 1]), np.zeros((16, 2), dtype=bool)
    theirs = offline(phi, references, none, "per-record", compat="carlini-plot")
    paper = offline(phi, references, none, "per-record")
    assert theirs[0] > theirs[1] and paper[0] < paper[1]
