"""Epsilons against published figures, other accountants, and sums done by hand."""

from __future__ import annotations

import math

import dp_accounting as dp
import mpmath
import numpy as np
import pytest
from dp_accounting import pld, rdp
from flwr.serverapp import NeighboringRelation, PrivacyConfig, RdpAccountant, SamplingMethod
from flwr.supercore.privacy_accounting import GaussianPrivacyEvent
from opacus.accountants import PRVAccountant, RDPAccountant
from scipy.optimize import brentq
from scipy.stats import binom, norm

from clients.accounting import (
    AccountingError,
    epsilon,
    gaussian,
    group_of_two,
    local_gaussian,
    one_coin,
    seen_coin,
    skellam_rdp,
    solve_noise,
    subsampled_gaussian,
    with_count,
)

RECORDS = [  # sampling rate, noise multiplier, steps; epsilon at 1e-5 from dp-accounting 0.6: RDP, PLD
    (0.0625, 1.0, 320, 8.4476, 7.6275),
    (0.0625, 1.0, 800, 13.7576, 12.5501),
    (0.0625, 1.0, 1600, 20.5166, 18.9115),
    (256 / 60_000, 1.1, 3515, 1.2811, 1.1337),  # the MNIST tutorial of TensorFlow Privacy
]


@pytest.mark.parametrize(("rate", "noise", "steps", "renyi", "losses"), RECORDS)
def test_dp_sgd(rate, noise, steps, renyi, losses):
    event = subsampled_gaussian(noise, rate, steps)
    assert epsilon(event, 1e-5, "rdp") == pytest.approx(renyi, abs=1e-4)
    assert epsilon(event, 1e-5) == pytest.approx(losses, rel=1e-4)


@pytest.mark.parametrize(("rate", "noise", "steps"), [RECORDS[0][:3], RECORDS[3][:3]])
def test_opacus_agrees(rate, noise, steps):
    event, tight, loose = subsampled_gaussian(noise, rate, steps), PRVAccountant(), RDPAccountant()
    tight.history = loose.history = [(noise, rate, steps)]
    ours = epsilon(event, 1e-5)
    assert tight.get_epsilon(1e-5, eps_error=1e-3 * ours) == pytest.approx(ours, rel=2e-3)
    assert loose.get_epsilon(1e-5) == pytest.approx(epsilon(event, 1e-5, "rdp"), rel=7e-3)  # it has other orders


@pytest.mark.parametrize(("steps", "renyi", "tight"), [(800, 13.6764, 12.5608), (1600, 20.4198, 18.9224)])
def test_opacus_as_it_comes(steps, renyi, tight):
    for accountant, expected in ((RDPAccountant(), renyi), (PRVAccountant(), tight)):
        accountant.history = [(1.0, 0.0625, steps)]
        assert accountant.get_epsilon(1e-5) == pytest.approx(expected, abs=1e-4)
    assert epsilon(subsampled_gaussian(1.0, 0.0625, steps), 1e-5) == pytest.approx(tight, rel=2e-3)


@pytest.mark.parametrize(
    ("clients", "sampled", "rounds", "renyi", "losses", "unsampled"),
    [(100, 10, 100, 4.616, 3.724, 74.05), (1000, 50, 200, 4.014, 3.423, 145.63)],
)
def test_clients(clients, sampled, rounds, renyi, losses, unsampled):
    event, delta = subsampled_gaussian(1.0, sampled / clients, rounds), clients**-1.1
    assert epsilon(event, delta, "rdp") == pytest.approx(renyi, abs=1e-3)
    assert epsilon(event, delta) == pytest.approx(losses, abs=1e-3)
    assert epsilon(gaussian(1.0, rounds), delta) == pytest.approx(unsampled, abs=1e-2)


COINS = [  # rate, local steps, noise, rounds; epsilon with a coin per step, with a coin nobody sees, and with one seen
    (0.1, 10, 4, 50, 2.34, 3.35, 11.69),
    (0.1, 20, 4, 100, 5.12, 8.75, 26.89),
    (0.05, 20, 3, 200, 4.85, 11.70, 41.96),
]


@pytest.mark.parametrize(("rate", "steps", "noise", "rounds", "wrong", "hidden", "seen"), COINS)
def test_one_coin_for_all_local_steps_of_a_round(rate, steps, noise, rounds, wrong, hidden, seen):
    """`hidden` is right for noise that is there in any case, `seen` for the client's own; `wrong`: a coin per step."""
    assert epsilon(one_coin(rate, noise, steps, rounds), 1e-5) == pytest.approx(hidden, abs=6e-3)
    assert epsilon(subsampled_gaussian(noise, rate, steps * rounds), 1e-5) == pytest.approx(wrong, abs=6e-3)
    found = epsilon(seen_coin(rate, gaussian(noise, steps), rounds), 1e-5)
    assert found == pytest.approx(seen, abs=6e-3)
    assert found >= _with_a_seen_coin(rate, steps, noise, rounds, 1e-5)


def _with_a_seen_coin(rate, steps, noise, rounds, delta):
    """The number of participations is binomial, and k of them are one Gaussian: a mean of exact deltas, solved for."""
    count = np.arange(1, rounds + 1)
    mu = np.sqrt(count * steps) / noise

    def excess(e):
        deltas = norm.cdf(mu / 2 - e / mu) - np.exp(e + norm.logcdf(-mu / 2 - e / mu))
        return binom.pmf(count, rounds, rate) @ deltas - delta

    return brentq(excess, 0, 500, xtol=1e-9)


def test_sampled_steps_behind_a_seen_coin():
    """Two rounds: delta is a mean over 0, 1 and 2 participations, each with its own loss distribution."""
    rate, one_round = 0.4, subsampled_gaussian(1.2, 0.3, 4)
    found = epsilon(seen_coin(rate, one_round, 2), 1e-4)
    losses = [
        pld.PLDAccountant(value_discretization_interval=1e-3).compose(dp.SelfComposedDpEvent(one_round, k))
        for k in (1, 2)
    ]
    exact = sum(binom.pmf(k, 2, rate) * each.get_delta(found) for k, each in enumerate(losses, 1))
    assert exact == pytest.approx(1e-4, rel=5e-3)
    assert epsilon(seen_coin(rate, one_round, 2), 1e-4, "rdp") >= found
    assert epsilon(seen_coin(1.0, one_round, 2), 1e-4) == epsilon(dp.SelfComposedDpEvent(one_round, 2), 1e-4)
    assert epsilon(seen_coin(0.0, one_round, 2), 1e-4) == 0


@pytest.mark.parametrize("delta", [0.3, 1e-5, 1e-9, 1e-11, 1e-14, 1e-30])
@pytest.mark.parametrize("mu", [0.1, 1.0, 4.0])
def test_gaussians_at_any_delta(mu, delta):
    """Against the formula of Balle & Wang 2018 in 80 digits; sampled releases, by their Renyi bound, from above."""
    found, sampled = epsilon(gaussian(1 / mu, 1), delta), epsilon(subsampled_gaussian(10 / mu, 1 - 1e-9, 100), delta)
    with mpmath.workdps(80):
        e, m = mpmath.mpf(found), mpmath.mpf(mu)
        exact = mpmath.ncdf(m / 2 - e / m) - mpmath.exp(e) * mpmath.ncdf(-m / 2 - e / m)
        if found == 0:
            assert exact <= delta
        else:
            assert float(exact / delta) == pytest.approx(1, abs=1e-6)
    assert found * (1 - 1e-5) <= sampled <= 1.12 * found + 1e-3


@pytest.mark.parametrize(("noise", "expected"), [(0.0496, 299), (0.0986, 99.24), (0.2317, 29.33)])
def test_stack_overflow_with_one_participation(noise, expected):
    """Andrew et al. 2023 (arXiv 2302.03098), Table 2: 342,477 users, delta N^-1.1, in the paper 300, 100 and 30."""
    assert epsilon(gaussian(noise, 1), 342_477**-1.1) == pytest.approx(expected, abs=1e-2)


@pytest.mark.parametrize(("target", "expected"), [(1, 4.2247), (3, 1.5439), (10, 0.5411)])
def test_noise_of_the_analytic_gaussian(target, expected):
    """Balle & Wang 2018 (arXiv 1805.06530)."""
    assert expected <= solve_noise(lambda noise: gaussian(noise, 1), target, 1e-6) <= expected * 1.0005
    assert dp.get_sigma_gaussian(target, 1e-6) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("sampling", "rounds", "expected"),
    [(SamplingMethod.NO_AMPLIFICATION, 5, 12.30), (SamplingMethod.POISSON, 100, 7.904)],
)
def test_flower_agrees(sampling, rounds, expected):
    flower = RdpAccountant(PrivacyConfig(1e-5, 100, NeighboringRelation.ADD_OR_REMOVE_ONE, sampling))
    flower.compose(GaussianPrivacyEvent(1.0, 10, 100), rounds)
    event = (
        gaussian(1.0, rounds) if sampling is SamplingMethod.NO_AMPLIFICATION else subsampled_gaussian(1, 0.1, rounds)
    )
    assert flower.get_epsilon(1e-5) == pytest.approx(expected, abs=2e-3)
    assert epsilon(event, 1e-5, "rdp") == pytest.approx(flower.get_epsilon(1e-5), rel=1e-9)


def fixed_size(noise):
    return dp.SelfComposedDpEvent(dp.SampledWithoutReplacementDpEvent(100, 10, dp.GaussianDpEvent(noise)), 100)


def test_a_sample_of_fixed_size_is_not_taken_for_what_it_is_not():
    """dp-accounting issue 378: replacing moves the sum by twice the norm, so what it prints at z is true of 2z."""
    relation = dp.NeighboringRelation.REPLACE_ONE
    printed, right = (
        rdp.RdpAccountant(neighboring_relation=relation).compose(fixed_size(noise)).get_epsilon(100**-1.1)
        for noise in (1.0, 0.5)
    )
    assert (printed, right) == pytest.approx((8.97, 77.5), abs=0.02)
    for accountant in ("pld", "rdp"):
        with pytest.raises(AccountingError, match="without replacement"):
            epsilon(fixed_size(1.0), 100**-1.1, accountant)
    # the bound we offer instead does without amplification; it is looser, and it is one
    assert epsilon(local_gaussian(1.0, 100), 100**-1.1) > right


def test_count_of_unclipped_updates():
    # z = 1, sigma_b = 5 (a twentieth of 100 clients): (1 - 1/100)^(-1/2) = 1/sqrt(.99)
    assert with_count(1.0, 5.0) == pytest.approx(1.00503782)
    # z = 2, sigma_b = 1.25: (1/4 - 1/6.25)^(-1/2) = (.09)^(-1/2) = 1/.3
    assert with_count(2.0, 1.25) == pytest.approx(10 / 3)
    # the two releases of a round, the count with sensitivity 1/2, cost what one with z costs
    both = dp.ComposedDpEvent([gaussian(10 / 3, 50), gaussian(1.25 / 0.5, 50)])
    assert epsilon(both, 1e-5) == pytest.approx(epsilon(gaussian(2.0, 50), 1e-5), rel=1e-9)


def test_replacing_in_a_sampled_sum():
    """Against the exact curve for one step: (1-q) N(0, z^2) + q N(+-1, z^2), whose likelihood ratio is monotone."""
    rate, noise, delta = 0.3, 1.0, 1e-5
    found = group_of_two(subsampled_gaussian(noise, rate, 1), delta)
    x = np.linspace(-12, 12, 60_001)
    p, q = ((1 - rate) * norm.pdf(x, 0, noise) + rate * norm.pdf(x, shift, noise) for shift in (1, -1))
    step = x[1] - x[0]
    assert np.maximum(p - math.exp(found) * q, 0).sum() * step < delta
    exact = next(e for e in np.linspace(0, 20, 401) if np.maximum(p - math.exp(e) * q, 0).sum() * step < delta)
    assert exact < found < 2.5 * exact
    # without sampling the bound is exact: a sum that moves by 2 under noise 1
    assert group_of_two(gaussian(1.0, 1), delta) == pytest.approx(dp.get_epsilon_gaussian(0.5, delta), rel=1e-3)


def test_skellam_bound_by_hand():
    # order 2, sensitivities l1 = l2 = 2: 2*4/200 + min((3*4 + 6*2)/40000, 3*2/200) = .04 + .0006
    # order 100, variance 1: 100*4/2 + min((199*4 + 12)/4, 6/2) = 203
    assert skellam_rdp(100, 2, 2, [2]) == pytest.approx([0.0406])
    assert skellam_rdp(1, 2, 2, [100]) == pytest.approx([203])
