"""No quantised file is silently wrong: shared biases, layers without a range, modules that cannot be exported."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from edge.artifact import Artifact
from edge.coarse import coarse_ranges
from edge.export import ExportWarning, UnsupportedLayerError, export, silent, trace
from edge.export.biases import BiasError, bias_uses, with_own_biases
from edge.export.comparison import check_file
from edge.runtimes import predict
from edge.tensors import constant_of, packed, unpacked

QUANTISED = ("int8", "int8-per-tensor", "int16x8", "int4")


ACTIVATIONS = {"relu": F.relu, "tanh": torch.tanh, "product": lambda y: 2 * y, "gate": F.silu}


def drawn(rng, shape):
    return torch.from_numpy(rng.normal(size=shape).astype(np.float32))


def redrawn(model):
    """Weights that are the same every time."""
    rng = np.random.default_rng(5)
    for parameter in model.parameters():
        parameter.data = drawn(rng, parameter.shape) / max(1, parameter[0].numel()) ** 0.5
    return model.eval()


class Random(nn.Module):
    """Linear or convolutional layers used again and again, with tied weights and zero, equal, large or no biases."""

    def __init__(self, rng):
        super().__init__()
        self.maps, width, count = bool(rng.random() < 0.5), int(rng.integers(2, 6)), int(rng.integers(1, 4))
        make = (lambda i, o: nn.Conv1d(i, o, 3, padding=1)) if self.maps else nn.Linear
        self.first, self.head = make(3 if self.maps else 5, width), nn.Linear(width, 3)
        self.layers = nn.ModuleList(make(width, width) for _ in range(count))
        steps = ["relu", "none", "residual", "tanh", "product", "bias again", "gate"]
        self.steps = [(int(rng.integers(count)), str(rng.choice(steps))) for _ in range(int(rng.integers(1, 6)))]
        for layer in (self.first, *self.layers, self.head):
            layer.weight.data = drawn(rng, layer.weight.shape) / 2
            kind = str(rng.choice(["zero", "equal", "large", "none", "small"]))
            scale, shift = {"zero": (0, 0), "equal": (0, 2), "large": (10, 0)}.get(kind, (0.3, 0))
            layer.bias = None if kind == "none" else nn.Parameter(scale * drawn(rng, layer.bias.shape) + shift)
        if count > 1 and rng.random() < 0.5:
            self.layers[1].weight = self.layers[0].weight

    def forward(self, x):
        x = F.relu(self.first(x))
        for index, step in self.steps:
            layer = self.layers[index]
            y = layer(x)
            if step == "bias again" and layer.bias is not None:
                x = F.relu(y) + (layer.bias[:, None] if self.maps else layer.bias)
            elif step == "residual":
                x = F.relu(x + y)
            else:
                x = ACTIVATIONS.get(step, lambda y: y)(y)
        return self.head(x.mean(2) if self.maps else x)


def answers(model, x):
    with torch.no_grad():
        return model.eval()(torch.from_numpy(x)).numpy()


def error(file, x, expected):
    return float(np.abs(predict(Artifact.from_bytes(file), x) - expected).max())


def exported(model, x, variant, traced=None):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExportWarning)
        return export(model.eval(), x, variant, traced=traced)


def assert_one_bias_per_use(file):
    whole, seen = unpacked(file), set()
    for use in bias_uses(whole):
        scale = whole.subgraphs[0].tensors[use.tensor].quantization.scale
        np.testing.assert_allclose(scale, use.steps, rtol=1e-5)
        assert use.tensor not in seen
        seen.add(use.tensor)
    return len(seen)


@pytest.mark.parametrize("seed", [pytest.param(s, marks=[pytest.mark.slow] if s > 4 else []) for s in range(24)])
def test_every_variant_of_any_module_with_shared_layers_is_as_near_to_torch_as_its_numbers_allow(seed):
    rng = np.random.default_rng(seed)
    model = Random(rng)
    x = rng.normal(size=(24, 3, 6) if model.maps else (24, 5)).astype(np.float32)
    expected, traced = answers(model, x), trace(model, x)
    files = {variant: exported(model, x, variant, traced) for variant in ("int8", "int16x8")}
    for file in files.values():
        assert_one_bias_per_use(file)
    off = {variant: error(file, x, expected) for variant, file in files.items()}
    assert off["int8"] < 0.15 * np.ptp(expected) + 0.01 * np.abs(expected).max()
    assert off["int16x8"] < 2 * off["int8"] + 1e-3


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.head = nn.Linear(10, 10), nn.Linear(10, 4)

    def forward(self, x):
        return self.head(torch.relu(self.inner(torch.relu(self.inner(x)))))


@pytest.fixture
def twice():
    model = redrawn(Twice())
    nn.init.constant_(model.inner.bias, 2.0)
    return model, np.random.default_rng(0).standard_normal((24, 10)).astype(np.float32)


@pytest.mark.parametrize("variant", QUANTISED)
def test_a_layer_used_twice_has_a_bias_for_each_use(twice, variant):
    model, x = twice
    file = exported(model, x, variant)
    assert assert_one_bias_per_use(file) == 3
    expected = answers(model, x)
    assert error(file, x, expected) < {"int16x8": 0.01, "int4": 0.3}.get(variant, 0.03) * np.ptp(expected)


def test_coarser_ranges_leave_each_bias_to_its_layer(twice):
    model, x = twice
    model.head.bias.data = model.inner.bias.data[:4].clone()
    file = coarse_ranges(exported(model, x, "int8"), 2.0)
    assert_one_bias_per_use(file)
    assert error(file, x, answers(model, x)) < 0.1


def test_coarser_ranges_give_biases_of_equal_levels_buffers_of_their_own(twice):
    """Zeros in both layers: one buffer, which must not be written for one of them."""
    model, x = twice
    whole = unpacked(exported(model, x, "int8"))
    tensors = whole.subgraphs[0].tensors
    uses = list(bias_uses(whole))
    tensors[uses[1].tensor].buffer = tensors[uses[0].tensor].buffer
    found = unpacked(coarse_ranges(packed(whole), 3.0))
    first, second = (constant_of(found, found.subgraphs[0].tensors[use.tensor]) for use in list(bias_uses(found))[:2])
    np.testing.assert_allclose(first.real, 2.0, atol=1e-3)
    assert not np.allclose(second.real, first.real, atol=1e-3)  # the same levels, read in the steps of each


def dead(bias=-100.0):
    model = redrawn(nn.Sequential(nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4)))
    nn.init.constant_(model[0].bias, bias)
    return model


@pytest.mark.parametrize("variant", QUANTISED)
def test_a_layer_that_is_dead_on_the_calibration_records_is_named_and_computed_rightly(twice, variant):
    model, x = dead(), twice[1]
    with pytest.warns(ExportWarning, match=r"relu at '1' \(ReLU\) gave nothing but zeros .* Calibrate with other"):
        file = export(model, x, variant)
    expected = answers(model, x)
    assert error(file, x, expected) < (0.2 if variant == "int4" else 0.01) * np.abs(expected).max()
    assert silent(model, x, file) == ("relu at '1' (ReLU)",)
    assert silent(twice[0], x, exported(twice[0], x, variant)) == ()


@pytest.mark.parametrize("variant", QUANTISED)
def test_zeros_for_weights_and_for_constants_have_a_scale(twice, variant):
    class Zeros(Twice):
        def forward(self, x):
            hidden = torch.relu(self.inner(x)) + 0 * self.inner.bias
            return self.head(hidden)

    model, x = redrawn(Zeros()), twice[1]
    model.inner.weight.data[3] = 0
    model.head.weight.data[1] = 0
    assert error(exported(model, x, variant), x, answers(model, x)) < (0.5 if variant == "int4" else 0.05)
    model.inner.weight.data.zero_()
    assert error(exported(model, x, variant), x, answers(model, x)) < (0.5 if variant == "int4" else 0.05)


def test_records_of_nothing_are_named_as_the_input(twice):
    with pytest.warns(ExportWarning, match="the input gave nothing but zeros"):
        export(twice[0], np.zeros((12, 10), np.float32), "int8")


def test_a_bias_that_overflows_its_accumulator_is_refused(twice):
    whole = unpacked(exported(twice[0], twice[1], "int16x8"))
    whole.subgraphs[0].tensors[0].quantization.scale = [1e-20]  # of the input
    with pytest.raises(BiasError, match=r"needs .* steps"):
        with_own_biases(packed(whole))


def test_a_file_that_is_not_the_model_is_refused(twice):
    model, x = twice
    file = exported(model, x, "int16x8")
    with pytest.raises(UnsupportedLayerError, match=r"answers are .* from torch's"):
        check_file(file, "int16x8", x[:8], answers(model, x[:8])[::-1].copy())


class Branch(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(10, 4)

    def forward(self, x):
        return self.layer(x) if x.sum() > 0 else self.layer(-x)


class Loop(Branch):
    def forward(self, x):
        while x.abs().max() > 1:
            x = x / 2
        return self.layer(x)


class Pair(Branch):
    def forward(self, x, other):
        return self.layer(x) + other


class Remembering(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.memory, self.head = kind(3, 5, batch_first=True), nn.Linear(5, 2)

    def forward(self, x):
        return self.head(self.memory(x.transpose(1, 2))[0][:, -1])


MODULES = {
    "if": (lambda: nn.Sequential(nn.ReLU(), Branch()), (10,), r"'1' \(Branch\), line \d+ .* depends on the numbers"),
    "loop": (Loop, (10,), r"the forward method of Loop, line \d+ .* depends on the numbers"),
    "two inputs": (Pair, (10,), r"the forward method of Pair takes 2 inputs \(x, other\)"),
    "wrong features": (
        lambda: nn.Sequential(nn.ReLU(), nn.Linear(9, 3)),
        (10,),
        r"'1' \(Linear\) does not take a record of shape \(10,\)",
    ),
    "wrong channels": (lambda: nn.Conv1d(4, 2, 3), (3, 8), r"Conv1d does not take a record of shape \(3, 8\)"),
    "double": (lambda: nn.Linear(10, 2).double(), (10,), r"Linear does not take a record"),
    "lstm": (lambda: Remembering(nn.LSTM), (3, 6), r"'memory' \(LSTM\) cannot be exported.*Conv1d over the window"),
    "gru": (lambda: Remembering(nn.GRU), (3, 6), r"'memory' \(GRU\) cannot be exported"),
    "embedding": (lambda: nn.Embedding(5, 4), (10,), r"Embedding does not take a record"),
    "no module": (lambda: lambda x: x, (10,), "a torch.nn.Module can be exported; this is function"),
}


@pytest.mark.parametrize("name", MODULES)
def test_what_is_no_exportable_module_is_refused_by_name_and_place(name):
    make, shape, words = MODULES[name]
    with pytest.raises(UnsupportedLayerError, match=words):
        export(make(), np.ones((4, *shape), np.float32), "float32")


def test_records_of_another_shape_than_the_trace_s_are_refused(twice):
    model, x = twice
    with pytest.raises(ValueError, match=r"have shape .* traced with"):
        export(model, x[:, :5], "float32", traced=trace(model, x))
