"""The three forms of a model's weights agree: torch, Flower's arrays by name, and one flat vector."""

import numpy as np
import pytest
import torch

from clients.models import MODELS, new_model
from clients.weights import flatten, load_arrays, load_vector, to_arrays, to_vector

SHAPES = {1: (5,), 2: (3, 20), 3: (1, 32, 32)}


def model(name, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return new_model(name, SHAPES[MODELS[name].dimensions], 4, rng, norm="group")


@pytest.mark.parametrize("name", MODELS)
def test_all_forms_hold_the_same_values_in_the_same_order(name):
    net = model(name)
    expected = np.concatenate([p.detach().numpy().ravel() for _, p in net.named_parameters()])
    assert np.array_equal(to_vector(net), expected) and to_vector(net).dtype == np.float32
    assert np.array_equal(flatten(to_arrays(net)), expected) and flatten(to_arrays(net)).dtype == np.float32
    assert list(to_arrays(net)) == [key for key, _ in net.named_parameters()]


@pytest.mark.parametrize("name", MODELS)
def test_round_trips(name):
    source, vector = model(name, 1), to_vector(model(name, 1))
    by_vector, by_arrays = load_vector(model(name, 2), vector), model(name, 3)
    load_arrays(by_arrays, to_arrays(source))
    x = torch.zeros(2, *SHAPES[MODELS[name].dimensions])
    for copy in (by_vector, by_arrays):
        assert np.array_equal(to_vector(copy), vector)
        assert torch.equal(copy(x), source(x))


def test_no_form_shares_memory_with_the_model():
    net = model("mlp")
    vector, arrays = to_vector(net), to_arrays(net)
    kept = vector.copy()
    load_vector(net, vector)
    with torch.no_grad():
        for p in net.parameters():
            p += 1
    assert np.array_equal(vector, kept) and np.array_equal(flatten(arrays), kept)


def test_arrays_of_another_model_are_refused():
    with pytest.raises(RuntimeError, match=r"Missing key|size mismatch"):
        load_arrays(model("mlp"), to_arrays(model("cnn")))
