"""Every architecture: right shapes, weights from the generator alone, and refusals that say what fits."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from clients.models import CLASSIFIERS, MODELS, ModelConfig, ModelShapeError, build_model, new_model, parameter_count

SHAPES = {
    "mlp": [(5,), (3, 20), (1, 8, 8)],
    "cnn": [(1, 8, 8), (3, 4, 9)],
    "cnn1d": [(6, 100), (1, 4)],
    "ds-cnn": [(1, 49, 10), (1, 8, 8), (2, 4, 5)],
    "resnet8": [(3, 32, 32), (1, 5, 8)],
    "mobilenet-v1-0.25": [(3, 32, 32), (1, 33, 40)],
}
EVERY = [(name, shape, norm) for name in CLASSIFIERS for shape in SHAPES[name] for norm in ("none", "group")]


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


@pytest.mark.parametrize("name", ["mlp", "cnn", "cnn1d"])
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
        ("cnn1d", (1, 8, 8), "mlp, cnn, ds-cnn, resnet8, mobilenet-v1-0.25"),
    ],
)
def test_records_of_another_kind_are_refused_with_what_fits(name, shape, fits):
    with pytest.raises(ModelShapeError) as refused:
        build_model(ModelConfig(name=name), shape, 3, rng())
    assert str(refused.value).startswith(f"{name} takes records with {MODELS[name].dimensions} dimensions")
    assert str(refused.value).endswith(f"have shape {shape}; models for this data: {fits}")


@pytest.mark.parametrize(
    ("name", "shape", "least"),
    [
        ("cnn", (1, 3, 9), 4),
        ("ds-cnn", (1, 9, 2), 4),
        ("cnn1d", (6, 3), 4),
        ("resnet8", (3, 3, 32), 4),
        ("mobilenet-v1-0.25", (3, 31, 32), 32),
    ],
)
def test_records_too_small_are_refused(name, shape, least):
    said = f"{name} needs records at least {least} long on every side.* have {min(shape[1:])}"
    with pytest.raises(ModelShapeError, match=said):
        build_model(ModelConfig(name=name), shape, 3, rng())


@pytest.mark.parametrize("name", CLASSIFIERS)
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


PUBLISHED = {  # shape, classes, weights that Keras counts in MLPerf Tiny's models, channels that it normalises
    "resnet8": ((3, 32, 32), 10, 78_666, 16 * 3 + 32 * 2 + 64 * 2),
    "mobilenet-v1-0.25": ((3, 96, 96), 2, 221_794, 8 + 1240 + 1488),
    "ds-cnn": ((1, 49, 10), 12, 24_908, 64 * 9),
    "autoencoder": ((640,), 0, 269_992, 128 * 8 + 8),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_models_of_mlperf_tiny_have_its_numbers_of_weights(name):
    """Keras counts four numbers for each channel of a BatchNorm; folded there is none, of a GroupNorm there are two."""
    shape, classes, published, channels = PUBLISHED[name]
    assert parameter_count(new_model(name, shape, classes, rng())) == published - 4 * channels
    assert parameter_count(new_model(name, shape, classes, rng(), norm="group")) == published - 2 * channels


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("norm", ["none", "group"])
def test_a_deep_model_s_signal_does_not_fade(name, norm):
    shape, classes, _, _ = PUBLISHED[name]
    model = new_model(name, shape, classes, rng(), norm=norm)
    with torch.no_grad():
        spread = model(torch.randn(16, *shape, generator=rng(3))).std(dim=0).mean()
    assert 1e-3 < float(spread) < 10  # as torch draws them, MobileNet gives below 1e-6


def test_strides_are_padded_as_keras_does_it():
    model = new_model("ds-cnn", (1, 49, 10), 12, rng())
    assert model[0].padding == (1, 1, 4, 5)  # left, right, top, bottom
    assert model[:3](torch.zeros(1, 1, 49, 10)).shape == (1, 64, 25, 5)
    assert new_model("mobilenet-v1-0.25", (3, 96, 96), 2, rng())[:-3](torch.zeros(1, 3, 96, 96)).shape[2:] == (3, 3)
    assert new_model("resnet8", (3, 32, 32), 10, rng())[:-3](torch.zeros(1, 3, 32, 32)).shape[1:] == (64, 8, 8)


@pytest.mark.parametrize(("width", "neck"), [(8, 4), (64, 4), (128, 8), (200, 12)])
def test_the_autoencoder_squeezes_and_returns_as_many_numbers_as_it_is_given(width, neck):
    model = new_model("autoencoder", (2, 4, 5), 0, rng(), width=width, norm="group")
    assert model(torch.zeros(3, 2, 4, 5)).shape == (3, 40)
    assert min(layer.out_features for layer in model if hasattr(layer, "out_features")) == neck


def test_no_federation_trains_an_autoencoder():
    with pytest.raises(ValidationError, match=r"'autoencoder' rebuilds its input and .* choose one of mlp"):
        ModelConfig(name="autoencoder")


def test_every_model_says_what_it_does():
    assert set(MODELS) - set(CLASSIFIERS) == {"autoencoder"}
    assert {MODELS[name].task for name in CLASSIFIERS} == {"classification"}
