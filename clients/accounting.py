"""Privacy accounting: a mechanism is described as a `dp_accounting` event, and then accounted.

Unless a function says otherwise, neighbours differ by one unit added or removed (a record, or a client), and
everybody sees every release. Epsilons are upper bounds.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

import dp_accounting as dp
import numpy as np
from dp_accounting import pld, rdp
from jaxtyping import Float
from scipy.optimize import brentq
from scipy.special import log_ndtr

Accountant = Literal["pld", "rdp"]


class Release(NamedTuple):
    """`steps` uses of a sampled Gaussian in each of `times` rounds whose coin, where it is below 1, everybody sees."""

    coin: float  # probability that the unit takes part in a round at all
    rate: float  # and in a step of it, which nobody sees
    noise: float
    steps: int
    times: int


Releases = tuple[Release, ...]

GRID = 5e-5  # step of the privacy loss, as a share of the RDP epsilon: costs 1e-3 of epsilon, and about a second
VACUOUS = 1e7  # above it the loss distribution is not worth its computation
SMALLEST_DELTA = (
    1e-10  # below it the rounding errors of composed loss distributions show, and only the Renyi bound counts
)
RDP_ORDERS = tuple(rdp.RdpAccountant().orders)  # dp_accounting's own choice
SKELLAM_ORDERS = (*range(2, 513), 640, 768, 896, 1024)
WIDEST = 1e6  # noise multipliers are looked for between its inverse and itself


class AccountingError(ValueError):
    """No epsilon that we would vouch for: the mechanism is not supported, or a parameter is impossible."""


def gaussian(noise_multiplier: float, times: int) -> dp.DpEvent:
    """The Gaussian mechanism, `times` over, on everybody: no amplification."""
    return dp.SelfComposedDpEvent(dp.GaussianDpEvent(noise_multiplier), times)


def subsampled_gaussian(noise_multiplier: float, rate: float, steps: int) -> dp.DpEvent:
    """DP-SGD (Abadi et al. 2016): in each step every unit takes part with probability `rate`, independently."""
    return one_coin(rate, noise_multiplier, 1, steps)


@dataclass(frozen=True)
class SeenCoinDpEvent(dp.DpEvent):  # type: ignore[misc]  # dp_accounting is untyped
    """The event, with probability `rate`; whether it happened is released as well, so nothing is amplified."""

    rate: float
    event: dp.DpEvent


def seen_coin(client_rate: float, one_round: dp.DpEvent, rounds: int) -> dp.DpEvent:
    """A client takes part in each round with probability `client_rate`, and adds its own noise only if it does.

    A round without the client's noise is told from one with it, so the coin is as good as released: the number of
    participations is binomial, and the releases of each one compose in full. A fixed number of clients drawn afresh in
    each round gives one client the same law.
    """
    return dp.SelfComposedDpEvent(SeenCoinDpEvent(client_rate, one_round), rounds)


def one_coin(client_rate: float, noise_multiplier: float, local_steps: int, rounds: int) -> dp.DpEvent:
    """A client is Poisson-sampled once per round, and then takes `local_steps` full-batch noisy steps.

    One coin decides over all the steps of a round, so they are one Gaussian with a noise multiplier smaller by
    sqrt(local_steps), sampled once. A coin per step, which nobody tosses, would look much more private. Only where the
    same noise is there whether the client is drawn or not: for a client's own noise see `seen_coin`.
    """
    if local_steps < 1:
        return dp.NoOpDpEvent()
    step = dp.GaussianDpEvent(noise_multiplier / math.sqrt(local_steps))
    return dp.SelfComposedDpEvent(dp.PoissonSampledDpEvent(client_rate, step), rounds)


def local_gaussian(noise_multiplier: float, times: int) -> dp.DpEvent:
    """A client clips its own update to norm C, adds noise of `noise_multiplier` times C and sends it, `times` over.

    Neighbours: one update replaced by any other, which moves it by up to 2C. Holds against everybody else.
    """
    return gaussian(noise_multiplier / 2, times)


def with_count(noise_multiplier: float, count_noise: float) -> float:
    """The noise multiplier left for the updates when their noisy count of unclipped ones is released as well.

    Both together then cost as much as one release with `noise_multiplier`. `count_noise` is the standard deviation on
    the count, whose terms are +-1/2 (Andrew et al. 2021, arXiv 1905.03871, Theorem 1).

    Raises:
        AccountingError: the count alone would cost that much.
    """
    if count_noise <= noise_multiplier / 2:
        raise AccountingError(
            f"count_noise = {count_noise:g} leaves nothing for the updates: at noise_multiplier = {noise_multiplier:g} "
            f"it must be above {noise_multiplier / 2:g}"
        )
    return 1 / math.sqrt(noise_multiplier**-2 - (2 * count_noise) ** -2)


def epsilon(event: dp.DpEvent, delta: float, accountant: Accountant = "pld") -> float:
    """Epsilon of the event at `delta`, from its Renyi curve or its privacy loss distribution.

    `pld` (Doroshenko et al. 2022, arXiv 2207.04380) is the tighter one, to 1e-3; where the Renyi bound (Mironov 2017)
    is smaller after all, it counts. No noise gives infinity, no release zero.

    Raises:
        AccountingError: see `AccountingError`. In particular for sampling without replacement.
    """
    if not 0 < delta < 1:
        raise AccountingError(f"delta = {delta:g}, but it is a probability between 0 and 1")
    return _epsilon(_releases(event), delta, accountant)


def group_of_two(event: dp.DpEvent, delta: float) -> float:
    """Epsilon at `delta` where one unit is replaced by another: one removed, one added.

    The smaller of two bounds. An event that is (e, d)-DP is (2e, d (1 + exp(e)))-DP for such neighbours, by using the
    definition twice: 2e for the largest d that keeps the second term within `delta`. And without sampling, which can
    only help, replacing moves a sum twice as far: exactly half the noise multiplier.
    """
    releases = _releases(event)
    halved = dp.ComposedDpEvent([local_gaussian(each.noise, each.steps * each.times) for each in releases])
    unsampled = epsilon(halved, delta)
    if math.isinf(unsampled) or all(each.coin == each.rate == 1 for each in releases):
        return unsampled
    return min(unsampled, _two_steps(_curve(releases, delta), delta))


def solve_noise(event_for: Callable[[float], dp.DpEvent], target_epsilon: float, delta: float) -> float:
    """The smallest noise multiplier, to four digits, with which `event_for(it)` stays within the target.

    Raises:
        AccountingError: no noise multiplier between 1e-6 and 1e6 just meets the target, or what `epsilon` refuses.
    """
    if not 0 < target_epsilon < math.inf:
        raise AccountingError(f"the target epsilon is {target_epsilon:g}, but it must be positive and finite")

    def excess(log_noise: float, accountant: Accountant) -> float:
        found = epsilon(event_for(math.exp(log_noise)), delta, accountant)
        return math.log(min(max(found / target_epsilon, 1e-3), 1e3))

    start = _root(lambda x: excess(x, "rdp"), 0.0, stride=1.5, tolerance=0.05)  # quick, and not far off
    noise = _rounded_up(math.exp(_root(lambda x: excess(x, "pld"), start, stride=0.25, tolerance=2e-4)))
    while epsilon(event_for(noise), delta) > target_epsilon:
        noise = _rounded_up(noise * 1.0001)
    return noise


def skellam_rdp(
    variance: float, l1: float, l2: float, orders: Sequence[int] = SKELLAM_ORDERS
) -> Float[np.ndarray, " orders"]:
    """Renyi divergence of an integer vector query with Skellam noise of that variance on each coordinate.

    `l1`, `l2`: the query's sensitivities. Orders are integers above one (Agarwal, Kairouz & Liu 2021, arXiv
    2110.04995).
    """
    alpha = np.asarray(orders, float)
    if variance <= 0:
        return np.full(len(alpha), np.inf if l2 > 0 else 0.0)
    extra = np.minimum(((2 * alpha - 1) * l2**2 + 6 * l1) / (4 * variance**2), 3 * l1 / (2 * variance))
    return alpha * l2**2 / (2 * variance) + extra


def skellam_epsilon(rounds: Sequence[tuple[float, float, float]], delta: float) -> float:
    """Epsilon at `delta` of Skellam releases, one (variance, l1, l2) per round. Neighbours: as the sensitivities say.

    The bound holds for integer Renyi orders only. That costs up to 1 % of an epsilon below 10, 4 % below 50, then more.
    """
    total = sum((n * skellam_rdp(*release) for release, n in Counter(rounds).items()), np.zeros(len(SKELLAM_ORDERS)))
    return float(rdp.compute_epsilon(SKELLAM_ORDERS, total, delta)[0])


def _releases(event: dp.DpEvent) -> Releases:
    """What the event comes down to. Gaussians without any coin become one: their inverse variances add up."""
    counts: Counter[tuple[float, float, float, int]] = Counter()
    for coin, rate, noise, steps, times in _walk(event, 1):
        if not (0 <= coin <= 1 and 0 <= rate <= 1 and noise >= 0 and steps >= 0 and times >= 0):
            raise AccountingError(
                f"rates {coin} and {rate}, noise multiplier {noise}, {times} times: no such mechanism"
            )
        if coin == 1:
            counts[1.0, rate, noise, 1] += steps * times
        else:
            counts[coin, rate, noise, steps] += times
    plain = {noise: times for (coin, rate, noise, _), times in counts.items() if coin == rate == 1 and times}
    others = sorted(
        Release(*key, times)
        for key, times in counts.items()
        if key[0] * key[1] * key[3] > 0 and times and not key[0] == key[1] == 1
    )
    if not plain:
        return tuple(others)
    noise = 0.0 if 0 in plain else sum(times / noise**2 for noise, times in plain.items()) ** -0.5
    return (*others, Release(1.0, 1.0, noise, 1, 1))


def _walk(event: dp.DpEvent, times: int) -> Iterator[Release]:
    match event:
        case dp.NoOpDpEvent():
            pass
        case dp.NonPrivateDpEvent():
            yield Release(1.0, 1.0, 0.0, 1, times)
        case dp.GaussianDpEvent(noise):
            yield Release(1.0, 1.0, noise, 1, times)
        case dp.PoissonSampledDpEvent(rate, dp.GaussianDpEvent(noise)):
            yield Release(1.0, rate, noise, 1, times)
        case SeenCoinDpEvent(coin, inner):
            yield _behind(coin, inner, times)
        case dp.SelfComposedDpEvent(inner, count):
            yield from _walk(inner, times * count)
        case dp.ComposedDpEvent(events):
            for inner in events:
                yield from _walk(inner, times)
        case _:
            raise AccountingError(_refusal(event))


def _behind(coin: float, event: dp.DpEvent, times: int) -> Release:
    """A round behind a coin that is seen; it may hold one kind of release, so that the coin stays one."""
    inner = _releases(event)
    if not inner:
        return Release(coin, 1.0, 1.0, 0, times)
    if len(inner) > 1 or inner[0].coin < 1:
        raise AccountingError(f"{len(inner)} kinds of releases behind one coin are not supported")
    return inner[0]._replace(coin=coin, steps=inner[0].times, times=times)


def _refusal(event: dp.DpEvent) -> str:
    if isinstance(event, dp.SampledWithoutReplacementDpEvent):
        return (
            "clients sampled without replacement give no amplification that we vouch for: under the replace-one "
            "relation dp_accounting overlooks that the sensitivity doubles (its issue 378). Account them as not sampled"
        )
    return f"no accounting for {event}; supported are Gaussians, Poisson-sampled Gaussians and their compositions"


@lru_cache(maxsize=1024)
def _epsilon(releases: Releases, delta: float, accountant: Accountant) -> float:
    if any(each.noise == 0 for each in releases):
        return math.inf
    return _curve(releases, delta)(delta) if accountant == "pld" else _rdp_epsilon(releases, delta)


def _curve(releases: Releases, delta: float) -> Callable[[float], float]:
    """Epsilon as a function of delta, with the loss distribution's grid set for `delta`."""
    if len(releases) == 1 and releases[0].coin == releases[0].rate == 1:
        return lambda at: _gaussian_epsilon(1 / releases[0].noise, at)
    near = _rdp_epsilon(releases, delta)
    if not 0 < near < VACUOUS:
        return lambda at: _rdp_epsilon(releases, at)
    losses = _losses(releases, GRID * near)

    def smallest(at: float) -> float:
        tight = losses.get_epsilon_for_delta(at) if at >= SMALLEST_DELTA else math.inf
        return float(min(tight, _rdp_epsilon(releases, at)))

    return smallest


def _gaussian_epsilon(mu: float, delta: float) -> float:
    """The smallest epsilon of a Gaussian whose mean moves by `mu` standard deviations (Balle & Wang 2018, Theorem 8).

    Solved for in logarithms, so that it is right at any delta: delta = Phi(mu/2 - e/mu) - exp(e) Phi(-mu/2 - e/mu).
    """

    def excess(e: float) -> float:
        first, second = float(log_ndtr(mu / 2 - e / mu)), e + float(log_ndtr(-mu / 2 - e / mu))
        if second >= first:  # by rounding: both are the same, and nothing is left
            return -math.inf
        return first + math.log(-math.expm1(second - first)) - math.log(delta)

    if excess(0.0) <= 0:
        return 0.0
    above = 1.0
    while excess(above) > 0:
        above *= 2
    below = 0.0 if above == 1.0 else above / 2
    while above - below > 1e-9 * above:
        middle = (below + above) / 2
        below, above = (middle, above) if excess(middle) > 0 else (below, middle)
    return above


def _two_steps(curve: Callable[[float], float], delta: float) -> float:
    """Twice the epsilon of one step, at the largest d for which d (1 + exp(epsilon)) <= delta; infinity without one."""

    def fits(log_delta: float) -> bool:
        return log_delta + float(np.logaddexp(0, curve(math.exp(log_delta)))) <= math.log(delta)

    largest = math.log(delta / 2)
    good = next((x for x in np.arange(largest, -690, -1.0) if fits(x)), None)  # exp(-690) > 0
    if good is None:
        return math.inf
    bad = good + 1
    while bad - good > 1e-5 and good < largest:
        middle = (good + bad) / 2
        good, bad = (middle, bad) if fits(middle) else (good, middle)
    return 2 * curve(math.exp(good))


@lru_cache(maxsize=4)
def _losses(releases: Releases, interval: float) -> pld.privacy_loss_distribution.PrivacyLossDistribution:
    """Privacy loss distribution of all releases together, on a grid of that interval, rounded against us."""
    total = pld.privacy_loss_distribution.identity(value_discretization_interval=interval)
    for each in releases:
        total = total.compose(_round_losses(each, interval).self_compose(each.times))
    return total


def _round_losses(release: Release, interval: float) -> pld.privacy_loss_distribution.PrivacyLossDistribution:
    noise, steps = release.noise, release.steps
    if release.rate == 1:  # as many steps are one with less noise
        noise, steps = noise / math.sqrt(steps), 1
    found = pld.privacy_loss_distribution.from_gaussian_mechanism(
        noise, value_discretization_interval=interval, sampling_prob=release.rate
    )
    if steps > 1:
        found = found.self_compose(steps)
    if release.coin == 1:
        return found
    nothing = pld.privacy_loss_distribution.identity(value_discretization_interval=interval)
    return found.compute_mixture(nothing, release.coin)


@lru_cache(maxsize=1024)
def _renyi(releases: Releases) -> Float[np.ndarray, " orders"]:
    return np.asarray(sum((each.times * _round_renyi(each) for each in releases), np.zeros(len(RDP_ORDERS))))


@lru_cache(maxsize=1024)
def _round_renyi(release: Release) -> Float[np.ndarray, " orders"]:
    """Renyi divergences of one round. Behind a coin that is seen, moments mix: log E exp((a - 1) D) / (a - 1)."""
    gauss = dp.GaussianDpEvent(release.noise)
    event = gauss if release.rate == 1 else dp.PoissonSampledDpEvent(release.rate, gauss)
    with _quiet():
        curve = rdp.RdpAccountant(RDP_ORDERS).compose(dp.SelfComposedDpEvent(event, release.steps)).rdp
    curve = np.where(curve < 0, np.inf, curve)  # lost to rounding: dp_accounting would take such an order for epsilon 0
    if release.coin == 1:
        return curve
    beyond = np.asarray(RDP_ORDERS) - 1
    moments = np.logaddexp(math.log1p(-release.coin), math.log(release.coin) + beyond * curve)
    return np.asarray(moments / beyond)


def _rdp_epsilon(releases: Releases, delta: float) -> float:
    if not releases:
        return 0.0
    return float(rdp.compute_epsilon(RDP_ORDERS, _renyi(releases), delta)[0])


@contextmanager
def _quiet() -> Iterator[None]:
    """Without dp_accounting's warning that it leaves out an order: the bound holds without it."""
    logger = logging.getLogger("absl")

    def other(record: logging.LogRecord) -> bool:
        return "Excluding this order" not in record.getMessage()

    logger.addFilter(other)
    try:
        yield
    finally:
        logger.removeFilter(other)


def _root(function: Callable[[float], float], start: float, *, stride: float, tolerance: float) -> float:
    """Where a falling function of the noise multiplier's logarithm crosses zero, looked for in strides from `start`."""
    direction = stride if function(start) > 0 else -stride
    near, far = start, start + direction
    while (function(far) > 0) == (direction > 0):
        near, far = far, far + direction
        if abs(far) > math.log(WIDEST):
            which = "above" if direction > 0 else "below"
            raise AccountingError(f"epsilon stays {which} the target for every noise multiplier up to {WIDEST:g}")
    return float(brentq(function, near, far, xtol=tolerance))


def _rounded_up(value: float) -> float:
    unit = 10.0 ** (math.floor(math.log10(value)) - 3)
    return float(f"{math.ceil(value / unit) * unit:.4g}")
