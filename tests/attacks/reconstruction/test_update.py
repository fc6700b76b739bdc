"""The attempts on one update of a real client, from what its server has."""

import numpy as np
import pytest
import torch

from attacks.observation import Records, VantageLacksError
from attacks.reconstruction.linear import singled_out
from attacks.reconstruction.update import ATTEMPTS, SeenUpdate, guessed_labels, linear_recovery, recovered_labels
from clients.models import ModelConfig, build_model
from clients.training import TrainingConfig, train
from clients.weights import to_vector

SHAPE, CLASSES, RATE = (1, 12, 12), 4, 0.1


def people(rng, count):
    """Blots whose place tells their class."""
    y = rng.integers(CLASSES, size=count)
    x = 0.2 * rng.random((count, *SHAPE), dtype=np.float32)
    for image, label in zip(x, y, strict=True):
        image[0, 3 * label : 3 * label + 3] += rng.random((3, 12), dtype=np.float32) * 0.8
    return Records(x, y)


def seen(records, seed=0, name="mlp", **changes):
    """One local step of a client with so many records, as its server sees it, and the truth."""
    rng = np.random.default_rng(seed)
    shape = SHAPE[1:] if name == "cnn1d" else SHAPE
    model = build_model(ModelConfig(name=name), shape, CLASSES, torch.Generator().manual_seed(seed))
    batch, public = people(rng, records), people(rng, 60)
    batch, public = (Records(each.x.reshape(-1, *shape), each.y) for each in (batch, public))
    before = to_vector(model)
    train(model, batch.x, batch.y, TrainingConfig(batch_size=records, learning_rate=RATE), rng)
    given = {
        "architecture": model,
        "weights": before,
        "gradient": (before - to_vector(model)) / RATE,
        "population": public,
        "records": records,
        "sought": records,
        "classes": CLASSES,
    }
    return SeenUpdate(**given | changes), batch


def test_units_of_one_record_come_before_mixtures_by_hand():
    """Records a and b; units 0 and 2 were moved by a alone, 1 and 4 by both (4 with signs apart), 3 by b alone."""
    a, b = np.array([0.1, 0.9]), np.array([0.7, 0.3])
    weight = np.stack([2 * a, 3 * a + 1.5 * b, a, 0.5 * b, 3 * a - 2 * b])
    bias = np.array([2, 4.5, 1, 0.5, 1])
    found = singled_out(weight, bias, 5, (0, 1))
    np.testing.assert_allclose(found[0], a)  # two units agree on it
    assert len(found) == 4 and min(np.abs(found[1:3] - b).max(axis=1)) < 1e-12
    assert found[3].min() < 0  # the mixture with signs apart leaves the range, and comes last
    np.testing.assert_array_equal(singled_out(weight, bias, 1, (0, 1)), found[:1])


@pytest.mark.parametrize("seed", range(3))
def test_two_records_come_out_of_one_update_exactly(seed):
    given, batch = seen(2, seed)
    found = linear_recovery(given, np.random.default_rng(0))
    assert found.shape == batch.x.shape
    errors = np.abs(found[:, None] - batch.x[None]).reshape(2, 2, -1).max(axis=2)
    assert errors.min(axis=0).max() < 1e-5


def test_other_first_layers_are_refused():
    given, _ = seen(1, name="cnn1d")
    with pytest.raises(VantageLacksError, match="needs a first layer that is linear, this model's is a Conv1d") as lack:
        linear_recovery(given, np.random.default_rng(0))
    assert lack.value.need == "first layer that is linear"


def test_an_update_that_moved_nothing_gives_nothing():
    given, _ = seen(1)
    still = SeenUpdate(
        architecture=given.architecture,
        weights=given.weights,
        gradient=np.zeros_like(given.gradient),
        population=given.population,
        records=1,
        sought=1,
        classes=CLASSES,
    )
    assert linear_recovery(still, np.random.default_rng(0)).shape == (0, *SHAPE)
    assert recovered_labels(still).sum() == 1


@pytest.mark.parametrize("records", [1, 3, 12])
def test_labels_are_counted_and_a_guess_is_of_the_population(records):
    given, batch = seen(records)
    told = recovered_labels(given)
    assert told.sum() == guessed_labels(given).sum() == records
    assert np.abs(told - np.bincount(batch.y, minlength=CLASSES)).sum() <= records // 6
    shares = np.bincount(given.population.y, minlength=CLASSES) / len(given.population)
    assert np.abs(guessed_labels(given) - records * shares).max() <= 1


@pytest.mark.parametrize("attack", ["dlg", "gradient-inversion"])
def test_searches_stay_within_the_range_and_seek_as_many_as_asked(attack):
    given, _ = seen(5, sought=2)
    found = ATTEMPTS[attack](given, np.random.default_rng(0))
    low, high = given.bounds
    assert found.shape == (2, *SHAPE) and np.isfinite(found).all()
    assert low <= found.min() and found.max() <= high


def test_a_search_finds_one_record():
    given, batch = seen(1)
    found = ATTEMPTS["gradient-inversion"](given, np.random.default_rng(0))
    public = ((given.population.x - batch.x) ** 2).mean(axis=(1, 2, 3)).min()
    assert ((found - batch.x) ** 2).mean() < public / 4
