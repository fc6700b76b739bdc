"""A last layer trained on the device: by hand, in torch, and in LiteRT, always the same."""

import numpy as np
import pytest
import torch

from edge.artifact import Artifact, ArtifactError
from edge.config import HeadTraining
from edge.head import Head, flashed, step, train
from edge.runtimes import predict
from edge.tensors import packed, unpacked
from edge.training_file import train_in_litert, training_file


def test_one_step_by_hand():
    # One record (1, 2), two classes at logits (0, 0): softmax (1/2, 1/2), error (-1/2, 1/2) for class 0.
    weight, bias = np.zeros((2, 2), np.float32), np.zeros(2, np.float32)
    weight, bias = step(weight, bias, np.array([[1, 2]], np.float32), np.array([[1, 0]], np.float32), 0.1)
    np.testing.assert_allclose(weight, [[0.05, -0.05], [0.1, -0.1]], rtol=1e-6)
    np.testing.assert_allclose(bias, [0.05, -0.05], rtol=1e-6)


def drawn(seed=0, records=64, features=16, classes=4):
    rng = np.random.default_rng(seed)
    head = Head(
        rng.normal(size=(features, classes)).astype(np.float32) / 4, rng.normal(size=classes).astype(np.float32)
    )
    return head, rng.normal(size=(records, features)).astype(np.float32), rng.integers(0, classes, records)


def test_a_step_is_torchs_gradient_descent():
    head, features, labels = drawn()
    layer = torch.nn.Linear(16, 4)
    layer.load_state_dict({"weight": torch.from_numpy(head.weight.T), "bias": torch.from_numpy(head.bias)})
    torch.nn.functional.cross_entropy(layer(torch.from_numpy(features)), torch.from_numpy(labels)).backward()
    weight, bias = step(head.weight, head.bias, features, np.eye(4, dtype=np.float32)[labels], 0.3)
    np.testing.assert_allclose(weight, head.weight - 0.3 * layer.weight.grad.numpy().T, atol=1e-6)
    np.testing.assert_allclose(bias, head.bias - 0.3 * layer.bias.grad.numpy(), atol=1e-6)


def test_training_goes_through_all_records_in_an_order_that_is_an_argument():
    head, features, labels = drawn(records=21)
    config = HeadTraining(epochs=30, batch_size=4, learning_rate=0.5)
    one, same, other = (train(head, features, labels, config, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.weight, same.weight)
    assert not np.array_equal(one.weight, other.weight)
    before = (features @ head.weight + head.bias).argmax(1) == labels
    after = (features @ one.weight + one.bias).argmax(1) == labels
    assert after.mean() > before.mean() + 0.3


def test_litert_trains_the_same_without_flex():
    head, features, labels = drawn()
    wanted = np.eye(4, dtype=np.float32)[labels]
    batches = [(features[start : start + 8], wanted[start : start + 8]) for start in range(0, 64, 8)] * 5
    found, losses = train_in_litert(training_file(head, 8, 0.1), batches)
    weight, bias = head.weight, head.bias
    for batch in batches:
        weight, bias = step(weight, bias, *batch, 0.1)
    np.testing.assert_allclose(found.weight, weight, atol=1e-6)
    np.testing.assert_allclose(found.bias, bias, atol=1e-6)
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("answers", ["logits", "probabilities"])
@pytest.mark.parametrize("name", ["mlp", "windows", "residual"])
def test_an_untrained_head_answers_as_the_flashed_model_does(name, answers, trained, exported):
    artifact = Artifact.from_bytes(exported(name, answers))
    split, x = flashed(artifact), trained(name).fresh
    steps = np.abs(split.answers(split.head, split.features(x)) - predict(artifact, x)) / artifact.output.scale
    assert steps.max() <= (1.01 if answers == "logits" else 12)  # the device rounds before its softmax, RAM does not
    assert len(np.unique(split.answers(split.head, split.features(x)))) <= 256


def test_a_device_that_trains_fits_its_own_records(trained, exported):
    split, net = flashed(Artifact.from_bytes(exported("windows"))), trained("windows")
    rng = np.random.default_rng(3)
    odd = rng.integers(0, 4, 40)  # labels of nobody but this device
    features = split.features(net.fresh[:40])
    head = train(split.head, features, odd, HeadTraining(epochs=500, learning_rate=0.5), rng)
    before, after = (split.answers(each, features).argmax(1) == odd for each in (split.head, head))
    assert after.mean() > before.mean() + 0.2
    assert head.ram_bytes == 4 * (16 * 4 + 4 + 16 + 4)


def test_a_model_without_a_last_dense_layer_is_refused(exported):
    whole = unpacked(exported("windows"))
    graph = whole.subgraphs[0]
    graph.outputs, graph.operators = [int(graph.operators[-1].inputs[0])], graph.operators[:-1]
    with pytest.raises(ArtifactError, match="only a last FULLY_CONNECTED layer can be trained"):
        flashed(Artifact.from_bytes(packed(whole)))
