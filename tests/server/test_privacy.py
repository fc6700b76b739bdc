"""Central noise: by hand without its noise, in its spread with it, whoever came, and its norm where that adapts."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from clients.privacy import ClientPrivacyConfig
from clients.update import WITHIN
from server.privacy import CentralNoise
from server.received import Received

EXPECTED = 4.0  # clients in a round, on average
QUIET = 1e-12
LARGE = 40_000


def central(multiplier=QUIET, norm=2.0, seed=1, **config):
    count = {"count_noise": config.pop("count_noise", None)}  # nearly none, too, which is less than a setting may be
    made = ClientPrivacyConfig(where="central", noise_multiplier=1.0, clipping_norm=norm, **config)
    return CentralNoise(config=made.model_copy(update=count), noise_multiplier=multiplier, expected=EXPECTED, seed=seed)


def received(*updates, weights=None):
    """These clients' updates, as a server without secure aggregation holds them."""
    rows = {client: np.asarray(update, np.float32) for client, update in enumerate(updates)}
    due = weights or [1.0] * len(updates)
    total = sum((w * u.astype(np.float64) for w, u in zip(due, rows.values(), strict=True)), np.zeros(3))
    return Received(clients=tuple(rows), total=total, weight=sum(due), dropped={}, updates=rows)


def secure(total, clients=3, within=0.0):
    """Their sum alone, as secure aggregation leaves it."""
    sums = {WITHIN: within}
    return Received(clients=tuple(range(clients)), total=np.asarray(total), weight=clients, dropped={}, sums=sums)


def nobody(size=3):
    return Received(clients=(), total=np.zeros(size), weight=0, dropped={})


def test_without_noise_it_is_the_clipped_sum_over_the_expected_number():
    """By hand: norm 5 is clipped to 2, norm 1 is left. Not over the two that came, but the four that were expected."""
    step = central()(1, received([3, 0, 4], [0, 1, 0]))
    np.testing.assert_allclose(step, np.array([1.2, 1.0, 1.6]) / 4, atol=1e-9)


def test_who_has_more_records_does_not_weigh_more():
    few, many = (central()(1, received([3, 0, 4], [0, 1, 0], weights=w)) for w in ([1, 1], [500, 2]))
    np.testing.assert_array_equal(few, many)


def test_zero_and_huge_updates_are_clipped_like_others_and_divide_by_nothing():
    huge = central()(1, received([0, 0, 0], [0, 3e38, 0], [0, 0, 0]))
    np.testing.assert_allclose(huge, [0, 0.5, 0], atol=1e-9)
    np.testing.assert_allclose(central()(1, received([0, 0, 0])), 0, atol=1e-9)


@given(st.lists(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3), min_size=1, max_size=5), st.floats(0.01, 100))
def test_one_client_moves_the_sum_by_no_more_than_the_norm(updates, norm):
    """What the noise is calibrated to, however the others behave."""
    whole = central(norm=norm)(1, received(*updates)) * EXPECTED
    without = central(norm=norm)(1, received(*updates[1:], [0, 0, 0])) * EXPECTED
    assert np.linalg.norm(whole - without) <= norm * (1 + 1e-6)


@pytest.mark.parametrize("replies", [0, 1, 4, 60])
def test_the_noise_on_the_sum_is_z_times_the_norm_whatever_the_number_of_replies(replies):
    """A drop-out must not weaken the guarantee. In an empty Poisson round noise alone is released, as accounted for."""
    updates = {client: np.zeros(LARGE, np.float32) for client in range(replies)}
    came = Received(clients=tuple(updates), total=np.zeros(LARGE), weight=replies, dropped={}, updates=updates)
    noise = central(1.5)(1, came) * EXPECTED
    assert noise.std() == pytest.approx(1.5 * 2.0, rel=4 / math.sqrt(2 * LARGE))
    assert kstest(noise / 3.0, "norm").pvalue > 1e-3


def test_the_noise_is_on_top_of_the_clipped_sum():
    quiet, loud = (central(z)(1, received([3, 0, 4], [0, 1, 0])) for z in (QUIET, 1.0))
    alone = central(1.0)(1, nobody())
    np.testing.assert_allclose(loud - quiet, alone, atol=1e-9)


def test_noise_follows_from_seed_and_round_and_is_independent_between_them():
    draws = [central(1.0, seed=s)(r, nobody(LARGE)) for s, r in ((1, 1), (1, 2), (2, 1))]
    assert np.array_equal(draws[0], central(1.0)(1, nobody(LARGE)))
    assert np.abs(np.corrcoef(draws)[np.triu_indices(3, 1)]).max() < 4 / math.sqrt(LARGE)


def test_a_secure_sum_passes_unclipped_for_its_parts_were_clipped_before():
    step = central(norm=2.0)(1, secure([5.0, 0.0, 0.0]))
    np.testing.assert_allclose(step, [1.25, 0, 0], atol=1e-9)


def adaptive(multiplier=QUIET, norm=2.0, **config):
    return central(multiplier, norm, clipping="adaptive", **{"quantile": 0.5, "clipping_rate": 0.2, **config})


def test_the_norm_adapts_by_hand():
    """Andrew et al.: C exp(-0.2 (share - quantile)), the share over the expected 4: (2 - 3/2) / 4 + 1/2 = 5/8."""
    noise = adaptive(count_noise=1e-9)
    came = received([0, 2, 0], [0, 0, 0.5], [3, 0, 4])  # two of three within the norm of 2; it is reached, not passed
    step = noise(1, came)
    assert noise.clipping_norm == pytest.approx(2 * math.exp(-0.2 * (5 / 8 - 0.5)), rel=1e-8)
    np.testing.assert_allclose(step, np.array([1.2, 2, 2.1]) / 4, atol=1e-8)  # still clipped to 2: only then it adapts
    noise(2, came)
    np.testing.assert_allclose(
        noise.clipping_norm, 2 * math.exp(-0.2 * (5 / 8 - 0.5)) * math.exp(-0.2 * ((1 - 1.5) / 4 + 0)), rtol=1e-8
    )


def test_the_norm_adapts_alike_from_single_updates_and_from_a_secure_count():
    one, other = adaptive(count_noise=1e-9), adaptive(count_noise=1e-9)
    one(1, received([0, 2, 0], [0, 0, 0.5], [3, 0, 4]))
    other(1, secure([1.2, 2.0, 2.1], within=2.0))
    assert one.clipping_norm == pytest.approx(other.clipping_norm, rel=1e-8)


def test_an_empty_round_leaves_the_norm_where_it_is_but_for_the_noise():
    """No bits, half of nothing taken off: the share is one half, the median is asked for."""
    noise = adaptive(count_noise=1e-9)
    noise(1, nobody())
    assert noise.clipping_norm == pytest.approx(2.0, rel=1e-8)


def test_the_norm_finds_the_quantile():
    """Forty clients whose norms are lognormal, three quarters to be left whole: noise on the count and all."""
    rng = np.random.default_rng(5)
    noise = CentralNoise(
        config=ClientPrivacyConfig(
            where="central", noise_multiplier=1.0, clipping_norm=100.0, clipping="adaptive", quantile=0.75
        ),
        noise_multiplier=1.0,
        expected=40.0,
        seed=1,
    )
    norms = []
    for number in range(1, 401):
        lengths = rng.lognormal(size=40)
        noise(number, received(*np.stack([lengths, 0 * lengths, 0 * lengths], axis=1)))
        norms.append(noise.clipping_norm)
    assert np.mean(norms[200:]) == pytest.approx(math.exp(0.6745), rel=0.05)


def test_counting_takes_its_share_of_the_budget_and_the_updates_get_more_noise():
    """By hand: z = 1 and count noise 1 leave 1 / sqrt(1 - 1/4) for the updates (Andrew et al., Theorem 1)."""
    noise = adaptive(1.0, norm=2.0, count_noise=1.0)
    drawn = noise(1, nobody(LARGE)) * EXPECTED
    assert drawn.std() == pytest.approx(2 * 2 / math.sqrt(3), rel=4 / math.sqrt(2 * LARGE))


def test_the_count_is_noised_as_much_as_is_accounted_for():
    """The norm's logarithm moves by the clipping rate times the noise over the expected number of clients."""
    moved = []
    for number in range(3000):
        noise = adaptive(1.0, count_noise=1.5)
        noise(number, nobody())
        moved.append(math.log(noise.clipping_norm / 2) * EXPECTED / -0.2)
    assert np.std(moved) == pytest.approx(1.5, rel=4 / math.sqrt(2 * 3000))
    assert kstest(np.array(moved) / 1.5, "norm").pvalue > 1e-3


def test_the_count_noise_is_a_twentieth_of_the_clients_or_the_noise_multiplier():
    assert adaptive(0.1).count_noise == EXPECTED / 20
    assert adaptive(3.0).count_noise == 3.0
    assert adaptive(3.0, count_noise=7.0).count_noise == 7.0
