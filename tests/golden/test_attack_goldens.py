"""Attack scores worked out by hand; the arithmetic is in the comments."""

import numpy as np
import pytest

from attacks import lira, rmia, signals
from attacks.observation import Observation, Oracle, Records, Reference


def rows(values):
    return np.array(values, dtype=np.float64)[:, None]


def observation(candidates, population, target, references, trained_on, output):
    """Records are numbered by their only feature; every model is a table of its answers."""
    records = candidates + population
    y = np.zeros(records, dtype=np.int64)
    both = Records(rows(range(records)), y)

    def table(answers):
        return lambda x: np.asarray(answers, dtype=np.float64)[x[:, 0].astype(int)]

    return Observation(
        vantage="query",
        candidates=both[:candidates],
        population=both[candidates:],
        oracle=Oracle(table(target), output),
        references=tuple(
            Reference(table(answers), np.array(half, dtype=bool))
            for answers, half in zip(references, trained_on, strict=True)
        ),
    )


def test_scaled_confidence_from_logits():
    # logits (2, 1, 0), true class 0: 2 - log(e + 1) = 2 - 1.3132617 ; class 2: 0 - log(e^2 + e) = -2.3132617
    logits = np.array([[2.0, 1.0, 0.0], [2.0, 1.0, 0.0]])
    phi = signals.scaled_confidence(logits, np.array([0, 2]))
    np.testing.assert_allclose(phi, [0.6867383, -2.3132617], atol=1e-7)
    # loss: log(e^2 + e + 1) - z_y = 2.4076060 - z_y
    np.testing.assert_allclose(signals.loss(logits, np.array([0, 2])), [0.4076060, 2.4076060], atol=1e-7)


def test_scaled_confidence_keeps_what_float32_probabilities_lose():
    # exp(-100) is far below float32's step at 1, so a probability would have been exactly 1 and phi infinite
    logits = np.array([[100.0, 0.0]], dtype=np.float32)
    assert signals.scaled_confidence(logits, np.array([0]))[0] == pytest.approx(100.0)
    assert signals.loss(logits, np.array([1]))[0] == pytest.approx(100.0)


def test_int8_probabilities_are_clipped_at_half_a_step():
    # Steps of 1/256. (255, 0, 0)/256: log(255/256) - log(1/512) = log 510 = 6.2344107, mirrored for class 1, whose
    # loss is -log(1/512) = 6.2383246
    answers = np.array([[255, 0, 0], [255, 0, 0]]) / 256
    phi = signals.scaled_confidence(answers, np.array([0, 1]), "probabilities", 1 / 256)
    np.testing.assert_allclose(phi, [6.2344107, -6.2344107], atol=1e-7)
    losses = signals.loss(answers, np.array([0, 1]), "probabilities", 1 / 256)
    np.testing.assert_allclose(losses, [-np.log(255 / 256), 6.2383246], atol=1e-7)


def test_lira():
    # Two classes, logits (phi, 0), so phi is the first logit.
    #        target   reference 0   reference 1     left out of   mean   squares
    # x0        3          0             2             both         1      1 + 1
    # x1       -3          1             1             both         1      0
    # z0        1         (9)            0              1           0
    # z1        0          2            (9)             0           2
    # sigma^2 = (1 + 1) / (1 + 1 degrees of freedom) = 1; z's mean comes from one reference each: no spread to pool
    # x0: (3 - 1) / 1 = 2      x1: (-3 - 1) / 1 = -4, unusually *low* confidence is no sign of membership
    # z0: 1, z1: -2, both times sqrt((1 + 1/2) / (1 + 1/1)) = sqrt(3/4)
    def with_zero(phi):
        return np.stack([phi, np.zeros(4)], axis=1)

    seen = observation(
        2,
        2,
        with_zero([3, -3, 1, 0]),
        [with_zero([0, 1, 9, 2]), with_zero([2, 1, 0, 9])],
        [[1, 0], [0, 1]],
        "logits",
    )
    guess = lira.run(seen, np.random.default_rng(0))
    np.testing.assert_allclose(guess.scores, [2, -4])
    np.testing.assert_allclose(guess.population_scores, [0.8660254, -1.7320508], atol=1e-7)


def test_rmia():
    # One complementary pair leaves nothing to tune on, so a = 0.3 and p(x) = 0.65 * mean P_out + 0.35.
    #      target   refs that left it out     p(x)   ratio
    # x0    .96       .1, .3  -> .2            .48     2
    # x1    .444      .6, .6  -> .6            .74      .6
    # x2    .957      .8, .8  -> .8            .87     1.1
    # z0    .61           .4 (ref 1)           .61     1
    # z1    .24           .2 (ref 1)           .48      .5
    # z2    .732      .4     (ref 0)           .61     1.2
    # z3    .122      .4     (ref 0)           .61      .2
    # gamma = 1: x0 dominates 4 of z, x1 2 (.2, .5), x2 3 (.2, .5, 1). The tie-break is ratio / (1 + ratio).
    # x0: (4 + 2/3) / 5 = .9333333   x1: (2 + .6/1.6) / 5 = .475   x2: (3 + 1.1/2.1) / 5 = .7047619
    # z without itself: z0 (2 + 1/2) / 4 = .625, z1 (1 + .5/1.5) / 4 = .3333333, z2 (3 + 1.2/2.2) / 4 = .8863636,
    # z3 (0 + .2/1.2) / 4 = .0416667
    def with_other(p):
        return np.stack([p, 1 - np.array(p)], axis=1)

    seen = observation(
        3,
        4,
        with_other([0.96, 0.444, 0.957, 0.61, 0.24, 0.732, 0.122]),
        [with_other([0.1, 0.6, 0.8, 0.99, 0.99, 0.4, 0.4]), with_other([0.3, 0.6, 0.8, 0.4, 0.2, 0.99, 0.99])],
        [[1, 1, 0, 0], [0, 0, 1, 1]],
        "probabilities",
    )
    guess = rmia.run(seen, np.random.default_rng(0))
    np.testing.assert_allclose(guess.scores, [0.9333333, 0.475, 0.7047619], atol=1e-7)
    np.testing.assert_allclose(guess.population_scores, [0.625, 0.3333333, 0.8863636, 0.0416667], atol=1e-7)
    # gamma = 2: thresholds ratio / 2 = 1, .3, .55 against .2, .5, 1, 1.2 -> 3, 1, 2; x0 = 2 * z0 exactly
    wide = rmia.run(seen, np.random.default_rng(0), gamma=2.0)
    np.testing.assert_array_equal(np.floor(wide.scores[1:] * 5), [1, 2])
