"""Scores worked out by hand, and published intervals."""

import numpy as np
import pytest

from sim.score import auc, auc_difference, clopper_pearson, own_cut, roc, tpr_at_fpr


def test_label_only_scores_count_ties_half():
    # members 1 1 0, non-members 1 0: of 6 pairs 2 are won, 1*2 + 1*1 = 3 are tied: (2 + 1.5) / 6 = .5833.
    # Keeping one point per tie group and no end points would give .375.
    scores, member = np.array([1.0, 1, 0, 1, 0]), np.array([1, 1, 1, 0, 0], dtype=bool)
    assert auc(scores, member) == pytest.approx(0.5833333)
    fpr, tpr, thresholds = roc(scores, member)
    np.testing.assert_allclose(fpr, [0, 1 / 2, 1])
    np.testing.assert_allclose(tpr, [0, 2 / 3, 1])
    np.testing.assert_array_equal(thresholds, [np.inf, 1, 0])


def test_lower_loss_for_members_is_above_one_half():
    losses, member = np.array([0.1, 0.2, 0.9, 0.3]), np.array([True, True, False, False])
    assert auc(-losses, member) == 1.0
    assert auc(losses, member) == 0.0


def test_a_difference_of_areas():
    # members 3 1, non-members 2 0: 3 of 4 pairs are won, .75. Afterwards members 3 2, non-members 2 0:
    # 3 won and 1 tied, 3.5 / 4 = .875.
    before, after = np.array([3.0, 1, 2, 0]), np.array([3.0, 2, 2, 0])
    member, person = np.array([1, 1, 0, 0], dtype=bool), np.zeros(4, int)
    found = auc_difference(before, after, member, person, np.random.default_rng(1))
    assert found.difference == 0.125
    # A replicate draws members 3 3, 3 1, 1 3 or 1 1 and non-members likewise. Only pairs of the lesser member and the
    # greater non-member change, each from lost to tied: 0, 1, 2 or 4 such pairs of 4, so 0, .125, .25 or .5.
    # All four pairs are such in 1 of 16 replicates, none in 7 of 16.
    assert found.ci == (0.0, 0.5)


def test_a_tie_group_is_taken_whole_or_not_at_all():
    #  score        9   8   7   6   5
    #  members      1   1   2   0   1     of 5
    #  non-members  0   1   2   0   7     of 10
    #  tpr         .2  .4  .8  .8   1
    #  fpr          0  .1  .3  .3   1
    scores = np.repeat([9.0, 8, 8, 7, 7, 5, 5], [1, 1, 1, 2, 2, 1, 7])
    member = np.repeat([True, True, False, True, False, True, False], [1, 1, 1, 2, 2, 1, 7])
    assert tpr_at_fpr(scores, member, 0.05) == pytest.approx((0.2, 0.0))
    assert tpr_at_fpr(scores, member, 0.1) == pytest.approx((0.4, 0.1))
    assert tpr_at_fpr(scores, member, 0.2) == pytest.approx((0.4, 0.1))  # no part of the group of four at 7
    assert tpr_at_fpr(scores, member, 0.3) == pytest.approx((0.8, 0.3))
    assert tpr_at_fpr(np.zeros(20), np.arange(20) < 10, 0.5) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("hits", "trials", "low", "high"),
    [
        (1, 1_000, 0.0000253, 0.0056),  # 1 - .975^(1/1000)
        (10, 10_000, 0.00048, 0.00184),
        (50, 50_000, 0.00074, 0.00132),
        (50, 1_000, 0.037, 0.065),
        (250, 5_000, 0.044, 0.056),
        (0, 10, 0.0, 0.3085),  # 1 - .025^(1/10)
        (10, 10, 0.6915, 1.0),
    ],
)
def test_clopper_pearson(hits, trials, low, high):
    found = clopper_pearson(hits, trials)
    assert found == pytest.approx((low, high), rel=0.02)


def test_own_cut_is_a_conformal_quantile():
    # 199 scores 1..199, target .01: k = floor(.01 * 200) = 2, the second largest is 198 and only 199 lies above it
    assert own_cut(np.arange(1.0, 200), 0.01) == 198
    assert own_cut(np.arange(1.0, 101), 0.01) == 100  # k = 1: above all of its own records
    assert own_cut(np.r_[np.arange(1.0, 100), np.nan], 0.01) is None  # 99 finite scores < 1 / .01
