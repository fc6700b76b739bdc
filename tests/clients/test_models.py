"""Every architecture: right shapes, weights from the generator alone, and refusals that say what fits."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from clients.models import MODELS, ModelConfig, ModelShapeError, build_model, parameter_count

SHAPES = {"mlp": [(5,), (3, 20), (1, 8, 8)], "cnn": [(1, 8, 8), (3, 4, 9)], "cnn1d": [(6, 100), (1, 4)]}
SHAPES["ds-cnn"] = [(1, 8, 8), (2, 4, 5)]
EVERY = [(name, shape, norm) for name in MODELS for shape in SHAPES[name] for norm in ("none", "group")]


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def weights(model):
    return torch.nn.utils.parameters_to_vector(model.parameters()).detach()


@pytest.mark.parametrize(("name", "shape", "norm"), EVERY)
def test_records_in_logits_out(name, shape, norm):
    model = build_model(ModelConfig(name=name, norm=norm), shape, 7, rng())
    assert model(torch.zeros(3, *shape)).shape == (3, 7)
    assert any(isinstance(m, torch.nn.GroupNorm) for m in model.modules()) == (norm == "group")
    assert not list(model.buffers())  # statistics of the data would travel with the weights


@pytest.mark.parametrize(("name", "shape", "norm"), EVERY)
def test_weights_come_from_the_generator_alone(name, shape, norm):
    config = ModelConfig(name=name, norm=norm)
    before = torch.get_rng_state()
    first = weights(build_model(config, shape, 4, rng(1)))
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert torch.equal(weights(build_model(config, shape, 4, rng(1))), first)
    assert not torch.equal(weights(build_model(config, shape, 4, rng(2))), first)


@pytest.mark.parametrize("name", MODELS)
def test_first_weights_are_as_large_as_torch_makes_them(name):
    shape = SHAPES[name][0]
    model = build_model(ModelConfig(name=name, width=64), shape, 10, rng())
    for layer in (m for m in model.modules() if hasattr(m, "weight")):
        bound = layer.weight[0].numel() ** -0.5
        for values in (layer.weight.detach(), layer.bias.detach()):
            assert values.abs().max() <= bound
        assert float(layer.weight.detach().std()) == pytest.approx(bound / 3**0.5, rel=0.15)


@pytest.mark.parametrize(
    ("name", "shape", "fits"),
    [
        ("cnn", (20,), "mlp"),
        ("ds-cnn", (6, 100), "mlp, cnn1d"),
        ("cnn1d", (1, 8, 8), "mlp, cnn, ds-cnn"),
    ],
)
def test_records_of_another_kind_are_refused_with_what_fits(name, shape, fits):
    with pytest.raises(ModelShapeError) as refused:
        build_model(ModelConfig(name=name), shape, 3, rng())
    assert str(refused.value).startswith(f"{name} takes records with {MODELS[name].dimensions} dimensions")
    assert str(refused.value).endswith(f"have shape {shape}; models for this data: {fits}")


@pytest.mark.parametrize(("name", "shape"), [("cnn", (1, 3, 9)), ("ds-cnn", (1, 9, 2)), ("cnn1d", (6, 3))])
def test_records_too_small_are_refused(name, shape):
    smallest = min(shape[1:])
    with pytest.raises(ModelShapeError, match=f"{name} needs records at least 4 long on every side.* have {smallest}"):
        build_model(ModelConfig(name=name), shape, 3, rng())


@pytest.mark.parametrize("name", MODELS)
def test_a_width_that_cannot_be_grouped_is_refused(name):
    with pytest.raises(ModelShapeError, match=r"width 6 .* multiple of 4, or norm = 'none'"):
        build_model(ModelConfig(name=name, norm="group", width=6), SHAPES[name][0], 3, rng())
    assert build_model(ModelConfig(name=name, width=6), SHAPES[name][0], 3, rng())


@pytest.mark.parametrize("width", [0, 3, 513])
def test_widths_out_of_range_are_refused(width):
    with pytest.raises(ValidationError, match="width"):
        ModelConfig(name="mlp", width=width)


def test_parameters_are_counted_by_hand():
    assert parameter_count(build_model(ModelConfig(name="mlp", width=8), (5,), 3, rng())) == 5 * 8 + 8 + 8 * 3 + 3
    grouped = build_model(ModelConfig(name="cnn", width=4, norm="group"), (1, 8, 8), 10, rng())
    assert parameter_count(grouped) == (9 * 4 + 4 + 8) + (36 * 8 + 8 + 16) + (8 * 4 * 10 + 10)


def test_the_default_width_is_the_entry_s_own():
    model = build_model(ModelConfig(name="mlp"), (5,), 3, rng())
    assert model[1].out_features == MODELS["mlp"].width
    assert np.prod(model[1].weight.shape) == 5 * 64
