import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import norm
from sklearn.metrics import roc_auc_score, roc_curve

from sim.score import (
    accuracy_difference,
    accuracy_interval,
    auc,
    auc_difference,
    clopper_pearson,
    measurable,
    roc,
    score,
    tpr_at_fpr,
)


@st.composite
def guesses(draw):
    size = draw(st.integers(2, 40))
    member = draw(arrays(bool, size))
    assume(member.any() and not member.all())
    return draw(arrays(np.float64, size, elements=st.integers(-6, 6).map(float))), member


def drawn(rng, records=600, shift=0.5, people=12):
    member = np.arange(records) % 2 == 0
    person = np.arange(records) // 2 % people
    return rng.normal(size=records) + shift * member, member, person


@settings(deadline=None)
@given(guesses())
def test_auc_and_roc_agree_with_scikit_learn(guess):
    scores, member = guess
    assert auc(scores, member) == pytest.approx(roc_auc_score(member, scores))
    for ours, theirs in zip(roc(scores, member), roc_curve(member, scores, drop_intermediate=False), strict=True):
        np.testing.assert_allclose(ours, theirs)


@settings(deadline=None)
@given(guesses(), st.integers(0, 1000))
def test_weighted_auc_agrees_with_scikit_learn(guess, seed):
    scores, member = guess
    weights = np.random.default_rng(seed).integers(1, 5, size=len(scores)).astype(float)
    assert auc(scores, member, weights) == pytest.approx(roc_auc_score(member, scores, sample_weight=weights))


@settings(deadline=None)
@given(guesses())
def test_auc_depends_on_the_order_only_and_turns_over_with_it(guess):
    scores, member = guess
    assert auc(np.exp(scores) * 3 - 7, member) == pytest.approx(auc(scores, member))
    assert auc(-scores, member) == pytest.approx(1 - auc(scores, member))


@settings(deadline=None)
@given(guesses(), st.floats(0, 1))
def test_a_rate_is_a_point_of_the_curve_and_does_not_pass_its_target(guess, target):
    scores, member = guess
    tpr, realised = tpr_at_fpr(scores, member, target)
    fprs, tprs, thresholds = roc(scores, member)
    assert realised <= target + 1e-9
    assert any(np.isclose(fprs, realised) & np.isclose(tprs, tpr))
    assert tpr == pytest.approx(tprs[fprs <= target + 1e-9].max())
    assert (np.diff(fprs) >= 0).all()
    assert (np.diff(tprs) >= 0).all()
    assert (np.diff(thresholds) < 0).all()


def test_only_rates_with_enough_nonmembers_are_given(rng):
    assert not measurable(999, 0.01)
    assert measurable(1_000, 0.01)
    assert not measurable(9_999, 0.001)
    assert measurable(10_000, 0.001)
    few = score(*drawn(rng, 1_998), np.zeros(1_998, int), rng, bootstrap=20)
    assert few.tpr_at_fpr == {"0.01": None, "0.001": None}
    enough = score(*drawn(rng, 2_000), np.zeros(2_000, int), rng, bootstrap=20)
    assert enough.tpr_at_fpr["0.01"] is not None
    assert enough.tpr_at_fpr["0.01"].realised_fpr <= 0.01
    assert enough.tpr_at_fpr["0.001"] is None
    assert (enough.members, enough.nonmembers) == (1_000, 1_000)


def test_intervals_hold_the_figure_and_a_rate_of_zero_is_not_certain(rng):
    member = np.arange(4_000) % 2 == 0
    scores = np.where(member, 0.0, rng.normal(size=4_000) ** 2 + 1)
    result = score(scores, member, np.arange(4_000) % 7, np.zeros(4_000, int), rng, bootstrap=100)
    assert result.auc == 0.0
    assert result.auc_ci == clopper_pearson(0, 2_000)
    rate = result.tpr_at_fpr["0.01"]
    assert rate is not None
    assert rate.tpr == 0.0
    assert rate.ci == pytest.approx(clopper_pearson(0, 2_000))


def test_the_same_generator_gives_the_same_interval():
    drawing = drawn(np.random.default_rng(1))
    first, second, other = (
        score(*drawing, drawing[2], np.random.default_rng(seed), bootstrap=50) for seed in (3, 3, 4)
    )
    assert first == second
    assert first.auc == other.auc
    assert first.auc_ci != other.auc_ci


def test_people_who_differ_widen_the_interval(rng):
    """The same scores: as one person's records they are many; as ten people's, who differ, they are ten."""
    person = np.arange(2_000) // 200
    member = np.arange(2_000) % 2 == 0
    scores = rng.normal(size=2_000) + member * rng.normal(0.5, 1, size=10)[person]
    alike = score(scores, member, np.zeros(2_000, int), person, rng, bootstrap=300)
    apart = score(scores, member, person, person, rng, bootstrap=300)
    assert np.diff(apart.auc_ci) > 2 * np.diff(alike.auc_ci)


def test_one_person_is_resampled_by_record(rng):
    """By record the interval is close to the textbook's (Hanley & McNeil)."""
    scores, member, _ = drawn(rng, 2_000)
    result = score(scores, member, np.zeros(2_000, int), np.zeros(2_000, int), rng)
    area, n = result.auc, 1_000
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    deviation = np.sqrt((area * (1 - area) + (n - 1) * (q1 - area**2) + (n - 1) * (q2 - area**2)) / n**2)
    assert np.diff(result.auc_ci) == pytest.approx(2 * 1.96 * deviation, rel=0.15)


def test_the_interval_of_the_area_covers_the_truth():
    """120 studies of 12 people who differ: 95 % intervals miss the true area in few (5 % wanted, 12 % allowed)."""
    rng = np.random.default_rng(7)
    person = np.arange(480) // 40
    member = np.arange(480) % 2 == 0
    truth = norm.cdf(0.5 / np.sqrt(2 + 0.3**2))  # member scores spread by 1 and by 0.3 between people
    covered = 0
    for _ in range(120):
        scores = rng.normal(size=480) + member * rng.normal(0.5, 0.3, size=12)[person]
        low, high = score(scores, member, person, person, rng, bootstrap=200).auc_ci
        covered += low <= truth <= high
    assert covered >= 0.88 * 120


def test_people_without_members_or_without_nonmembers_are_no_obstacle(rng):
    member = np.repeat([True, False, True], 30)
    result = score(
        rng.normal(size=90), member, np.repeat(["ann", "bob", "cy"], 30), np.zeros(90, int), rng, bootstrap=50
    )
    assert 0 <= result.auc_ci[0] < result.auc < result.auc_ci[1] <= 1


def paired(rng, people=12, each=40):
    """Two score vectors of the same records, alike but for what they give away, and the true difference in area."""
    person = np.arange(people * each) // each
    member = np.arange(people * each) % 2 == 0
    before = rng.normal(size=len(person)) + 0.2 * member
    after = 0.9 * (before - 0.2 * member) + np.sqrt(1 - 0.9**2) * rng.normal(size=len(person))
    after += member * rng.normal(0.5, 0.3, size=people)[person]
    truth = norm.cdf(0.5 / np.sqrt(2 + 0.3**2)) - norm.cdf(0.2 / np.sqrt(2))
    return before, after, member, person, truth


@settings(deadline=None, max_examples=50)
@given(guesses(), st.integers(0, 1000))
def test_a_difference_turns_over_with_the_order_of_its_scores(guess, seed):
    before, member = guess
    shuffled, person = np.random.default_rng(seed).permutation(before), np.arange(len(member)) % 3
    ahead = auc_difference(before, shuffled, member, person, np.random.default_rng(seed), bootstrap=20)
    back = auc_difference(shuffled, before, member, person, np.random.default_rng(seed), bootstrap=20)
    assert ahead.difference == pytest.approx(auc(shuffled, member) - auc(before, member))
    assert ahead.difference == pytest.approx(-back.difference)
    assert ahead.ci == pytest.approx((-back.ci[1], -back.ci[0]))
    assert ahead.ci[0] <= ahead.difference <= ahead.ci[1]


def test_scores_that_order_records_alike_do_not_differ(rng):
    scores, member, person = drawn(rng)
    for same in (scores, np.exp(scores) * 3 - 7):
        found = auc_difference(scores, same, member, person, rng, bootstrap=20)
        assert (found.difference, found.ci) == (0.0, (0.0, 0.0))


def test_a_difference_agrees_with_a_plain_loop(rng):
    before, after, member, person, _ = paired(rng)
    rows = {p: [np.flatnonzero((person == p) & side) for side in (member, ~member)] for p in range(12)}
    loop = []
    for _ in range(300):
        people = rng.choice(12, size=12)
        picked = np.concatenate([rng.choice(part, size=len(part)) for p in people for part in rows[p]])
        first, second = (roc_auc_score(member[picked], scores[picked]) for scores in (before, after))
        loop.append(second - first)
    found = auc_difference(before, after, member, person, rng, bootstrap=2000)
    assert found.difference == pytest.approx(roc_auc_score(member, after) - roc_auc_score(member, before))
    assert found.ci == pytest.approx(tuple(np.percentile(loop, [2.5, 97.5])), abs=0.015)


def test_both_areas_are_of_the_same_drawn_records(rng):
    """Were records drawn apart for the two, the interval would be about as wide as those of the areas together."""
    before, after, member, person, _ = paired(rng)
    found = auc_difference(before, before + 0.01 * after, member, person, rng, bootstrap=200)
    alone = score(before, member, person, person, rng, bootstrap=200)
    assert np.diff(found.ci) < 0.1 * np.diff(alone.auc_ci)


def test_the_interval_of_a_difference_covers_the_truth():
    """120 studies of 12 people who differ: 95 % intervals miss the true difference in few (12 % allowed)."""
    rng = np.random.default_rng(8)
    covered = 0
    for _ in range(120):
        *study, truth = paired(rng)
        low, high = auc_difference(*study, rng, bootstrap=200).ci
        covered += low <= truth <= high
    assert covered >= 0.88 * 120


def test_perfect_separation_does_not_make_a_difference_certain(rng):
    """Two perfect attacks: every replicate says 1 - 1 = 0, so the interval is made of the areas' exact ones."""
    member = np.arange(40) % 2 == 0
    before, after = (member + 0.1 * rng.random(40) for _ in range(2))
    found = auc_difference(before, after, member, np.zeros(40, int), rng, bootstrap=20)
    low = clopper_pearson(20, 20)[0]
    assert (found.difference, found.ci) == (0.0, (low - 1, 1 - low))


def test_scores_of_other_records_are_not_compared(rng):
    scores, member, person = drawn(rng)
    with pytest.raises(ValueError, match="one each"):
        auc_difference(scores, scores[1:], member, person, rng)


def test_own_threshold_reaches_its_rate_on_exchangeable_records(rng):
    scores, member, person = drawn(rng, 20_000, shift=2.0)
    own = score(scores, member, person, person, rng, rng.normal(size=5_000), bootstrap=5).own_threshold
    assert own is not None
    assert own.target_fpr == 0.01
    assert own.realised_fpr == pytest.approx(0.01, abs=0.004)
    assert own.realised_fpr_ci == clopper_pearson(round(own.realised_fpr * 10_000), 10_000)
    assert own.tpr == pytest.approx(norm.sf(norm.isf(0.01) - 2), abs=0.06)
    assert own.tpr_ci[0] < own.tpr < own.tpr_ci[1]


def test_own_threshold_is_each_clients_own(rng):
    """Two personal models on different scales: a common threshold would flag one client's records only."""
    scores, member, _ = drawn(rng, 8_000, shift=3.0)
    client = np.arange(8_000) // 4_000
    scale = np.array([1.0, 100.0])
    population = {c: scale[c] * rng.normal(size=2_000) for c in (0, 1)}
    own = score(scores * scale[client], member, client, client, rng, population, bootstrap=5).own_threshold
    assert own is not None
    assert own.realised_fpr < 0.02
    assert own.tpr > 0.6


def test_no_threshold_from_too_few_records_of_its_own(rng):
    scores, member, person = drawn(rng)
    few = {c: rng.normal(size=99 if c == 3 else 500) for c in range(12)}
    assert score(scores, member, person, person, rng, few, bootstrap=5).own_threshold is None
    assert score(scores, member, person, person, rng, np.full(500, np.nan), bootstrap=5).own_threshold is None
    assert score(scores, member, person, person, rng, bootstrap=5).own_threshold is None


@pytest.mark.parametrize(
    ("scores", "member", "message"),
    [
        ([0.1, np.nan], [True, False], "1 of 2 scores are not finite"),
        ([0.1, 0.2], [True, True], "both kinds"),
        ([0.1, 0.2, 0.3], [True, False], "one each"),
        ([0.1, 0.2], [1, 0], "booleans"),
    ],
)
def test_faulty_input_is_refused(scores, member, message):
    with pytest.raises(ValueError, match=message):
        auc(np.array(scores), np.array(member))


def test_accuracy_interval_refuses_impossible_counts():
    assert accuracy_interval(90, 100) == clopper_pearson(90, 100)
    with pytest.raises(ValueError, match="11 hits in 10 trials"):
        accuracy_interval(11, 10)


@pytest.fixture
def rng():
    return np.random.default_rng(20)


def right(*answers):
    return np.array(answers, dtype=bool)


def test_a_difference_in_accuracy_by_hand(rng):
    """Wrong to right twice, right to wrong once, of four records: a quarter more."""
    person = np.zeros(4, dtype=int)
    found = accuracy_difference(right(1, 1, 0, 0), right(1, 0, 1, 1), person, rng)
    assert found.difference == 0.25
    assert -0.5 <= found.ci[0] <= 0.25 <= found.ci[1] <= 1.0
    all_of_them = accuracy_difference(right(0, 0, 0, 0), right(1, 1, 1, 1), person, rng)
    assert (all_of_them.difference, all_of_them.ci) == (1.0, (1.0, 1.0))
    none_of_them = accuracy_difference(right(1, 0, 0, 1), right(1, 0, 0, 1), person, rng)
    assert (none_of_them.difference, none_of_them.ci) == (0.0, (0.0, 0.0))


def test_a_difference_in_accuracy_is_paired():
    """Two models right about half the records each, the same half: no doubt that nothing changes."""
    half, person = np.arange(200) % 2 == 0, np.arange(200) % 10
    assert accuracy_difference(half, half, person, np.random.default_rng(1)).ci == (0.0, 0.0)
    other = accuracy_difference(half, ~half, person, np.random.default_rng(1))
    assert other.difference == 0 and other.ci[0] < 0 < other.ci[1]


def test_a_difference_that_two_people_do_not_agree_on_is_not_settled(rng):
    """All of one person's records gain and all of the other's lose: which of them is drawn decides."""
    before, person = np.repeat([False, True], 50), np.repeat(["anna", "ben"], 50)
    found = accuracy_difference(before, ~before, person, rng)
    assert (found.difference, found.ci) == (0.0, (-1.0, 1.0))


@settings(deadline=None, max_examples=25)
@given(arrays(bool, (2, 30)), st.integers(0, 1000))
def test_a_difference_in_accuracy_turns_over_with_its_sides(answers, seed):
    person = np.arange(30) % 4
    there, back = (
        accuracy_difference(*pair, person, np.random.default_rng(seed), bootstrap=50)
        for pair in (answers, answers[::-1])
    )
    assert there.difference == -back.difference == pytest.approx(answers[1].mean() - answers[0].mean())
    np.testing.assert_allclose(there.ci, (-back.ci[1], -back.ci[0]), atol=1e-12)


def test_the_interval_of_a_difference_in_accuracy_holds_the_truth():
    """In 100 studies of 20 people each, who differ in what protection costs them. As if all were one: in 75 of them."""
    rng, held, truth = np.random.default_rng(11), [], expected_change(0.1, 0.15)
    for _ in range(100):
        person = np.repeat(np.arange(20), 15)
        cost = np.repeat(rng.normal(0.1, 0.15, 20), 15).clip(-0.7, 0.7)
        before = rng.random(300) < 0.8
        after = np.where(rng.random(300) < np.abs(cost), cost < 0, before)
        low, high = accuracy_difference(before, after, person, rng, bootstrap=120).ci
        held.append(low <= truth <= high)
    assert np.mean(held) >= 0.88


def expected_change(mean, spread):
    """Of `after` less `before` above: a positive cost turns right answers wrong, a negative one wrong ones right."""
    cost = np.random.default_rng(0).normal(mean, spread, 1_000_000).clip(-0.7, 0.7)
    return float(np.where(cost > 0, -0.8 * cost, -0.2 * cost).mean())
