"""The public recipe: what anybody who follows it gets, against the same steps by hand."""

import numpy as np
import pytest

from attacks.observation import Records
from clients.dp_sgd import train_privately
from clients.privacy import ClientPrivacyConfig, PrivacyConfig, RecordPrivacyConfig
from clients.training import train
from clients.weights import load_vector, to_vector
from sim.given import federation_of, fresh_model
from sim.noise import Strengths
from sim.recipe import follow

PLAIN = Strengths(record=None, client=None)


def population(scenario):
    own = federation_of(scenario).population
    return Records(own.x, own.y), own.device


def test_one_device_by_hand(tiny):
    records, _ = population(tiny)
    found = follow(tiny, PLAIN, records, np.zeros(len(records), dtype=int), np.random.default_rng(5))
    rng, model = np.random.default_rng(5), fresh_model(tiny)
    for _ in range(3):
        rng.choice(1, 1, replace=False)
        train(model, records.x, records.y, tiny.training, rng)
    np.testing.assert_array_equal(found.global_, to_vector(model))
    rng.integers(1)
    train(model, records.x, records.y, tiny.personalization, rng)
    np.testing.assert_array_equal(found.personal, to_vector(model))


def test_devices_are_averaged_by_their_records(tiny):
    """Two devices, one round: the mean of what each makes of the first weights, three to one."""
    records, _ = population(tiny)
    device = (np.arange(len(records)) % 4 == 0).astype(int)
    scenario = tiny.model_copy(update={"federation": tiny.federation.model_copy(update={"rounds": 1})})
    found = follow(scenario, PLAIN, records, device, np.random.default_rng(5))
    rng, trained = np.random.default_rng(5), {}
    for number in rng.choice(2, 2, replace=False):
        model, own = fresh_model(tiny), records[device == number]
        train(model, own.x, own.y, tiny.training, rng)
        trained[number] = to_vector(model)
    np.testing.assert_allclose(found.global_, 0.75 * trained[0] + 0.25 * trained[1], atol=1e-6)


def test_it_follows_from_its_generator(tiny):
    records, device = population(tiny)
    first, again, other = (follow(tiny, PLAIN, records, device, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first.global_, again.global_) and np.array_equal(first.personal, again.personal)
    assert not np.array_equal(first.global_, other.global_)
    assert not np.array_equal(first.global_, first.personal)


def test_it_starts_where_the_target_started(tiny):
    """With a step too small to move, what comes out is what went in: the public first weights."""
    records, device = population(tiny)
    still = {"training": tiny.training.model_copy(update={"learning_rate": 1e-12})}
    still["personalization"] = still["training"]
    found = follow(tiny.model_copy(update=still), PLAIN, records, device, np.random.default_rng(1))
    np.testing.assert_allclose(found.personal, to_vector(fresh_model(tiny)), atol=1e-6)
    assert load_vector(fresh_model(tiny), found.global_)


def one_round(scenario, **privacy):
    update = {"federation": scenario.federation.model_copy(update={"rounds": 1}), "privacy": PrivacyConfig(**privacy)}
    return scenario.model_copy(update=update)


def test_under_dp_sgd_it_trains_as_the_clients_do(tiny):
    """Two devices with unlike numbers of records, which then nobody may weigh by."""
    records, _ = population(tiny)
    device = (np.arange(len(records)) % 4 == 0).astype(int)
    record = RecordPrivacyConfig(noise_multiplier=1.0, sampling_rate=0.5)
    scenario = one_round(tiny, record=record)
    found = follow(scenario, Strengths(record=1.5, client=None), records, device, np.random.default_rng(5))
    rng, trained = np.random.default_rng(5), []
    for number in rng.choice(2, 2, replace=False):
        model, own = fresh_model(tiny), records[device == number]
        train_privately(model, own.x, own.y, tiny.training, record, 1.5, rng)
        trained.append(to_vector(model))
    np.testing.assert_allclose(found.global_, (trained[0] + trained[1]) / 2, atol=1e-6)


def test_under_central_noise_its_mean_is_clipped_and_as_noisy_as_the_target_s(tiny):
    """By hand: z C / 4 on each weight, for the target's four clients, however many devices follow the recipe here."""
    records, device = population(tiny)
    client = ClientPrivacyConfig(where="central", noise_multiplier=1.0, clipping_norm=0.01)
    scenario, start = one_round(tiny, client=client), to_vector(fresh_model(tiny))

    def step(z):
        noise = Strengths(record=None, client=z)
        return start - follow(scenario, noise, records, device, np.random.default_rng(5)).global_

    quiet, loud = step(1e-9), step(40.0)
    assert 0 < np.linalg.norm(quiet) <= 0.01 * (1 + 1e-4)
    added = loud - quiet
    assert added.std() == pytest.approx(40 * 0.01 / 4, rel=4 / np.sqrt(2 * len(added)))
