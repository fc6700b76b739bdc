"""Local training: one step computed by hand, every draw from the client's own generator, divergence refused."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from clients.models import ModelConfig, build_model
from clients.training import DivergedError, TrainingConfig, logits, train
from clients.weights import to_vector

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(30, 5)).astype(np.float32), RNG.integers(3, size=30)


def model():
    return build_model(ModelConfig(name="mlp", width=8), (5,), 3, torch.Generator().manual_seed(0))


def trained(config, seed=0):
    net = model()
    loss = train(net, X, Y, config, np.random.default_rng(seed))
    return to_vector(net), loss


def linear(weight):
    net = nn.Sequential(nn.Linear(*weight.T.shape))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor(weight))
        net[0].bias.zero_()
    return net


def softmax_gradient(weight, x, y):
    """Of the mean cross-entropy of a linear model without bias: (softmax - one-hot) x, over the records."""
    z = np.exp(x @ weight.T)
    p = z / z.sum(axis=1, keepdims=True)
    return (p - np.eye(len(weight))[y]).T @ x / len(y), (p - np.eye(len(weight))[y]).mean(axis=0)


def test_one_sgd_step_by_hand():
    weight = np.array([[0.1, -0.2], [0.3, 0.0], [-0.5, 0.4]], dtype=np.float32)
    x, y = np.array([[1.0, 2.0], [0.5, -1.0]], dtype=np.float32), np.array([2, 0])
    net = linear(weight)
    loss = train(net, x, y, TrainingConfig(batch_size=2, learning_rate=0.5), np.random.default_rng(0))
    by_weight, by_bias = softmax_gradient(weight, x, y)
    np.testing.assert_allclose(net[0].weight.detach(), weight - 0.5 * by_weight, atol=1e-6)
    np.testing.assert_allclose(net[0].bias.detach(), -0.5 * by_bias, atol=1e-6)
    scores = x @ weight.T
    assert loss == pytest.approx(np.mean(np.log(np.exp(scores).sum(axis=1)) - scores[[0, 1], y]), abs=1e-6)


def test_momentum_and_weight_decay_by_hand():
    weight = np.array([[0.5], [-0.5]], dtype=np.float32)
    x, y = np.array([[1.0]], dtype=np.float32), np.array([0])
    net = linear(weight)
    config = TrainingConfig(epochs=2, batch_size=1, learning_rate=0.1, momentum=0.9, weight_decay=0.01)
    train(net, x, y, config, np.random.default_rng(0))
    bias, velocity, velocity_bias = np.zeros(2), 0.0, 0.0
    for _ in range(2):
        z = np.exp(weight[:, 0] + bias)
        by_logit = z / z.sum() - [1, 0]
        velocity = 0.9 * velocity + (by_logit[:, None] + 0.01 * weight)
        velocity_bias = 0.9 * velocity_bias + (by_logit + 0.01 * bias)
        weight, bias = weight - 0.1 * velocity, bias - 0.1 * velocity_bias
    np.testing.assert_allclose(net[0].weight.detach(), weight, atol=1e-6)
    np.testing.assert_allclose(net[0].bias.detach(), bias, atol=1e-6)


def test_the_first_adam_step_has_the_learning_rate_s_size():
    """With zero moments Adam moves every weight by the learning rate against the sign of its gradient."""
    weight = np.array([[0.1, -0.2], [0.3, 0.1]], dtype=np.float32)
    x, y = np.array([[1.0, 2.0]], dtype=np.float32), np.array([1])
    net = linear(weight)
    train(net, x, y, TrainingConfig(optimizer="adam", learning_rate=0.01), np.random.default_rng(0))
    moved = weight - 0.01 * np.sign(softmax_gradient(weight, x, y)[0])
    np.testing.assert_allclose(net[0].weight.detach(), moved, atol=1e-5)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_weights_follow_from_the_generator_alone(optimizer):
    config = TrainingConfig(epochs=2, batch_size=8, optimizer=optimizer)
    before = torch.get_rng_state()
    first, loss = trained(config)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    np.random.rand(3)  # noqa: NPY002  # the global state is the point
    again, same = trained(config)
    assert np.array_equal(first, again) and loss == same
    assert not np.array_equal(first, trained(config, seed=1)[0])


def test_every_record_is_seen_once_an_epoch():
    """Each record has its own feature, so column r of the weights moves only when record r is seen."""
    x, y = np.eye(6, dtype=np.float32), np.arange(6)
    net = linear(np.zeros((6, 6), dtype=np.float32))
    train(net, x, y, TrainingConfig(batch_size=1, learning_rate=0.1), np.random.default_rng(3))
    columns = net[0].weight.detach().numpy()
    assert (np.diag(columns) > 0).all() and (columns[~np.eye(6, dtype=bool)] < 0).all()
    np.testing.assert_allclose(columns.sum(axis=0), 0, atol=1e-6)
    assert np.diag(columns).max() < 0.1  # two steps on one record would pass this


def test_the_loss_is_the_last_epoch_s_mean_over_records_not_batches():
    config = TrainingConfig(batch_size=29, learning_rate=1e-9)
    expected = nn.functional.cross_entropy(model()(torch.tensor(X)), torch.tensor(Y)).item()
    assert trained(config)[1] == pytest.approx(expected, abs=1e-5)


def test_divergence_is_refused():
    config = TrainingConfig(learning_rate=10, epochs=5)
    with pytest.raises(DivergedError, match="at learning rate 10"):
        train(model(), X * 1e30, Y, config, np.random.default_rng(0))


def test_logits_do_not_depend_on_batches_and_leave_evaluation_mode():
    net = nn.Sequential(nn.Linear(5, 3), nn.Dropout(0.5)).train()
    x = np.tile(X, (40, 1))
    np.testing.assert_allclose(logits(net, x), net.eval()(torch.tensor(x)).detach(), atol=1e-6)
    assert logits(net, x).dtype == np.float32 and not net.training


def test_training_leaves_the_data_as_it_was():
    x, y = X.copy(), Y.copy()
    trained(TrainingConfig(epochs=2))
    assert np.array_equal(x, X) and np.array_equal(y, Y)
    net = model()
    other = copy.deepcopy(net)
    train(net, X[:1], Y[:1], TrainingConfig(batch_size=16), np.random.default_rng(0))  # one record, one short batch
    assert not np.array_equal(to_vector(net), to_vector(other))
