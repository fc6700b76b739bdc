"""Scores of the attacks that only query a model, worked out by hand; the arithmetic is in the comments."""

import numpy as np
import pytest

from attacks import bavaria, difficulty, lira, rmia, shadow, signals, thresholds
from attacks.likelihood import offline, online
from attacks.observation import Observation, Oracle, Records, Reference, VantageLacksError

RNG = np.random.default_rng(0)


def observation(candidates, labels, target, references=(), trained_on=(), output="probabilities", resolution=0.0):
    """Records are numbered by their only feature; every model is a table of its answers."""
    both = Records(np.arange(len(labels), dtype=np.float64)[:, None], np.array(labels))

    def table(answers):
        return lambda x: np.asarray(answers, dtype=np.float64)[x[:, 0].astype(int)]

    return Observation(
        vantage="query",
        candidates=both[:candidates],
        population=both[candidates:],
        oracle=Oracle(table(target), output, resolution),
        references=tuple(
            Reference(table(answers), np.array(half, dtype=bool))
            for answers, half in zip(references, trained_on, strict=True)
        ),
    )


def logits(phi):
    """Two classes, label 0: the first logit is phi."""
    return np.stack([phi, np.zeros(len(phi))], axis=1)


# p = (.7, .2, .1) labelled 0 and 2; (.4, .4, .2) labelled 0, the fourth is the attacker's own
ANSWERS = [[0.7, 0.2, 0.1], [0.7, 0.2, 0.1], [0.4, 0.4, 0.2], [0.1, 0.8, 0.1]]
SEEN = observation(3, [0, 2, 0, 1], ANSWERS)


@pytest.mark.parametrize(
    ("attack", "scores", "own"),
    [
        # log(.7 / .3) whatever the label; log(.4 / .6); log(.8 / .2)
        (thresholds.confidence, [0.8472979, 0.8472979, -0.4054651], 1.3862944),
        # .7 ln .7 + .2 ln .2 + .1 ln .1 = -.2496725 - .3218876 - .2302585
        # 2 * .4 ln .4 + .2 ln .2 = -.7330326 - .3218876; .8 ln .8 + 2 * .1 ln .1 = -.1785149 - .4605170
        (thresholds.entropy, [-0.8018186, -0.8018186, -1.0549202], -0.6390319),
        # label 0: .3 ln .7 + .2 ln .8 + .1 ln .9 = -.1070025 - .0446287 - .0105361
        # label 2: .9 ln .1 + .7 ln .3 + .2 ln .8 = -2.0723266 - .8427810 - .0446287
        # label 0: .6 ln .4 + .4 ln .6 + .2 ln .8 = -.5497744 - .2043302 - .0446287
        # label 1: .2 ln .8 + 2 * .1 ln .9 = -.0446287 - .0210721
        (thresholds.modified_entropy, [-0.1621672, -2.9597362, -0.7987334], -0.0657008),
        # right; wrong; one of two in the first place; right
        (thresholds.gap, [1, 0, 0.5], 1),
    ],
)
def test_thresholds(attack, scores, own):
    guess = attack(SEEN, RNG)
    np.testing.assert_allclose(guess.scores, scores, atol=2e-7)
    np.testing.assert_allclose(guess.population_scores, [own], atol=2e-7)


@pytest.mark.parametrize("attack", [thresholds.confidence, thresholds.entropy, thresholds.modified_entropy])
def test_logits_and_their_probabilities_score_alike(attack):
    same = observation(3, [0, 2, 0, 1], np.log(ANSWERS) + 5, output="logits")
    np.testing.assert_allclose(attack(same, RNG).scores, attack(SEEN, RNG).scores, atol=1e-12)


def test_thresholds_in_steps_of_1_256():
    # (255, 1, 0)/256, label 0, (255, 0, 0)/256, label 1. Logarithms of no less than 1/512.
    answers = np.array([[255, 1, 0], [255, 0, 0]]) / 256
    # 255/256 ln(255/256) + 1/256 ln(1/256) = -.0038986 - .0216609; 255/256 ln(255/256)
    np.testing.assert_allclose(
        signals.entropy(answers, np.array([0, 1]), "probabilities", 1 / 256), [0.0255595, 0.0038986], atol=1e-7
    )
    # 1/256 ln(255/256) twice = 2 * -.0000153; (255/256) ln(1/512) twice = 2 * -6.2139562
    np.testing.assert_allclose(
        signals.modified_entropy(answers, np.array([0, 1]), "probabilities", 1 / 256),
        [0.0000306, 12.4279123],
        atol=1e-7,
    )
    # log of 255/256 over 1/256, of 255/256 over 1/512
    np.testing.assert_allclose(
        signals.top_confidence(answers, np.array([0, 1]), "probabilities", 1 / 256), np.log([255, 510]), atol=1e-12
    )


@pytest.mark.parametrize("signal", [signals.top_confidence, signals.entropy, signals.modified_entropy, signals.loss])
def test_huge_logits_overflow_nothing(signal):
    answers = np.array([[1e4, 0, -1e4], [-1e4, 1e4, 0], [3e38, 0, 0]], dtype=np.float32)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        assert np.isfinite(signal(answers, np.array([0, 0, 0]))).all()


def test_modified_entropy_sees_a_sure_mistake_that_entropy_does_not():
    answers, labels = np.array([[30.0, 0.0], [0.0, 30.0]]), np.array([0, 0])
    assert abs(np.diff(signals.entropy(answers, labels))[0]) < 1e-12
    assert signals.modified_entropy(answers, labels)[1] > 29 > 1e-9 > signals.modified_entropy(answers, labels)[0]


def test_loss_per_class():
    # Own records of class 0: phi 1 and 3; of class 1: -1 and 0. Candidates: phi 2 in either; 1/(1 + e^2) = .1192029
    # Within the class one of two is above: (1 + .1192029) / 3 = .3730676; none: .1192029 / 3 = .0397343.
    # Among all four one is above: 1.1192029 / 5 = .2238406.
    z, of_z, x, of_x = np.array([1.0, 3, -1, 0]), np.array([0, 0, 1, 1]), np.array([2.0, 2]), np.array([0, 1])
    # alpha = 10: 2 records are all of the 20 / alpha = 2 that a class needs; alpha = 5: half of them.
    scores, own = thresholds.per_class(x, of_x, z, of_z, alpha=10)
    np.testing.assert_allclose(np.exp(-scores), [0.3730676, 0.0397343], atol=1e-7)
    # Own: phi 1 has 3 above, (1 + .2689414) / 3; 3 none, .0474259 / 3; -1 has 0, (1 + .7310586) / 3; 0 none, .5 / 3
    np.testing.assert_allclose(np.exp(-own), [0.4229805, 0.0158086, 0.5770195, 0.1666667], atol=1e-7)
    scores, _ = thresholds.per_class(x, of_x, z, of_z, alpha=5)
    np.testing.assert_allclose(np.exp(-scores), [0.2984541, 0.1317874], atol=1e-7)
    # A class that the attacker has no record of: all of them together.
    scores, _ = thresholds.per_class(x, np.array([2, 2]), z, of_z)
    np.testing.assert_allclose(np.exp(-scores), [0.2238406] * 2, atol=1e-7)


#        target   reference 0   reference 1     left out of   mean
# x0        3          0             2             both         1
# x1       -3          1             1             both         1
# z0        1         (9)            0              1           0
# z1        0          2            (9)             0           2
PHI = [3, -3, 1, 0], [[0, 1, 9, 2], [2, 1, 0, 9]], [[1, 0], [0, 1]]
PAIR = observation(2, [0] * 4, logits(PHI[0]), [logits(each) for each in PHI[1]], PHI[2], "logits")


def test_lira_per_record():
    # x0: deviation 1 (divisor n), z = (3 - 1) / 1 = 2. x1's references agree: it takes the pooled deviation, 1 (see
    # test_lira), so t = -4 / sqrt(1 + 1/2) = -3.2659863 is normal, with tail 5.454e-4. Two references leave one degree
    # of freedom: Cauchy, cot(pi * 5.454e-4) = 583.6; back to a z: * sqrt(3/2) * sqrt(2).
    # z0 and z1 have one reference: 1 / sqrt(2) = .7071068 has tail .2397501, cot = 1.0666; -1.4142136: .0786496, 3.965.
    guess = lira.run_per_record(PAIR, RNG)
    back = np.sqrt(1.5) * np.sqrt(2)
    assert guess.scores[0] == pytest.approx(2)
    assert guess.scores[1] == pytest.approx(-back / np.tan(np.pi * 5.4540e-4), rel=1e-3)
    cots = np.array([1, -1]) / np.tan(np.pi * np.array([0.23975006, 0.07864960]))
    np.testing.assert_allclose(guess.population_scores, cots * back, rtol=1e-6)


def test_lira_per_record_needs_two_references():
    one = observation(2, [0] * 4, logits(PHI[0]), [logits(PHI[1][0])], PHI[2][:1], "logits")
    with pytest.raises(VantageLacksError, match=r"needs two reference models, vantage 'query' has 1\. Train more"):
        lira.run_per_record(one, RNG)


def test_bavaria():
    # Prior: mean (0 + 2 + 1 + 1 + 0 + 2) / 6 = 1, variance 1 (see test_lira), kappa 1, alpha 2, beta 2.
    # x0: n = 2, mean 1, squares 2: kappa 3, alpha 3, beta 2 + 1 + 0, centre 1; (3 - 1) / sqrt(3 * 4 / 9) = 1.7320508
    # x1: squares 0, beta 2; (-3 - 1) / sqrt(2 * 4 / 9) = -4.2426407
    # z0: n = 1, mean 0: kappa 2, alpha 2.5, centre 1/2, beta 2 + 0 + 1/4; (1 - 1/2) / sqrt(2.25 * 3 / 5) = .4303315
    # z1: mean 2: centre 3/2, beta 2.25; (0 - 3/2) / sqrt(1.35) = -1.2909944
    both = np.array(PHI[1], dtype=float)
    out = np.array([[1, 1, 0, 1], [1, 1, 1, 0]], dtype=bool)
    t, freedom = bavaria.predictive(np.array(PHI[0], dtype=float), both, out)
    np.testing.assert_allclose(t, [1.7320508, -4.2426407, 0.4303315, -1.2909944], atol=1e-7)
    np.testing.assert_array_equal(freedom, [6, 6, 5, 5])
    guess = bavaria.run(PAIR, RNG)
    np.testing.assert_allclose(guess.scores, t[:2])
    # Five degrees have heavier tails than six: nearer to zero at the same tail.
    assert 0.42 < guess.population_scores[0] < t[2] and t[3] < guess.population_scores[1] < -1.2


#      target   ref 0   ref 1   left out of   (probabilities of the true label)
# x0     .5      .25     .25       both
# x1     .5      .25     .5        both
# x2     .25     .5      .5        both
# z0     .5     (.9)     .25       1
# z1     .25     .5     (.9)       0
def with_other(p):
    return np.stack([p, 1 - np.array(p)], axis=1)


LOSSES = observation(
    3,
    [0] * 5,
    with_other([0.5, 0.5, 0.25, 0.5, 0.25]),
    [with_other([0.25, 0.25, 0.5, 0.9, 0.5]), with_other([0.25, 0.5, 0.5, 0.25, 0.9])],
    [[1, 0], [0, 1]],
)


def test_calibration():
    # Losses are multiples of ln 2: 1 against 2 and 2; 1 against 2 and 1; 2 against 1 and 1; 1 against 2; 2 against 1.
    # Own records: sqrt((1 + 1/2) / (1 + 1/1)) = sqrt(3/4) of it.
    guess = difficulty.calibration(LOSSES, RNG)
    np.testing.assert_allclose(guess.scores, np.log(2) * np.array([1, 0.5, -1]))
    np.testing.assert_allclose(guess.population_scores, np.log(2) * np.sqrt(0.75) * np.array([1, -1]))


def test_attack_r():
    # References with a lower loss, of 2: none; none (an equal one is no lower); both. Tie-break 1 / (1 + e^d), with d =
    # ln 2, ln 2 / 2, -ln 2: 1/3, 1 / (1 + sqrt 2) = .4142136, 2/3. Tails: (1/3) / 3, .4142136 / 3, (2 + 2/3) / 3.
    # Own, of 1 reference: (1/3) / 2, (1 + 2/3) / 2
    guess = difficulty.attack_r(LOSSES, RNG)
    np.testing.assert_allclose(np.exp(-guess.scores), [1 / 9, 0.1380712, 8 / 9], atol=1e-7)
    np.testing.assert_allclose(np.exp(-guess.population_scores), [1 / 6, 5 / 6], atol=1e-12)


def test_online_lira():
    # Record 0: IN 2, 4 (mean 3, deviation 1), OUT 0, 2 (1, 1); phi 3: 0 - (-(2^2) / 2) = 2.
    # Record 1: IN 0, 4 (2, 2), OUT -1, 1 (0, 1); phi 2: -ln 2 - (-(2^2) / 2) = 2 - .6931472
    phi = np.array([3.0, 2.0])
    references = np.array([[2.0, 0], [4, 4], [0, -1], [2, 1]])
    trained_on = np.array([[1, 1], [1, 1], [0, 0], [0, 0]], dtype=bool)
    np.testing.assert_allclose(online(phi, references, trained_on), [2, 1.3068528], atol=1e-7)
    # Fixed: IN squares 2 + 8 of 2 degrees, variance 5; OUT 2 + 2, variance 2. Log ratio of deviations -ln(5 / 2) / 2 =
    # -.4581454. Record 0: -.4581454 - 0 + 4 / 4; record 1: the same
    np.testing.assert_allclose(online(phi, references, trained_on, "fixed"), [0.5418546] * 2, atol=1e-7)
    # plot.py: deviation of (2, 4, 0, 4), mean 2.5, on both sides: variance 2.75. 2^2 / (2 * 2.75) = .7272727
    np.testing.assert_allclose(online(phi, references, trained_on, "fixed", "carlini-plot"), [0.7272727] * 2, atol=1e-7)
    # Two queries count by their mean: the second, phi 1, has -(2^2) / 2 - 0 = -2
    queries = np.array([[3.0, 1.0]]), np.repeat(references[:, :1, None], 2, axis=2), trained_on[:, :1]
    np.testing.assert_allclose(online(*queries), [0], atol=1e-12)


def test_offline_lira_of_the_paper_and_of_its_code():
    # OUT 0, 2 and -1, 1: means 1, 0, pooled variance (2 + 2) / 2 = 2; phi 3 and -4: 2 / sqrt 2, -4 / sqrt 2
    phi, references = np.array([3.0, -4.0]), np.array([[0.0, -1], [2, 1]])
    trained_on = np.zeros((2, 2), dtype=bool)
    np.testing.assert_allclose(offline(phi, references, trained_on), np.array([2, -4]) / np.sqrt(2))
    np.testing.assert_allclose(offline(phi, references, trained_on, "per-record"), [2, -4])
    # plot.py, two-sided: (z^2 + ln 2 pi) / 2 with deviation 1: the unsure record gets the *larger* score
    theirs = offline(phi, references, trained_on, "per-record", "carlini-plot")
    np.testing.assert_allclose(theirs, [2 + 0.9189385, 8 + 0.9189385], atol=1e-7)
    # fixed: deviation of (0, 2, -1, 1), sqrt 1.25, whose logarithm is .1115718
    theirs = offline(phi, references, trained_on, "fixed", "carlini-plot")
    np.testing.assert_allclose(theirs, [1.6 + 1.0305103, 6.4 + 1.0305103], atol=1e-7)


def test_online_rmia():
    # p(x) = (.7 + .3) / 2 = .5; .75 / .5 = 1.5
    references = np.array([[0.8], [0.6], [0.2], [0.4]])
    ratio = rmia.online_log_ratio(np.log([0.75]), references, np.array([[1], [1], [0], [0]], dtype=bool))
    np.testing.assert_allclose(np.exp(ratio), [1.5])
    # LR 1.5 / (1, 1.5, 3) = 1.5, 1, .5: the paper counts an equal one, ml_privacy_meter does not
    z = np.log([1.0, 1.5, 3.0])
    np.testing.assert_allclose(rmia.share(z[1:2], z), [2 / 3])
    np.testing.assert_allclose(rmia.share(z[1:2], z, compat="privacy-meter"), [1 / 3])
    np.testing.assert_allclose(rmia.share(z[1:2], z, gamma=2.0), [0])


def test_rmia_with_a_given():
    # a = 1 leaves P_out alone: .5 / .25 = 2 and .5 / .375, .25 / .5; z0 .5 / .25 = 2, z1 .5: x0 dominates both
    guess = rmia.run(LOSSES, RNG, a=1.0)
    np.testing.assert_array_equal(np.floor(guess.scores * 3), [2, 1, 1])


def test_shadow_features():
    # (.7, .2, .1) labelled 2: largest three, p_y = .1, loss 2.3025851, not first, class 2 of 3
    row = shadow.features(np.array([[0.2, 0.7, 0.1]]), np.array([2]), "probabilities")
    np.testing.assert_allclose(row, [[0.7, 0.2, 0.1, 0.1, 2.3025851, 0, 0, 0, 1]], atol=1e-7)
    assert shadow.features(np.array([[0.0, 0.0]]), np.array([1])).shape == (1, 2 + 3 + 2)
