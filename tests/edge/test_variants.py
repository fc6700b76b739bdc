"""Every variant of every model: it exports, and the runtimes that are said to take it do."""

import functools

import numpy as np
import pytest
import torch

from clients.models import MODELS, new_model
from edge.artifact import Artifact
from edge.export import VARIANTS, export, trace
from edge.export.int4 import LARGEST, WeightsDifferError, with_int4_weights
from edge.reading import parameters, read
from edge.runtimes import predict, run
from edge.tensors import constant_of, kinds_of, packed, unpacked

SHAPES = {
    "mlp": (20,),
    "cnn": (1, 12, 12),
    "cnn1d": (3, 32),
    "ds-cnn": (1, 25, 10),
    "resnet8": (3, 16, 16),
    "mobilenet-v1-0.25": (1, 32, 32),
    "autoencoder": (64,),
}
NETS = [*MODELS, "cnn1d with group norm"]
SLOW = ("mobilenet-v1-0.25", "ds-cnn", "autoencoder")
EVERY = [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in NETS]
WHOLE = [name for name in VARIANTS if name != "float32"]
FLOORS = {"float32": 1e-5, "int16x8": 0.01, "int8": 0.03, "int8-per-tensor": 0.05, "int4": 0.12}  # of the spread


@functools.cache
def net(name):
    """A model whose biases are not zero, records, and its answers to them."""
    bare, norm = name.removesuffix(" with group norm"), "group" if name.endswith("group norm") else "none"
    draw = torch.Generator().manual_seed(2)
    model = new_model(bare, SHAPES[bare], 4, draw, norm=norm).eval()
    with torch.no_grad():
        for weights in model.parameters():
            if weights.ndim == 1:
                weights += 0.05 * torch.randn(weights.shape, generator=draw)
        x = torch.randn(40, *SHAPES[bare], generator=draw)
        return model, x.numpy(), model(x).numpy()


@functools.cache
def traced(name):
    return trace(*net(name)[:2])


@functools.cache
def made(name, variant, answers="logits"):
    model, x, _ = net(name)
    return export(model, x, variant, answers, traced(name))


def exact(name):
    return parameters_of(net(name)[0])


def parameters_of(model):
    return torch.nn.utils.parameters_to_vector(model.parameters()).detach().numpy()


@pytest.mark.parametrize("name", EVERY)
def test_every_variant_answers_as_torch_does_on_the_device_and_in_litert(name):
    _, x, logits = net(name)
    spread = np.ptp(logits)
    for variant, each in VARIANTS.items():
        artifact = Artifact.from_bytes(made(name, variant))
        assert {"tflm", "litert"} <= set(each.runtimes)
        for runtime in ("tflm", "litert"):
            error = np.abs(predict(artifact, x[:20], runtime) - logits[:20])
            assert error.mean() < FLOORS[variant] * spread, (variant, runtime)
            assert variant != "float32" or error.max() < 1e-4


@pytest.mark.parametrize("name", EVERY)
def test_weights_can_be_read_out_of_every_variant(name):
    model, _, _ = net(name)
    true = exact(name)
    errors = {v: np.abs(parameters(read(made(name, v)), model) - true).max() / np.abs(true).max() for v in WHOLE}
    assert max(errors["int8"], errors["int8-per-tensor"], errors["int16x8"]) < 0.006
    assert 0.5 / 7 / 8 < errors["int4"] < 0.51 / 7


@pytest.mark.parametrize("variant", WHOLE)
@pytest.mark.parametrize("name", ["cnn", "resnet8"])
def test_ranges_can_be_read_out_of_every_variant(name, variant):
    _, x, _ = net(name)
    reading = read(made(name, variant))
    low, high = reading.extremes(x)
    for column, each in enumerate(reading.ranges):
        width, reached = each.high - each.low, (-low[:, column].min(), high[:, column].max())
        if each.numbers == "int16":
            assert each.zero_point == 0 and max(reached) == pytest.approx(each.high, abs=0.01 * width)
        else:
            slack = (0.2 if variant == "int4" else 0.01) * width  # ranges are those of the weights before rounding
            assert max(0.0, reached[1]) == pytest.approx(each.high, abs=slack)
            assert max(0.0, reached[0]) == pytest.approx(-each.low, abs=slack)


@pytest.mark.parametrize("variant", VARIANTS)
def test_probabilities_have_the_step_of_the_variant_s_numbers(variant):
    _, x, logits = net("mlp")
    artifact = Artifact.from_bytes(made("mlp", variant, "probabilities"))
    assert artifact.answers == "probabilities"
    assert artifact.resolution == {"float32": 0.0, "int16x8": 1 / 32768}.get(variant, 1 / 256)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert np.abs(predict(artifact, x) - shares).max() < (0.06 if variant == "int4" else 0.01)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_same_model_and_records_give_the_same_bytes(variant):
    model, x, _ = net("cnn1d")
    assert export(model, x, variant, traced=traced("cnn1d")) == made("cnn1d", variant)


def test_scales_are_per_channel_or_per_tensor_as_the_variant_says():
    counts = {}
    for variant in WHOLE:
        layers = read(made("cnn", variant)).layers
        counts[variant] = [(layer.kind, len(layer.constants[0].scale)) for layer in layers]
    convolutions = [("CONV_2D", 8), ("CONV_2D", 16)]
    assert counts["int8"] == counts["int16x8"] == [*convolutions, ("FULLY_CONNECTED", 4)]
    assert counts["int4"] == [*convolutions, ("FULLY_CONNECTED", 1)]
    assert {scales for _, scales in counts["int8-per-tensor"]} == {1}


def test_int4_halves_the_weights():
    sizes = {variant: len(made("resnet8", variant)) for variant in VARIANTS}
    weights = sum(w.numel() for w in net("resnet8")[0].parameters() if w.ndim > 1)
    assert sizes["int8"] - sizes["int4"] == pytest.approx(weights / 2, rel=0.05)
    assert sizes["int4"] < sizes["int8-per-tensor"] < sizes["int8"] < sizes["int16x8"] < sizes["float32"]


def test_int4_levels_are_the_float_weights_in_steps_of_a_seventh_of_the_largest():
    """By hand, for the first convolution: one channel after the other, from the float weights."""
    kernel = net("cnn")[0][0].weight.detach().numpy()
    found = read(made("cnn", "int4")).layers[0].constants[0]
    assert found.values.min() == -LARGEST or found.values.max() == LARGEST
    for channel in range(8):
        steps = np.abs(kernel[channel]).max() / 7
        np.testing.assert_array_equal(found.values[channel, :, :, 0], np.rint(kernel[channel, 0] / steps))
        assert found.scale[channel] == pytest.approx(steps, rel=1e-6)


def test_a_bias_keeps_its_value_when_the_weights_are_rounded_anew():
    for name in ("cnn", "mlp"):
        before, after = (read(made(name, variant)).layers for variant in ("int8", "int4"))
        for old, new in zip(before, after, strict=True):
            step = new.constants[1].steps
            assert (np.abs(old.constants[1].real - new.constants[1].real) <= 0.51 * step).all()


def test_an_odd_number_of_weights_can_be_packed():
    model = torch.nn.Sequential(torch.nn.Linear(5, 3))
    x = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32)
    found = parameters(read(export(model.eval(), x, "int4")), model)
    assert np.abs(found - parameters_of(model)).max() < 0.51 * np.abs(parameters_of(model)).max() / 7


def test_weights_of_another_model_are_refused():
    with pytest.raises(WeightsDifferError, match="holds no weights that round to"):
        with_int4_weights(made("cnn", "int8"), made("resnet8", "float32"))


def test_a_bias_that_two_layers_share_is_refused():
    whole = unpacked(made("resnet8", "int8"))
    graph = whole.subgraphs[0]
    convolutions = [op for kind, op in zip(kinds_of(whole), graph.operators, strict=True) if kind == "CONV_2D"]
    first, second = convolutions[:2]
    assert constant_of(whole, graph.tensors[first.inputs[2]]).values.size == 16
    second.inputs = np.array([*second.inputs[:2], first.inputs[2]], dtype=np.int32)
    with pytest.raises(WeightsDifferError, match="two layers share the bias"):
        with_int4_weights(packed(whole), made("resnet8", "float32"))


def test_the_same_bytes_reach_every_runtime():
    artifact = Artifact.from_bytes(made("cnn1d", "int16x8"))
    levels = artifact.quantize_input(net("cnn1d")[1][:10])
    assert levels.dtype == np.int16
    assert np.abs(run(artifact, levels, "tflm").astype(int) - run(artifact, levels, "litert")).max() <= 2
