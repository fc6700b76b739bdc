"""Calibration ranges: the likelihood ratio by hand, and who was in the set that left them."""

import math

import numpy as np
import pytest

from attacks.attack import carry_out
from attacks.calibration_set import CALIBRATION_RANGES, SURE, Side, ratio
from attacks.observation import Observation, Opened, Records, VantageLacksError
from sim.score import auc

COUNT, POOL, OWN = 30, 300, 400


def ends(x, weights):
    layers = [x, *(np.maximum(x @ weights[:, i : i + 8], 0) for i in range(0, 24, 8)), x @ weights[:, 24:]]
    return tuple(np.stack([pick(layer, axis=1) for layer in layers], axis=1) for pick in (np.min, np.max))


def world(seed, inside=True, grid=None):
    """A network of one layer with three rectified parts, quantised with a draw of the candidates, or of others."""
    rng = np.random.default_rng(seed)

    def draw(count):
        x = rng.normal(size=(count, 12)).astype(np.float32)
        return x if grid is None else np.clip(np.round(x / grid) * grid, -1, 1).astype(np.float32)

    weights, candidates, own = rng.normal(size=(12, 32)), draw(POOL), draw(OWN)
    member = rng.permutation(POOL) < COUNT
    low, high = ends(candidates[member] if inside else draw(COUNT), weights)
    low, high = np.minimum(low.min(axis=0), 0), np.maximum(high.max(axis=0), 0)
    scale = (high - low) / 255
    start = np.round(low / scale) * scale  # the zero point is a whole number
    rounded = weights + rng.uniform(-0.004, 0.004, weights.shape)

    def extremes(x, moved):
        return ends(x, rounded if moved is None else rounded + moved.uniform(-0.004, 0.004, weights.shape))

    file = Opened(rounded.ravel(), start, start + 255 * scale, extremes, COUNT)
    labels = np.zeros(POOL, dtype=np.int64), np.zeros(OWN, dtype=np.int64)
    return Observation(
        vantage="device", candidates=Records(candidates, labels[0]), population=Records(own, labels[1]), file=file
    ), member


def run(observation, seed=0):
    return carry_out(CALIBRATION_RANGES, observation, np.random.default_rng(seed))


SIDE = Side(recorded=10.0, half_step=0.0, noise=0.01, tail=0.5, own=np.linspace(0, 9, 100), other=np.empty(0))


def test_far_below_the_end_nothing_is_learnt():
    assert ratio(np.array([5.0]), SIDE, 10)[0] == pytest.approx(math.log(0.9 * 1.1), abs=1e-3)


def test_past_the_end_a_record_is_out():
    assert ratio(np.array([10.1, 12.0, 1e9]), SIDE, 10) == pytest.approx([math.log(1e-4)] * 3)


def test_at_the_end_by_hand():
    """Set it: N(0; 0.01) / 10. Outside: 1 / (0.5 * 11). Below, in half of the cases: 0.9 * 1.1 / 2."""
    spike = 1 / (0.01 * math.sqrt(2 * math.pi)) / 10
    expected = math.log(spike * 0.5 * 11 + 0.99 / 2)
    assert ratio(np.array([10.0]), SIDE, 10)[0] == pytest.approx(expected, abs=1e-3)


def test_a_value_that_many_share_tells_nothing():
    """Ends at a sensor's limit: everybody who reaches it would have set the same end."""
    limited = Side(10.0, 0.0, 2e-6, 1e-6, np.append(np.linspace(0, 9, 50), np.full(50, 10.0)), np.empty(0))
    assert abs(ratio(np.array([10.0]), limited, 10)[0]) < 1


def test_the_other_end_confirms_to_seven_digits():
    """The width is exact: a candidate at one end, with another where the width says, set the range together."""
    alone = Side(10.0, 0.05, 2e-6, 0.5, np.linspace(0, 9, 100), np.array([9.97]))
    confirmed = ratio(np.array([10.02]), Side(10.0, 0.05, 2e-6, 0.5, alone.own, np.array([10.02])), 10)[0]
    assert ratio(np.array([10.02]), alone, 10)[0] < 2
    assert confirmed > SURE


def test_calibration_records_score_higher():
    areas = [auc(run(world(seed)[0]).scores, world(seed)[1]) for seed in range(6)]
    assert np.mean(areas) > 0.55


def test_at_chance_where_the_calibration_records_are_from_elsewhere():
    areas = [auc(run(world(seed, inside=False)[0]).scores, world(seed)[1]) for seed in range(6)]
    assert abs(np.mean(areas) - 0.5) < 3 * 0.056 / math.sqrt(6)


def test_at_chance_where_every_record_reaches_the_sensor_s_limit():
    observation, member = world(3, grid=0.5)
    input_only = np.array([0])
    file = observation.file
    only = Opened(
        file.weights,
        file.low[input_only],
        file.high[input_only],
        lambda x, moved: tuple(end[:, :1] for end in file.extremes(x, moved)),
        COUNT,
    )
    scores = run(
        Observation(vantage="device", candidates=observation.candidates, population=observation.population, file=only)
    ).scores
    assert abs(auc(scores, member) - 0.5) < 3 * 0.056
    assert not (scores > SURE).any()


def test_who_is_called_is_called_rightly():
    for seed in range(4):
        observation, member = world(seed)
        scores = run(observation).scores
        assert member[scores > SURE].sum() >= 2  # those at both ends of the input
        assert member[scores > SURE].mean() >= 0.75
        assert (scores < -SURE).any()
        assert not member[scores < -SURE].any()


def test_own_records_score_like_outsiders():
    observation, member = world(0)
    guess = run(observation)
    side = np.repeat([True, False], [OWN, (~member).sum()])
    assert abs(auc(np.concatenate([guess.population_scores, guess.scores[~member]]), side) - 0.5) < 3 * 0.023


def test_same_generator_same_scores():
    observation, _ = world(0)
    np.testing.assert_array_equal(run(observation).scores, run(observation).scores)


def test_needs_the_file():
    observation, _ = world(0)
    without = Observation(vantage="query", candidates=observation.candidates, population=observation.population)
    with pytest.raises(VantageLacksError, match="needs file of the model, vantage 'query' has no file of the model"):
        run(without)
