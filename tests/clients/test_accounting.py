"""What the accountant answers, what it refuses, and that its bounds are bounds."""

from __future__ import annotations

import logging
import math
import time

import dp_accounting as dp
import numpy as np
import pytest
from dp_accounting import rdp
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from clients.accounting import (
    SKELLAM_ORDERS,
    AccountingError,
    epsilon,
    gaussian,
    group_of_two,
    local_gaussian,
    one_coin,
    skellam_epsilon,
    skellam_rdp,
    solve_noise,
    subsampled_gaussian,
    with_count,
)

noises = st.floats(0.3, 30)
rates = st.floats(1e-4, 0.5)
deltas = st.sampled_from([1e-3, 1e-5, 1e-8])


@given(noises, rates, st.integers(1, 3000), st.integers(1, 20), deltas)
@settings(max_examples=8, deadline=None)
def test_renyi_agrees_with_dp_accounting(noise, rate, steps, local, delta):
    event = dp.ComposedDpEvent([one_coin(rate, noise, local, steps), gaussian(noise, steps), gaussian(2 * noise, 1)])
    reference = rdp.RdpAccountant().compose(event).get_epsilon(delta)
    assert epsilon(event, delta, "rdp") == pytest.approx(reference, rel=1e-6)


@pytest.mark.parametrize(("noise", "rate", "steps"), [(1.5, 0.05, 100), (3, 0.2, 100), (60, 0.01, 30)])
def test_loss_distributions_are_tighter_and_agree_with_finer_ones(noise, rate, steps):
    event = subsampled_gaussian(noise, rate, steps)
    found = epsilon(event, 1e-6)
    assert 0 < found < epsilon(event, 1e-6, "rdp")
    fine = dp.pld.PLDAccountant(value_discretization_interval=1.5e-5 * found).compose(event).get_epsilon(1e-6)
    assert fine * (1 - 1e-6) <= found <= fine * 1.001


@pytest.mark.parametrize("delta", [1e-3, 1e-5, 1e-9])
@pytest.mark.parametrize("noise", [0.05, 0.5, 1, 5, 100])
def test_unsampled_gaussians_meet_the_closed_form(noise, delta):
    exact = dp.get_epsilon_gaussian(noise / math.sqrt(30), delta)
    assert exact * (1 - 1e-9) <= epsilon(gaussian(noise, 30), delta) <= exact * 1.001 + 1e-9


@pytest.mark.parametrize("accountant", ["pld", "rdp"])
class TestEdges:
    def test_no_noise_is_infinite(self, accountant):
        assert epsilon(gaussian(0, 1), 1e-5, accountant) == math.inf
        assert epsilon(one_coin(0.1, 0, 3, 2), 1e-5, accountant) == math.inf
        assert epsilon(dp.ComposedDpEvent([gaussian(1, 1), dp.NonPrivateDpEvent()]), 1e-5, accountant) == math.inf

    def test_no_release_is_zero(self, accountant):
        nothing = [gaussian(1, 0), gaussian(0, 0), subsampled_gaussian(1, 0.1, 0), subsampled_gaussian(1, 0, 9)]
        for event in (
            *nothing,
            one_coin(0.1, 1, 0, 5),
            one_coin(0.1, 0, 0, 5),
            dp.NoOpDpEvent(),
            dp.ComposedDpEvent([]),
        ):
            assert epsilon(event, 1e-5, accountant) == 0
            assert group_of_two(event, 1e-5) == 0

    def test_a_rate_of_one_is_no_sampling(self, accountant):
        everybody = epsilon(subsampled_gaussian(2, 1.0, 10), 1e-5, accountant)
        assert everybody == epsilon(gaussian(2, 10), 1e-5, accountant)

    @pytest.mark.parametrize(
        "event",
        [
            dp.UnsupportedDpEvent(),
            dp.LaplaceDpEvent(1.0),
            dp.SampledWithReplacementDpEvent(100, 10, dp.GaussianDpEvent(1.0)),
            dp.SelfComposedDpEvent(dp.SampledWithoutReplacementDpEvent(100, 10, dp.GaussianDpEvent(0.0)), 1),
            dp.PoissonSampledDpEvent(0.1, dp.SelfComposedDpEvent(dp.GaussianDpEvent(1.0), 2)),
            subsampled_gaussian(-1, 0.1, 1),
            subsampled_gaussian(1, 1.1, 1),
            subsampled_gaussian(1, 0.1, -1),
            gaussian(math.nan, 1),
        ],
        ids=str,
    )
    def test_refusals(self, accountant, event):
        for ask in (lambda e: epsilon(e, 1e-5, accountant), lambda e: group_of_two(e, 1e-5)):
            with pytest.raises(AccountingError):
                ask(dp.ComposedDpEvent([gaussian(1, 1), event]))

    @pytest.mark.parametrize("delta", [0, 1, -1, math.nan])
    def test_delta_is_a_probability(self, accountant, delta):
        with pytest.raises(AccountingError, match="delta"):
            epsilon(gaussian(1, 1), delta, accountant)


def test_order_and_nesting_do_not_matter():
    flat = [gaussian(2, 1), subsampled_gaussian(1, 0.1, 3), gaussian(2, 1), subsampled_gaussian(1, 0.1, 2)]
    nested = dp.SelfComposedDpEvent(dp.ComposedDpEvent([gaussian(2, 1), dp.NoOpDpEvent()]), 2)
    other = dp.ComposedDpEvent((subsampled_gaussian(1, 0.1, 5), nested))
    assert epsilon(dp.ComposedDpEvent(flat), 1e-5) == epsilon(other, 1e-5)


def test_many_rounds_of_unequal_noise_are_quick():
    rounds = [gaussian(noise, 1) for noise in np.linspace(8, 10, 500)]
    start = time.monotonic()
    found = epsilon(dp.ComposedDpEvent(rounds), 1e-5)
    assert time.monotonic() - start < 5
    exact = dp.get_epsilon_gaussian(np.sum(np.linspace(8, 10, 500) ** -2.0) ** -0.5, 1e-5)
    assert exact <= found <= exact * 1.001


@pytest.mark.parametrize("noise", [1e-6, 0.006, 0.05, 1e4])
def test_extreme_noise_needs_neither_memory_nor_time(noise):
    """At a fixed grid the loss distribution of noise .02 takes all the memory there is."""
    start = time.monotonic()
    found = epsilon(subsampled_gaussian(noise, 0.0625, 320), 1e-5)
    assert time.monotonic() - start < 5
    assert 0 < found < math.inf
    assert (found > 1e3) == (noise < 0.1)


def test_a_second_answer_is_free():
    event = subsampled_gaussian(0.9, 0.03, 700)
    first = epsilon(event, 1e-5)
    start = time.monotonic()
    assert epsilon(subsampled_gaussian(0.9, 0.03, 700), 1e-5) == first
    assert time.monotonic() - start < 0.1


def test_nothing_is_said_on_the_way(capfd, caplog):
    event, logger = subsampled_gaussian(1.01, 0.11, 90), logging.getLogger("absl")
    rdp.RdpAccountant().compose(event)
    assert "Excluding this order" in caplog.text + capfd.readouterr().err  # so there is something to silence
    caplog.clear()
    epsilon(event, 1e-5)
    assert not caplog.text
    assert capfd.readouterr() == ("", "")
    assert not logger.filters


def test_rounding_errors_are_not_taken_for_perfect_privacy():
    """With hardly any loss per step, a divergence comes out below zero, which dp_accounting takes for epsilon 0."""
    rate, noise, steps, delta = 6.579639016861211e-06, 70706.35933435346, 10**9, 1e-9
    event = subsampled_gaussian(noise, rate, steps)
    printed = rdp.RdpAccountant().compose(event).get_epsilon(delta)
    limit = dp.get_epsilon_gaussian(noise / rate / math.sqrt(steps), delta)  # what so many small steps come down to
    assert printed == 0 < limit <= epsilon(event, delta, "rdp")


def test_local_noise_hides_a_replaced_update():
    assert local_gaussian(3.0, 20) == gaussian(1.5, 20)
    assert epsilon(local_gaussian(3.0, 20), 1e-5) > epsilon(gaussian(3.0, 20), 1e-5)


@pytest.mark.parametrize("count_noise", [0.5, 0.1, 0])
def test_a_count_that_takes_the_whole_budget(count_noise):
    with pytest.raises(AccountingError, match=r"above 0\.5"):
        with_count(1.0, count_noise)


@given(st.floats(0.1, 100), st.floats(1.001, 1e4))
def test_a_count_takes_its_part(noise, factor):
    left = with_count(noise, factor * noise / 2)
    assert left >= noise
    assert left**-2 + (factor * noise) ** -2 == pytest.approx(noise**-2)


class TestGroups:
    @pytest.mark.parametrize("event", [subsampled_gaussian(1, 0.0625, 320), one_coin(0.1, 4, 10, 50)], ids=str)
    def test_two_steps_are_the_smallest_valid(self, event):
        found = group_of_two(event, 1e-5)
        one = found / 2

        def spent(half):
            delta = min(1e-5, 1e-5 / (1 + math.exp(half)))
            return epsilon(event, delta)

        assert spent(one * 1.005) < one * 1.005
        assert spent(one * 0.995) > one * 0.995
        assert found > 2 * epsilon(event, 1e-5)

    def test_sampling_never_hurts(self):
        assert group_of_two(subsampled_gaussian(1, 0.9, 50), 1e-5) <= epsilon(gaussian(0.5, 50), 1e-5)

    def test_sampled_and_unsampled_together(self):
        event = dp.ComposedDpEvent([subsampled_gaussian(2, 0.1, 50), gaussian(20, 50)])
        assert group_of_two(event, 1e-5) > group_of_two(subsampled_gaussian(2, 0.1, 50), 1e-5)
        assert group_of_two(dp.ComposedDpEvent([event, gaussian(0, 1)]), 1e-5) == math.inf


class TestSolving:
    @pytest.mark.parametrize("target", [0.5, 1e5])
    def test_the_least_noise_that_keeps_the_target(self, target):
        start = time.monotonic()
        noise = solve_noise(lambda z: subsampled_gaussian(z, 0.05, 200), target, 1e-5)
        assert time.monotonic() - start < 20
        assert noise == float(f"{noise:.4g}")
        assert epsilon(subsampled_gaussian(noise, 0.05, 200), 1e-5) <= target
        assert epsilon(subsampled_gaussian(noise * 0.997, 0.05, 200), 1e-5) > target

    def test_beside_releases_that_are_settled(self):
        def plan(noise):
            return dp.ComposedDpEvent([gaussian(5.0, 10), gaussian(noise, 10)])

        noise = solve_noise(plan, 4.0, 1e-5)
        assert 3.9 < epsilon(plan(noise), 1e-5) <= 4.0

    def test_out_of_reach(self):
        with pytest.raises(AccountingError, match="stays above the target"):
            solve_noise(lambda z: dp.ComposedDpEvent([gaussian(1.0, 1), gaussian(z, 1)]), 1.0, 1e-5)
        with pytest.raises(AccountingError, match="stays below the target"):
            solve_noise(lambda z: gaussian(z, 0), 1.0, 1e-5)

    @pytest.mark.parametrize("target", [0, -1, math.inf, math.nan])
    def test_impossible_targets(self, target):
        with pytest.raises(AccountingError, match="target"):
            solve_noise(lambda z: gaussian(z, 1), target, 1e-5)


def skellam_divergence(variance, shift, order):
    """Exact, by summing over the integers: the pmf is exp(-variance) I_k(variance)."""
    spread = int(30 * math.sqrt(variance))
    k = np.arange(-spread, spread + order * shift)  # the sum's mass lies around order * shift
    here, there = np.log(special.ive(np.abs(k), variance)), np.log(special.ive(np.abs(k - shift), variance))
    terms = order * here - (order - 1) * there
    assert terms[[0, -1]].max() < terms.max() - 30  # nothing is cut off
    return special.logsumexp(terms) / (order - 1)


@pytest.mark.parametrize("variance", [100, 1_000, 50_000])
@pytest.mark.parametrize("shift", [1, 3, 10])
@pytest.mark.parametrize("order", [2, 3, 8])
def test_the_skellam_bound_holds_and_is_close(variance, shift, order):
    exact, (bound,) = skellam_divergence(variance, shift, order), skellam_rdp(variance, shift, shift, [order])
    assert exact <= bound <= exact * (1 + 5 * shift / variance + 1e-9)
    assert exact > 0.9 * order * shift**2 / (2 * variance)  # a Gaussian's, nearly


class TestSkellamEpsilon:
    def test_is_a_gaussians_where_variance_is_large(self):
        found = skellam_epsilon([(1e12, 1e6, 1e6)] * 4, 1e-5)  # four rounds at noise multiplier one
        reference = rdp.RdpAccountant(SKELLAM_ORDERS).compose(gaussian(1.0, 4)).get_epsilon(1e-5)
        assert reference <= found <= reference * (1 + 1e-5)

    def test_edges(self):
        assert skellam_epsilon([], 1e-5) == 0
        assert skellam_epsilon([(100.0, 0.0, 0.0)], 1e-5) == 0
        assert skellam_epsilon([(100.0, 1.0, 1.0), (0.0, 1.0, 1.0)], 1e-5) == math.inf

    def test_rounds_add_up_in_any_order(self):
        one, other = (1e4, 50.0, 10.0), (2e4, 50.0, 10.0)
        assert skellam_epsilon([one, other, one], 1e-5) == pytest.approx(skellam_epsilon([one, one, other], 1e-5))
        assert skellam_epsilon([one, one], 1e-5) > skellam_epsilon([one, other], 1e-5) > skellam_epsilon([one], 1e-5)
