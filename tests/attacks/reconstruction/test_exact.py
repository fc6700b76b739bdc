"""Exact recovery from one local step of a real client, and labels out of the last bias."""

import numpy as np
import pytest
import torch

from attacks.broadcast import parameters
from attacks.reconstruction.labels import label_counts, one_label
from attacks.reconstruction.linear import recover
from clients.models import ModelConfig, build_model
from clients.training import TrainingConfig, logits, train
from clients.weights import to_vector

SHAPE, CLASSES, RATE = (1, 8, 8), 10, 0.05


def an_update(records, seed=0):
    """One local step of a client with so many records: their values, labels, the update by parameter, the model."""
    rng = np.random.default_rng(seed)
    model = build_model(ModelConfig(name="mlp"), SHAPE, CLASSES, torch.Generator().manual_seed(seed))
    x, y = rng.random((records, *SHAPE), dtype=np.float32), rng.integers(CLASSES, size=records)
    before = to_vector(model)
    broadcast = logits(model, x)
    train(model, x, y, TrainingConfig(batch_size=records, learning_rate=RATE), rng)
    update = {name: part.numpy() for name, part in parameters(model, before - to_vector(model)).items()}
    return x, y, update, broadcast


@pytest.mark.parametrize("seed", range(5))
def test_a_clients_one_record_comes_back_exactly_with_its_label(seed):
    """From the update itself: the learning rate cancels."""
    x, y, update, _ = an_update(1, seed)
    found = recover(update["1.weight"], update["1.bias"])
    assert np.abs(found.record - x.ravel()).max() < 1e-5
    assert found.disagreement < 1e-3
    assert one_label(update["3.bias"]) == y[0]


def test_a_batch_comes_back_mixed_and_says_so():
    x, _, update, _ = an_update(4)
    found = recover(update["1.weight"], update["1.bias"])
    assert np.abs(found.record - x.reshape(4, -1)).max(axis=1).min() > 0.1
    assert found.disagreement > 0.1


def test_units_by_hand():
    """Records (1, 2) and (3, 5); the first moved units 0 and 1 by 2 and 1, the second units 1 and 2 by 1 and 4."""
    a, b = np.array([1.0, 2.0]), np.array([3.0, 5.0])
    found = recover(np.stack([2 * a, a + b, 4 * b, 0 * a]), np.array([2.0, 2, 4, 0]))
    np.testing.assert_allclose(found.rows[:3], [[1, 2], [2, 3.5], [3, 5]])
    assert np.isnan(found.rows[3]).all()
    np.testing.assert_allclose(found.record, b)
    assert found.disagreement == pytest.approx(3 / 5)


def test_nothing_comes_back_where_nothing_moved():
    with pytest.raises(ValueError, match="no unit's bias moved"):
        recover(np.zeros((3, 2)), np.zeros(3))


def test_a_batch_has_no_one_label():
    with pytest.raises(ValueError, match="2 classes have a negative gradient"):
        one_label(np.array([-0.1, 0.3, -0.2]))


def test_label_counts_by_hand():
    """Two of class 0, one of 2, none of 1: the gradient is mean p - n_k / 3."""
    p = np.array([0.5, 0.3, 0.2])
    np.testing.assert_array_equal(label_counts(p - np.array([2, 0, 1]) / 3, 3, p), [2, 0, 1])
    rough = np.array([0.45, 0.3, 0.25])  # of the attacker's own people
    np.testing.assert_array_equal(label_counts(p - np.array([2, 0, 1]) / 3, 3, rough), [2, 0, 1])


@pytest.mark.parametrize("records", [4, 16])
def test_labels_of_a_clients_batch_are_counted(records):
    """The attacker's own people give it the probabilities: here, other random records."""
    _, y, update, _ = an_update(records)
    *_, own = an_update(200, seed=0)
    probabilities = torch.tensor(own).softmax(dim=1).mean(dim=0).numpy()
    counts = label_counts(update["3.bias"] / RATE, records, probabilities)
    assert counts.sum() == records
    assert np.abs(counts - np.bincount(y, minlength=CLASSES)).sum() <= records // 8


@pytest.mark.parametrize(
    ("bias", "records", "message"), [(np.zeros(2), 0, "labels of 0 records"), (np.ones(2), 3, "leave no label")]
)
def test_counts_that_cannot_be(bias, records, message):
    with pytest.raises(ValueError, match=message):
        label_counts(bias, records, np.full(2, 0.5))
