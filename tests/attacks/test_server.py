"""The curious server's attacks against straightforward loops."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from attacks import broadcast, cosine, loss_series
from attacks.observation import Observation, Records, ServerRound, VantageLacksError


def a_round(number, weights, updates):
    mean = np.mean(list(updates.values()), axis=0) if updates else np.zeros_like(weights)
    return ServerRound(number, weights, tuple(updates), mean, updates)


@pytest.fixture(scope="module")
def observation():
    """A model with all that could go wrong: convolution, batch norm, dropout, a 4-dimensional input."""
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(48, 4)
    )
    rng = np.random.default_rng(0)
    params = sum(p.numel() for p in model.parameters())
    model[1].running_mean += torch.rand(3, generator=generator)
    rounds = [
        a_round(
            number,
            rng.normal(scale=0.5, size=params),
            {c: rng.normal(size=params) for c in (0, 1) if (number + c) % 3},
        )
        for number in range(20)
    ]
    records = Records(rng.normal(size=(13, 1, 6, 6)), rng.integers(4, size=13))
    return Observation(
        vantage="server",
        candidates=records[:8],
        population=records[8:],
        rounds=rounds,
        architecture=model.train(),
        client=np.full(8, 1),
    )


def at(observation, weights):
    model = copy.deepcopy(observation.architecture).eval()
    vector_to_parameters(torch.tensor(weights, dtype=torch.float32), model.parameters())
    return model


def test_cosine_equals_one_backward_pass_per_record(observation):
    joined = [r for r in observation.rounds if 1 in r.updates]
    assert len(joined) == 14
    chosen = broadcast.evenly_spaced(joined)
    assert len(chosen) == 12
    both = observation.candidates.joined(observation.population)
    expected = np.zeros(13)
    for seen in chosen:
        update = torch.tensor(seen.updates[1], dtype=torch.float32)
        for i in range(13):
            model = at(observation, seen.weights)
            x = torch.tensor(both.x[i : i + 1], dtype=torch.float32)
            nn.functional.cross_entropy(model(x), torch.tensor(both.y[i : i + 1])).backward()
            gradient = parameters_to_vector([p.grad for p in model.parameters()])
            expected[i] += torch.dot(gradient, update) / (gradient.norm() * update.norm()) / 12
    guess = cosine.run(observation, np.random.default_rng(0))
    np.testing.assert_allclose(guess.scores, expected[:8], atol=1e-5)
    np.testing.assert_allclose(guess.population_scores, expected[8:], atol=1e-5)


def test_cosine_does_not_depend_on_how_records_are_chunked(observation, monkeypatch):
    whole = cosine.run(observation, np.random.default_rng(0)).scores
    monkeypatch.setattr(broadcast, "_GRADIENT_VALUES", 1)
    np.testing.assert_allclose(cosine.run(observation, np.random.default_rng(0)).scores, whole, atol=1e-6)


def test_loss_series_equals_one_forward_pass_per_round(observation):
    chosen = broadcast.evenly_spaced(observation.rounds)
    x = torch.tensor(observation.candidates.x, dtype=torch.float32)
    y = torch.tensor(observation.candidates.y)
    losses = [
        nn.functional.cross_entropy(at(observation, r.weights)(x), y, reduction="none").detach().numpy() for r in chosen
    ]
    guess = loss_series.run(observation, np.random.default_rng(0))
    np.testing.assert_allclose(guess.scores, -np.mean(losses, axis=0), rtol=1e-5)


@pytest.mark.parametrize(("rounds", "most", "picked"), [(3, 12, [0, 1, 2]), (25, 3, [0, 12, 24]), (9, 1, [8])])
def test_rounds_are_evenly_spaced_with_the_last(rounds, most, picked):
    seen = [a_round(i, np.zeros(1), {}) for i in range(rounds)]
    assert [r.number for r in broadcast.evenly_spaced(seen, most)] == picked


def test_a_gradient_or_update_of_zero_says_nothing(observation):
    still = [a_round(r.number, r.weights, {1: np.zeros_like(r.weights)}) for r in observation.rounds]
    unmoved = Observation(
        vantage="server",
        candidates=observation.candidates,
        population=observation.population,
        rounds=still,
        architecture=observation.architecture,
        client=np.full(8, 1),
    )
    np.testing.assert_array_equal(cosine.run(unmoved, np.random.default_rng(0)).scores, 0)


def test_weights_of_another_model_are_refused(observation):
    with pytest.raises(ValueError, match="weights of length 5 for a model with"):
        broadcast.parameters(observation.architecture, np.zeros(5))


def asked_about(observation, client):
    return Observation(
        vantage="server",
        candidates=observation.candidates,
        population=observation.population,
        rounds=observation.rounds,
        architecture=observation.architecture,
        client=np.asarray(client),
    )


def test_a_client_that_never_took_part_gives_no_signal(observation):
    sampled = cosine.run(asked_about(observation, np.full(8, 1)), np.random.default_rng(0))
    mixed = cosine.run(asked_about(observation, [1, 9] * 4), np.random.default_rng(0))
    np.testing.assert_array_equal(mixed.scores[1::2], 0)
    np.testing.assert_allclose(mixed.scores[::2], sampled.scores[::2], atol=1e-6)
    assert (mixed.population_scores != 0).all()  # never held against a client that sent nothing


def test_no_update_of_anybody_is_refused(observation):
    with pytest.raises(VantageLacksError, match="vantage 'server' has none: 8, 9 never took part"):
        cosine.run(asked_about(observation, [8, 9] * 4), np.random.default_rng(0))
