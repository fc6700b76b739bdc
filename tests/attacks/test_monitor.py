"""The owner's side: what is flagged by hand, what normal use sets off, and what the attacks' queries do."""

import numpy as np
import pytest
from scipy import stats

from attacks import boundary, label_only, loss
from attacks.attack import Attack, carry_out
from attacks.monitor import KEPT, STRETCH, Monitor, Normal, learn, normality
from attacks.observation import Observation, Oracle, Records

NEVER = Normal(distance=0.0, shape=0.0)


def answered(x):
    return np.eye(2, dtype=np.float32)[(x[:, 0] > 0).astype(int)]


def drawn(count, seed, features=12):
    x = np.random.default_rng(seed).normal(size=(count, features)).astype(np.float32)
    return Records(x, answered(x).argmax(axis=1))


def watched(normal, *batches):
    monitor = Monitor(normal)
    for x in batches:
        monitor.see(x, answered(x))
    return monitor.flagged


def test_near_duplicates_by_hand():
    """Of five queries at 0, 9, 0.1, 0.2, 20 only the fourth has a second nearest earlier query within 1."""
    x = np.array([[0.0], [9.0], [0.1], [0.2], [20.0]], dtype=np.float32)
    normal = Normal(distance=1.0, shape=0.0)
    assert watched(normal, x) == pytest.approx(1 / 5)
    assert watched(normal, x[:2], x[2:]) == pytest.approx(1 / 5)  # batches make no difference
    assert watched(normal, *np.split(x, 5)) == pytest.approx(1 / 5)


def test_odd_shapes_by_hand():
    """The distances to the nearest earlier query take two values: W of a stretch is that of a coin."""
    x = np.cumsum(np.tile([1.0, 5.0], STRETCH)).astype(np.float32)[: STRETCH + 1, None]
    w = normality(np.tile([1.0, 5.0], STRETCH // 2))
    assert w == pytest.approx(stats.shapiro(np.tile([1.0, 5.0], STRETCH // 2)).statistic)
    assert watched(Normal(0.0, w + 0.05), x) == pytest.approx(STRETCH / (STRETCH + 1))
    assert watched(Normal(0.0, w - 0.05), x) == 0


def test_thresholds_are_quantiles_of_normal_use():
    x = np.concatenate([np.arange(0, 200, 2.0), [250.0, 252.5]]).astype(np.float32)[:, None]
    normal = learn(x, np.zeros(len(x), dtype=int), false_alarms=0.5)
    assert normal.distance == pytest.approx(4 / 2)  # the second nearest is 4 off, and far below is half of it


def test_normal_use_is_seldom_flagged():
    normal = learn(drawn(400, 0).x, drawn(400, 0).y)
    assert np.mean([watched(normal, drawn(400, seed).x) for seed in range(1, 8)]) < 0.1


def test_nothing_asked_is_nothing_seen():
    assert Monitor(NEVER).flagged is None


def test_a_large_batch_is_examined_in_part():
    """A fifth of 5,000 queries repeats one point: the share is estimated from those that are looked at."""
    x = drawn(5_000, 3).x
    x[np.random.default_rng(0).permutation(5_000)[:1_000]] = 0.5
    assert watched(Normal(1e-3, 0.0), x) == pytest.approx(0.2, abs=0.08)


def test_only_the_latest_are_remembered():
    point, others = np.full((3, 12), 9.0, dtype=np.float32), drawn(KEPT, 4).x
    assert watched(Normal(1e-3, 0.0), point[:2], others, point[2:]) == 0
    assert watched(Normal(1e-3, 0.0), point[:2], others[:-9], point[2:]) > 0


def test_who_asks_for_losses_looks_normal_and_who_feels_for_the_boundary_does_not():
    observation = Observation(
        vantage="query", candidates=drawn(150, 5), population=drawn(200, 6), oracle=Oracle(answered, "label")
    )
    normal = learn(drawn(400, 0).x, drawn(400, 0).y)

    def flagged(run):
        monitor = Monitor(normal)
        carry_out(Attack("it", "", run, ("model to query",), ""), observation, np.random.default_rng(0), monitor.see)
        return monitor.flagged

    assert flagged(loss.run) < 0.1
    assert flagged(boundary.run) > 0.5
    assert flagged(label_only.run) > 2 * flagged(loss.run)
