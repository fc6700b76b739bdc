"""The public recipe: what anybody who follows it gets, against the same steps by hand."""

import numpy as np

from attacks.observation import Records
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
