"""The curious server's comparisons of clients, by hand on small cases."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from attacks import aggregate, cosine, fedmia, gradient, loss_series, source, update_loss
from attacks.alignment import align
from attacks.observation import Observation, Records, ServerRound, VantageLacksError
from attacks.registry import launch

MODEL = nn.Linear(2, 3)  # nine parameters: six weights, then three biases
RNG = np.random.default_rng


def a_round(number, updates, weights=None):
    mean = np.mean(list(updates.values()), axis=0) if updates else np.zeros(9)
    return ServerRound(number, np.zeros(9) if weights is None else weights, tuple(updates), mean, updates)


def raises_bias(label, by=5.0):
    """The update (broadcast minus returned) of a client that learnt to say `label` whatever it is shown."""
    update = np.zeros(9)
    update[6 + label] = -by
    return update


def observation(rounds, client=(0, 1, 2), records=None):
    records = records or Records(RNG(1).normal(size=(3, 2)), np.arange(3))
    return Observation(
        vantage="server",
        candidates=records,
        population=Records(RNG(2).normal(size=(6, 2)), np.arange(6) % 3),
        rounds=rounds,
        architecture=MODEL,
        client=np.asarray(client),
    )


@pytest.fixture(scope="module")
def biased():
    """Three clients, two a round; client k holds label k only."""
    pairs = [(0, 1), (1, 2), (0, 2)] * 2
    return observation([a_round(t, {c: raises_bias(c) for c in pair}) for t, pair in enumerate(pairs)])


def noisy(rounds, participants, seed=0):
    rng = RNG(seed)
    return [
        a_round(t, {c: rng.normal(size=9) for c in participants(t)}, rng.normal(scale=0.3, size=9))
        for t in range(rounds)
    ]


def test_alignment_by_hand():
    """At zero weights p = 1/3 each; the gradient by W is (p - e_y) x^T, by b it is p - e_y."""
    record = Records(np.array([[1.0, 2.0]]), np.array([0]))
    found = align(MODEL, np.zeros(9), [np.eye(9)[6], 3 * np.eye(9)[1], np.zeros(9)], record)
    np.testing.assert_allclose(found.dot, [[-2 / 3, 3 * -4 / 3, 0]], rtol=1e-6)
    length = np.sqrt((4 + 1 + 1) / 9 * (1 + 1 + 4))
    np.testing.assert_allclose(found.length, [length], rtol=1e-6)
    np.testing.assert_allclose(found.cosine, [[-2 / 3 / length, -4 / 3 / length, 0]], rtol=1e-6)
    np.testing.assert_allclose(found.projection, [[-2 / 3 / length, -4 / length, 0]], rtol=1e-6)


@pytest.mark.parametrize(
    ("signal", "column", "expected"),
    [
        ([3.0, 0.0, 2.0], 0, -0.0227501319),  # others 0 and 2: mean 1, deviation 1, so 2 deviations above
        ([0.0, 1.0, 2.0], 1, -0.5),
        (
            [1.5] + [1.0, -1.0] * 8 + [50.0],
            0,
            -0.0668072013,
        ),  # the 50 lies more than 3 deviations above: it is left out
        ([-1.0] + [1.0, -1.0] * 8 + [-50.0], 0, -0.4346916622),  # far below it stays
    ],
)
def test_fedmia_by_hand(signal, column, expected):
    score = fedmia.above_others(np.array([signal]), np.array([column]))
    np.testing.assert_allclose(score, [expected], atol=1e-9)


def test_fedmia_tells_sure_members_apart():
    """Where the normal distribution function itself is 1 in floating point."""
    signal = np.array([[10.0, 0.0, 2.0], [12.0, 0.0, 2.0]])
    first, second = fedmia.above_others(signal, np.zeros(2, dtype=int))
    assert first < second < 0


def test_calibration_takes_off_the_mean_of_the_others():
    np.testing.assert_allclose(cosine.over_others(np.array([[3.0, 1, 2], [3, 1, 2]]), np.array([0, 2])), [1.5, 0])


def test_clients_are_compared_in_rounds_with_company():
    seen = noisy(6, lambda t: (0, 1, 2) if t % 2 else (0,))
    both = observation(seen, client=[0, 0, 0])
    company = replace(both, rounds=[r for r in seen if len(r.clients) == 3])
    for attack in (cosine.calibrated, fedmia.by_loss, fedmia.by_cosine, source.run):
        np.testing.assert_array_equal(attack(both, RNG(0)).scores, attack(company, RNG(0)).scores)


@pytest.mark.parametrize(("name", "others"), [("cosine-calibrated", 1), ("source", 1), ("fedmia-loss", 2)])
def test_too_little_company_is_refused(name, others):
    alone = observation(noisy(4, lambda t: range(others)), client=[0, 0, 0])
    message = f"attack '{name}' needs updates .* 0 never took part in a round with {others} or more others"
    with pytest.raises(VantageLacksError, match=message):
        launch(name, alone, RNG(0))


def test_clients_never_seen_score_in_the_middle():
    some = observation(noisy(5, lambda t: (0, 1, 2)), client=[0, 9, 9])
    for attack, middle in ((fedmia.by_loss, -0.5), (fedmia.by_cosine, -0.5), (source.run, 0), (update_loss.run, 0)):
        np.testing.assert_array_equal(attack(some, RNG(0)).scores[1:], middle)


def test_update_loss_by_hand(biased):
    """At zero weights the loss is log 3; a bias of 5 on the right label makes it log(1 + 2 exp(-5))."""
    expected = np.log(3) - np.log1p(2 * np.exp(-5))
    np.testing.assert_allclose(update_loss.run(biased, RNG(0)).scores, expected, rtol=1e-6)


@pytest.mark.parametrize("signal", ["loss", "cosine"])
def test_each_record_is_traced_to_the_client_that_learnt_its_label(biased, signal):
    found = source.infer(biased, signal=signal)
    assert found.clients == (0, 1, 2)
    assert found.chance == 1 / 3
    np.testing.assert_array_equal(found.client, [0, 1, 2])
    assert found.accuracy(np.array([0, 1, 1])) == pytest.approx(2 / 3)
    assert source.infer(biased, biased.population, signal, max_rounds=3).client.tolist() == [0, 1, 2] * 2


def test_source_margin_by_hand(biased):
    """Two a round: right -log p = log(1 + 2 exp(-5)); at the other's model the label has exp(0) of exp(5) + 2."""
    right, wrong = np.log1p(2 * np.exp(-5)), np.log(np.exp(5) + 2)
    np.testing.assert_allclose(source.run(biased, RNG(0)).scores, wrong - right, rtol=1e-6)


def test_tracing_needs_two_clients_in_a_round():
    with pytest.raises(VantageLacksError, match="no round with two updates"):
        source.infer(observation(noisy(3, lambda t: (t,))))


def test_gradient_difference_is_the_cosine_times_the_length_of_the_update():
    one = observation(noisy(1, lambda t: (0,)), client=[0, 0, 0])
    length = np.linalg.norm(one.rounds[0].updates[0])
    np.testing.assert_allclose(
        gradient.difference(one, RNG(0)).scores, cosine.run(one, RNG(0)).scores * length, rtol=1e-6
    )


def test_gradient_difference_as_published_is_a_test_of_the_norm():
    """With updates of the size that a learning rate leaves them."""
    records = Records(RNG(3).normal(size=(50, 2)), RNG(4).integers(3, size=50))
    small = [replace(r, updates={0: 1e-3 * r.updates[0]}) for r in noisy(1, lambda t: (0,))]
    seen = observation(small, np.zeros(50, dtype=int), records)
    raw = gradient.difference(seen, RNG(0), compat="reference_code").scores
    norm, rescaled = gradient.norm(seen, RNG(0)).scores, gradient.difference(seen, RNG(0)).scores
    assert spearmanr(raw, norm).statistic > 0.99
    assert abs(spearmanr(rescaled, norm).statistic) < 0.9
    one = align(MODEL, small[0].weights, [small[0].updates[0]], records)
    np.testing.assert_allclose(raw, 2 * one.dot[:, 0] - one.length**2)


def test_the_norm_of_a_gradient_by_hand():
    """|p - e_y| |(x, 1)| at zero weights."""
    one = observation([a_round(0, {0: np.ones(9)})], [0], Records(np.array([[1.0, 2.0]]), np.array([0])))
    np.testing.assert_allclose(gradient.norm(one, RNG(0)).scores, [-np.log(2)], rtol=1e-6)  # sqrt(6 / 9 * 6) = 2


def test_slope_is_that_of_a_line_through_the_losses():
    seen = observation(noisy(7, lambda t: (0,)))
    seen = replace(seen, rounds=[replace(r, number=3 * r.number) for r in seen.rounds])
    x, y = torch.tensor(seen.candidates.x, dtype=torch.float32), torch.tensor(seen.candidates.y)
    losses = []
    for r in seen.rounds:
        weights = torch.tensor(r.weights, dtype=torch.float32)
        logits = x @ weights[:6].view(3, 2).T + weights[6:]
        losses.append(nn.functional.cross_entropy(logits, y, reduction="none").numpy())
    expected = -np.polyfit([r.number for r in seen.rounds], np.array(losses, dtype=np.float64), 1)[0]
    np.testing.assert_allclose(loss_series.slope(seen, RNG(0)).scores, expected, rtol=1e-4)
    single = replace(seen, rounds=seen.rounds[:1])
    np.testing.assert_array_equal(loss_series.slope(single, RNG(0)).scores, 0)


def test_the_cosine_of_a_sum_of_one_is_that_of_the_one():
    alone = observation(noisy(4, lambda t: (0,)), client=[0, 0, 0])
    np.testing.assert_allclose(aggregate.cosine(alone, RNG(0)).scores, cosine.run(alone, RNG(0)).scores, atol=1e-7)


def test_prolin_with_one_client_a_round_is_each_clients_own_mean():
    turns = observation(noisy(6, lambda t: (t % 3,)))
    np.testing.assert_allclose(aggregate.prolin(turns, RNG(0)).scores, cosine.run(turns, RNG(0)).scores, atol=1e-6)


def test_prolin_is_a_regression_on_who_took_part():
    joined = [(0, 1), (1, 2), (0, 2), (0, 1, 2), (2,), (0, 1), (), (1, 2)]
    seen = observation(noisy(8, lambda t: joined[t]), client=[0, 1, 1])
    kept = [r for r in seen.rounds if r.clients]
    took = np.array([[c in r.clients for c in range(3)] for r in kept], dtype=float)
    along = np.array([align(MODEL, r.weights, [r.mean], seen.candidates).cosine[:, 0] for r in kept])
    beta = np.linalg.solve(took.T @ took, took.T @ along)
    np.testing.assert_allclose(aggregate.prolin(seen, RNG(0)).scores, beta[[0, 1, 1], [0, 1, 2]], atol=1e-6)


def test_prolin_needs_no_single_update_and_no_scale():
    seen = observation(noisy(9, lambda t: {t % 3, t // 3}))
    hidden = replace(seen, rounds=[replace(r, updates={}, mean=(1 + r.number) * r.mean) for r in seen.rounds])
    np.testing.assert_allclose(
        aggregate.prolin(hidden, RNG(0)).scores, aggregate.prolin(seen, RNG(0)).scores, atol=1e-6
    )


@pytest.mark.parametrize(
    ("participants", "client", "message"),
    [
        (
            lambda t: (0, 1, 2),
            (0, 1, 2),
            "tell 3 clients apart .* can tell 1 in 6 rounds: all clients take part in every",
        ),
        (lambda t: (0, 1) if t % 2 else (2, 3), (0, 1, 2), "can tell 2 in 6 rounds: too few rounds with different"),
        (lambda t: (t % 3,), (7, 8, 9), "none ever took part"),
        (lambda t: (), (0, 1, 2), "nobody ever did"),
    ],
)
def test_prolin_says_what_it_would_take(participants, client, message):
    with pytest.raises(VantageLacksError, match=message):
        aggregate.prolin(observation(noisy(6, participants), client), RNG(0))


def test_prolin_scores_nothing_for_a_client_that_never_took_part():
    seen = observation(noisy(6, lambda t: (t % 3,)), client=[0, 1, 9])
    assert aggregate.prolin(seen, RNG(0)).scores[2] == 0
