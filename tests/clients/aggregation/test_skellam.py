"""Distributed noise: what is clipped, rounded, drawn and summed, and the epsilon it is worth."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from dp_accounting import rdp
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from clients.accounting import SKELLAM_ORDERS, epsilon, gaussian, skellam_epsilon, skellam_rdp
from clients.aggregation import skellam
from clients.aggregation.skellam import SkellamEncoding, SkellamPlanError, plan_skellam

NO_NOISE = 1e-12  # as a noise multiplier


def payload(update):
    return np.append(update, 1.0)


def summed(encoding, updates, rng):
    total = np.zeros(encoding.dimension + 1, f"u{encoding.bits // 8}")
    for update in updates:
        total += encoding.encode(payload(update), rng)
    return encoding.decode(total)


class TestEncode:
    @given(st.integers(0, 2**32), st.integers(1, 60), st.floats(0.3, 40), st.floats(0, 3))
    @settings(max_examples=200, deadline=None)
    def test_the_norm_is_bounded_always(self, seed, dimension, scale, length):
        """Also for updates longer than the clipping norm, and where rounding has much to say."""
        rng = np.random.default_rng(seed)
        encoding = SkellamEncoding(1.0, NO_NOISE, 1, dimension, scale, 32)
        update = rng.normal(size=dimension)
        update *= length / np.linalg.norm(update)
        whole = encoding.encode(payload(update), rng).astype(np.int32).astype(int)[:-1].tolist()
        l1, l2 = encoding.sensitivities()
        assert sum(value**2 for value in whole) <= encoding.squared_norm == round(l2**2)
        assert sum(abs(value) for value in whole) <= l1
        assert l2 <= scale + math.sqrt(dimension)

    def test_rounding_is_repeated_until_the_norm_is_kept(self, monkeypatch):
        """With beta = e^-1/2 a good part of the roundings is too long: c^2 + d/4 + c + sqrt(d)/2 with c = 5, d = 16."""
        monkeypatch.setattr(skellam, "BETA", math.exp(-0.5))
        encoding = SkellamEncoding(1.0, NO_NOISE, 1, 16, 5.0, 32)
        assert encoding.squared_norm == 25 + 4 + 5 + 2
        rng, values = np.random.default_rng(3), np.full(16, 1.25)  # each is rounded to 1 or, in one case of four, 2
        norms = [int(np.sum((encoding.encode(payload(values / 5), rng)[:-1].astype(int)) ** 2)) for _ in range(400)]
        assert max(norms) == 34  # 16 + 3 j, for at most six twos; seven would make 37
        free = stats.binom.sf(6, 16, 0.25)
        assert free > 0.05  # what unconditional rounding would have exceeded

    def test_rounding_is_unbiased(self):
        encoding = SkellamEncoding(1.0, NO_NOISE, 1, 4, 10.0, 32)
        update, rng = np.array([0.03, -0.03, 0.55, -0.5]), np.random.default_rng(1)
        mean = np.mean([encoding.decode(encoding.encode(payload(update), rng)) for _ in range(20_000)], axis=0)
        np.testing.assert_allclose(mean[:-1], update, atol=4 * 0.05 / math.sqrt(20_000))
        assert mean[-1] == 1

    @given(arrays(np.float64, 5, elements=st.floats(-10, 10)), st.floats(1e-3, 1e3))
    @settings(deadline=None)
    def test_with_next_to_no_noise_it_is_clipping_and_rounding(self, update, clipping_norm):
        encoding = SkellamEncoding(clipping_norm, NO_NOISE, 1, 5, 2.0**20 / clipping_norm, 64)
        clipped = update * min(1, clipping_norm / max(np.linalg.norm(update), 1e-300))
        found = encoding.decode(encoding.encode(payload(update), np.random.default_rng(1)))
        np.testing.assert_allclose(found, payload(clipped), atol=1.001 / encoding.scale)

    def test_32_and_64_bits_say_the_same(self):
        narrow = plan_skellam(1.0, 1.0, 50, 4)
        wide, update = replace(narrow, bits=64), np.linspace(-0.1, 0.1, 50)
        one, other = (e.encode(payload(update), np.random.default_rng(5)) for e in (narrow, wide))
        assert (one.dtype, other.dtype) == (np.uint32, np.uint64)
        np.testing.assert_array_equal(narrow.decode(one), wide.decode(other))

    def test_the_generator_decides(self):
        encoding = plan_skellam(1.0, 1.0, 50, 4)
        one, same, other = (encoding.encode(payload(np.zeros(50)), np.random.default_rng(seed)) for seed in (1, 1, 2))
        np.testing.assert_array_equal(one, same)
        assert (one != other).any()

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            (np.ones(5), "finite values"),
            (np.ones(3), "finite values"),
            (np.array([1.0, np.nan, 0, 1]), "finite values"),
            (np.array([1.0, np.inf, 0, 1]), "finite values"),
            (np.array([1.0, 0, 0, 37]), "weighs the same"),
            (np.array([1.0, 0, 0, np.nan]), "weighs the same"),
        ],
        ids=str,
    )
    def test_what_would_leave_without_protection_is_refused(self, wrong, message):
        with pytest.raises(ValueError, match=message) as caught:
            plan_skellam(1.0, 1.0, 3, 4).encode(wrong, np.random.default_rng(1))
        assert "37" not in str(caught.value)


class TestSum:
    def test_updates_come_back_within_the_noise(self):
        rng, encoding = np.random.default_rng(2), plan_skellam(2.0, 0.5, 20_000, 8)
        updates = rng.normal(size=(8, 20_000))
        updates /= np.linalg.norm(updates, axis=1, keepdims=True)  # norm one: nothing is clipped
        found = summed(encoding, updates, rng)
        assert found[-1] == 8
        errors = (found[:-1] - updates.sum(0)) / (0.5 * 2.0)
        assert errors.mean() == pytest.approx(0, abs=4 / math.sqrt(20_000))
        assert errors.std() == pytest.approx(1, abs=0.025)  # .2 % of it is the price of rounding
        assert stats.kstest(errors / errors.std(), "norm").pvalue > 1e-3

    @pytest.mark.parametrize("clients", [1, 3, 5])
    def test_the_sum_of_shares_is_skellam(self, clients):
        """Closed under sums, at a variance small enough to tell it from a rounded Gaussian."""
        encoding = SkellamEncoding(1.0, 0.5, 5, 100_000, 2.0**-30, 32)  # updates vanish, rounding does not
        encoding = replace(encoding, noise_multiplier=math.sqrt(3.0 / encoding.squared_norm))
        assert encoding.variance(5) == pytest.approx(3.0)
        found = summed(encoding, np.zeros((clients, 100_000)), np.random.default_rng(clients))[:-1] * encoding.scale
        mean = encoding.variance(clients) / 2
        values = np.arange(-8, 9)
        expected = stats.skellam.pmf(values, mean, mean) * len(found)
        keep = expected > 5
        counts = np.array([(found == value).sum() for value in values])
        statistic = ((counts - expected)[keep] ** 2 / expected[keep]).sum()
        assert stats.chi2.sf(statistic, keep.sum() - 1) > 1e-3
        assert found.var() == pytest.approx(encoding.variance(clients), rel=0.05)

    def test_every_client_at_its_limit_in_one_direction_does_not_wrap(self):
        encoding = plan_skellam(1.0, 60.0, 2, 5_000)
        scaled = summed(encoding, np.tile([-1.0, 0.0], (5_000, 1)), np.random.default_rng(1))
        assert scaled[0] == pytest.approx(-5_000, abs=5 * 60.2)

    @pytest.mark.parametrize("exponent", [3, 20, 31, 32])
    def test_numpy_draws_poisson_numbers_right_up_to_the_limit(self, exponent):
        mean = 2.0**exponent
        assert mean <= skellam.LARGEST_MEAN
        draws = np.random.default_rng(exponent).poisson(mean, 200_000)
        z = (draws - mean) / math.sqrt(mean)
        assert abs(z.mean()) < 4 / math.sqrt(len(z))
        assert abs(z.var() - 1) < 4 * math.sqrt((2 + 1 / mean) / len(z))
        assert stats.skew(z) == pytest.approx(1 / math.sqrt(mean), abs=0.025)
        assert np.mean(draws % 2) == pytest.approx(0.5, abs=0.005)
        # a jitter makes the law continuous, so that Kolmogorov and Smirnov's test is exact
        whole = draws.astype(float)
        jitter = np.random.default_rng(0).random(len(draws))
        uniform = stats.poisson.cdf(whole - 1, mean) + jitter * stats.poisson.pmf(whole, mean)
        assert stats.kstest(uniform, "uniform").pvalue > 1e-3

    def test_numpy_draws_them_wrong_far_beyond_the_limit(self):
        """All are multiples of 128: the last bits of an update would travel in clear."""
        draws = np.random.default_rng(1).poisson(2.0**60, 1000)
        assert np.gcd.reduce(draws) >= 128


PLANS = [  # clipping norm, noise multiplier, dimension, clients
    (1.0, 1.0, 4_000, 10),
    (0.01, 0.05, 100_000, 100),
    (30.0, 20.0, 10, 2),
    (1e6, 1.0, 500, 3),
    (1e-6, 0.3, 500, 3),
    (1.0, 0.7, 1_000_000, 1_000),
]


class TestPlan:
    @pytest.mark.parametrize("plan", PLANS, ids=str)
    def test_rounding_costs_next_to_nothing(self, plan):
        clipping_norm, noise, _, clients = plan
        encoding = plan_skellam(*plan)
        l1, l2 = encoding.sensitivities()
        assert encoding.variance(clients) == pytest.approx((noise * l2) ** 2)
        assert 1 <= l2 / (clipping_norm * encoding.scale) <= 1.002
        gaussians = np.array(SKELLAM_ORDERS) / (2 * noise**2)
        ratio = skellam_rdp(encoding.variance(clients), l1, l2) / gaussians
        assert 1 < ratio.min() <= ratio.max() <= 1.001

    @pytest.mark.parametrize(("noise", "rounds"), [(1.5, 1), (2.0, 4), (4.0, 8), (8.0, 30), (1.0, 2), (1.0, 100)])
    def test_epsilon_is_the_continuous_gaussians(self, noise, rounds):
        encoding = plan_skellam(1.0, noise, 4_000, 10)
        found = skellam_epsilon([(encoding.variance(10), *encoding.sensitivities())] * rounds, 1e-5)
        same_orders = rdp.RdpAccountant(SKELLAM_ORDERS).compose(gaussian(noise, rounds)).get_epsilon(1e-5)
        assert same_orders < found < same_orders * 1.001
        reference = epsilon(gaussian(noise, rounds), 1e-5, "rdp")  # at fractional orders too
        assert reference < found
        if found < 4:
            assert found < reference * 1.005

    def test_who_stays_away_or_colludes_costs_epsilon(self):
        encoding = plan_skellam(1.0, 2.0, 4_000, 10)
        spent = [skellam_epsilon([(encoding.variance(n), *encoding.sensitivities())] * 3, 1e-5) for n in range(11)]
        assert spent[0] == math.inf
        assert spent == sorted(spent, reverse=True)
        # seven of ten: the noise multiplier is sqrt(.7) of the plan's
        assert spent[7] == pytest.approx(epsilon(gaussian(2 * math.sqrt(0.7), 3), 1e-5, "rdp"), rel=0.01)

    @pytest.mark.parametrize("plan", PLANS, ids=str)
    def test_no_wrap_round(self, plan):
        """By the exact tail of the sum's noise, beside the largest sum of rounded updates."""
        clients = plan[-1]
        encoding = plan_skellam(*plan)
        room = 2 ** (encoding.bits - 1) - 1 - clients * math.isqrt(encoding.squared_norm)
        odds = 2 * encoding.dimension * stats.norm.sf(room / math.sqrt(encoding.variance(clients)))
        assert odds < 2**-40

    @given(st.floats(0.5, 200), st.floats(1e-3, 60))
    def test_the_tail_bound_is_one(self, variance, factor):
        """Bernstein's bound, from which the modulus follows, against the exact tail."""
        bound = math.exp(-(factor**2) / (2 * (variance + factor / 3)))
        assert stats.skellam.sf(math.ceil(factor) - 1, variance / 2, variance / 2) <= bound * (1 + 1e-9) + 1e-12

    def test_64_bits_where_32_are_too_few(self):
        assert plan_skellam(1.0, 1.0, 4_000, 10).bits == 32
        assert plan_skellam(1.0, 1.0, 4_000, 10, clients_at_most=2_000_000).bits == 64
        assert plan_skellam(1.0, 1e-4, 4_000, 10_000).bits == 64

    def test_more_may_come_than_are_counted_on(self):
        few, more = plan_skellam(1.0, 1.0, 40, 5), plan_skellam(1.0, 1.0, 40, 5, clients_at_most=50)
        assert more == few  # same noise each; only the room in the modulus is another

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"noise_multiplier": 1e-6, "clients_planned": 10**12}, "does not fit into 64 bits"),
            ({"noise_multiplier": 1e-9}, "larger noise_multiplier"),
            ({"noise_multiplier": 1e4}, "Poisson means"),
            ({"noise_multiplier": 0.0}, "noise_multiplier=0"),
            ({"noise_multiplier": math.nan}, "noise_multiplier=nan"),
            ({"clipping_norm": 0.0}, "clipping_norm=0"),
            ({"clipping_norm": math.inf}, "clipping_norm=inf"),
            ({"dimension": 0}, "dimension=0"),
            ({"clients_planned": 0}, "clients_planned=0"),
            ({"clients_at_most": 4}, "clients_at_most=4"),
        ],
        ids=str,
    )
    def test_plans_that_cannot_be(self, arguments, message):
        plan = {"clipping_norm": 1.0, "noise_multiplier": 1.0, "dimension": 10, "clients_planned": 5} | arguments
        with pytest.raises(SkellamPlanError, match=message):
            plan_skellam(**plan)
