"""The exported file computes what the torch model computes, and says so when it cannot."""

from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from edge.artifact import Artifact
from edge.export import UnsupportedLayerError, export
from edge.runtimes import predict

NAMES = ["mlp", "cnn", "windows", "depthwise", "residual", "group-norm", "one-group"]


class Function(nn.Module):
    """A function as a model."""

    def __init__(self, function, *layers):
        super().__init__()
        self.function, self.layers = function, nn.ModuleList(layers)

    def forward(self, x):
        return self.function(x, *self.layers)


@pytest.mark.parametrize("name", NAMES)
def test_the_float_file_computes_what_torch_computes(name, trained, run_float):
    net = trained(name)
    answers = run_float(export(net.model, net.x, "float32"), net.fresh)
    np.testing.assert_allclose(answers, net.logits, atol=1e-4)


def head(features):
    return nn.Sequential(nn.Flatten(), nn.Linear(features, 3))


SHIFT, FACTOR = torch.tensor([0.3, -0.2, 0.1])[:, None], torch.tensor([2.0, 0.5, 1.5])[:, None]
LAYERS = {
    "conv2d, stride 2, torch padding, even side": ((2, 8, 8), nn.Conv2d(2, 4, 3, 2, 1), 4 * 4 * 4),
    "conv2d, stride 2, torch padding, odd side": ((2, 9, 9), nn.Conv2d(2, 4, 3, 2, 1), 4 * 5 * 5),
    "conv2d, oblong": ((2, 9, 6), nn.Conv2d(2, 4, (5, 2), (2, 1), (0, 1), bias=False), 4 * 3 * 7),
    "conv2d, dilated": ((2, 9, 9), nn.Conv2d(2, 4, 3, padding=2, dilation=2), 4 * 81),
    "conv1d, padding same, even kernel": ((3, 10), nn.Conv1d(3, 4, 4, padding="same"), 40),
    "conv1d, padding valid": ((3, 10), nn.Conv1d(3, 4, 3, padding="valid"), 32),
    "conv1d, dilated": ((3, 12), nn.Conv1d(3, 4, 3, padding=4, dilation=4), 48),
    "conv1d, depthwise, stride 2": ((3, 12), nn.Conv1d(3, 6, 3, 2, 1, groups=3), 36),
    "conv2d, depthwise, dilated": ((3, 9, 9), nn.Conv2d(3, 3, 3, padding=2, dilation=2, groups=3), 243),
    "max pool, odd stride, after relu": ((2, 8, 8), nn.Sequential(nn.ReLU(), nn.MaxPool2d(3, 2, 1)), 32),
    "max pool, same": ((2, 7, 7), nn.MaxPool2d(3, 2, 1), 32),
    "max pool 1d": ((3, 13), nn.MaxPool1d(3, 2), 18),
    "avg pool, counting the padding": ((2, 8, 8), nn.AvgPool2d(3, 2, 1), 32),
    "avg pool, not counting it": ((2, 7, 7), nn.AvgPool2d(3, 2, 1, count_include_pad=False), 32),
    "avg pool 1d": ((3, 12), nn.AvgPool1d(4), 9),
    "adaptive to a divisor": ((2, 6, 4), nn.AdaptiveAvgPool2d((3, 2)), 12),
    "zero pad": ((2, 5, 5), nn.ZeroPad2d((1, 2, 0, 3)), 2 * 8 * 8),
    "zero pad 1d": ((3, 5), nn.ConstantPad1d((2, 1), 0.0), 24),
    "pool, then a 1x1 convolution": (
        (4, 6, 6),
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 5, 1), nn.ReLU6()),
        5,
    ),
    "batch norm first, and after a flatten": (
        (3, 8),
        nn.Sequential(nn.BatchNorm1d(3), nn.Flatten(), nn.BatchNorm1d(24, affine=False)),
        24,
    ),
    "input scaling by constants": ((3, 8), Function(lambda x: (x - SHIFT) * FACTOR / (2 * FACTOR) + 1), 24),
    "windows of one feature row": ((20,), Function(lambda x, conv: conv(x.unsqueeze(1)), nn.Conv1d(1, 2, 3)), 36),
    "squeeze": ((3, 8), Function(lambda x, pool: pool(x).squeeze(-1), nn.AdaptiveAvgPool1d(1)), 3),
    "weights made from weights": ((3, 8), parametrizations.weight_norm(nn.Conv1d(3, 4, 3)), 24),
    "group norm without weights": ((4, 8), nn.GroupNorm(2, 4, affine=False), 32),
    "group norm on images": ((4, 5, 5), nn.GroupNorm(4, 4), 100),
    "in-place change seen by a later reader": (
        (3, 8),
        Function(lambda x, conv: (lambda h: torch.relu_(h) + h)(conv(x)), nn.Conv1d(3, 4, 3)),
        24,
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_every_supported_layer_computes_what_torch_computes(name, seeded, run_float):
    shape, layer, features = LAYERS[name]
    model = seeded(nn.Sequential(layer, head(features)))
    x = np.random.default_rng(1).normal(size=(5, *shape)).astype(np.float32)
    with torch.no_grad():
        expected = model(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(run_float(export(model, x, "float32"), x), expected, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_the_int8_file_agrees_with_torch(name, trained, exported):
    net, answers = trained(name), predict(Artifact.from_bytes(exported(name)), trained(name).fresh)
    spread = np.ptp(net.logits)
    assert spread > 3, "the network learned nothing, so agreement would mean nothing"
    assert np.mean(answers.argmax(1) == net.logits.argmax(1)) >= 0.97
    assert np.abs(answers - net.logits).mean() < 0.02 * spread


@pytest.mark.parametrize("name", NAMES)
def test_no_operator_only_moves_numbers_about(name, exported, operators):
    found = operators(exported(name))
    assert "TRANSPOSE" not in found
    assert found["RESHAPE"] == (1 if name in {"cnn", "residual"} else 0)  # the flatten of a map that is not 1x1
    assert not {"QUANTIZE", "DEQUANTIZE"} & set(found)


def test_batch_norm_is_folded_into_the_convolution(exported, operators):
    assert operators(exported("windows")) == {"CONV_2D": 2, "MAX_POOL_2D": 1, "MEAN": 1, "FULLY_CONNECTED": 1}


def test_torch_padding_costs_a_pad_only_where_same_differs(exported, operators):
    assert operators(exported("depthwise"))["PAD"] == 2
    assert operators(exported("residual"))["PAD"] == 0


def test_every_activation_is_int8_and_convolutions_have_a_scale_per_channel(exported):
    from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

    graph = schema.ModelT.InitFromPackedBuf(exported("windows")).subgraphs[0]
    assert {tensor.type for tensor in graph.tensors} == {schema.TensorType.INT8, schema.TensorType.INT32}
    kernel = next(tensor for tensor in graph.tensors if list(tensor.shape) == [16, 1, 5, 3])
    assert len(kernel.quantization.scale) == 16


@pytest.mark.parametrize("output", ["logits", "probabilities"])
def test_the_same_model_and_records_give_the_same_bytes(output, trained, exported):
    net = trained("windows")
    assert export(net.model, net.x[:200], answers=output) == exported("windows", output)


def test_other_calibration_records_give_other_bytes(trained, exported):
    net = trained("windows")
    assert export(net.model, 3 * net.x[:200]) != exported("windows")


def test_exporting_leaves_the_model_as_it_was(trained):
    net = trained("mlp")
    model = net.model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    export(model, net.x[:20])
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    model.eval()


def test_a_model_still_in_training_mode_is_exported_as_it_is_used(trained, exported):
    net = trained("mlp")
    net.model.train()
    try:
        assert export(net.model, net.x[:200]) == exported("mlp")
    finally:
        net.model.eval()


def test_the_softmax_has_the_scale_that_the_device_fixes(exported):
    artifact = Artifact.from_bytes(exported("windows", "probabilities"))
    assert (artifact.answers, artifact.output.scale, artifact.output.zero_point) == ("probabilities", 1 / 256, -128)


def test_an_unsupported_layer_is_named_with_its_place():
    body = nn.Sequential(OrderedDict(first=nn.Conv1d(3, 4, 3), squash=nn.Softsign(), head=head(24)))
    with pytest.raises(UnsupportedLayerError) as caught:
        export(nn.Sequential(OrderedDict(body=body)), np.zeros((1, 3, 8)), "float32")
    assert "abs at 'body.squash' (Softsign)" in str(caught.value)
    assert "Supported: adaptive_avg_pool1d" in str(caught.value)


BOUNDS = torch.arange(8.0)
REFUSED = {
    "grouped convolution": ((4, 8), nn.Conv1d(4, 4, 3, groups=2), "groups=2"),
    "reflecting padding": ((3, 8), nn.Conv1d(3, 4, 3, padding=1, padding_mode="reflect"), "zeros"),
    "dilated pool": ((3, 8), nn.MaxPool1d(2, dilation=2), "dilation"),
    "ceil mode": ((3, 9), nn.MaxPool1d(2, ceil_mode=True), "ceil_mode"),
    "max pool with padding over negative numbers": ((2, 8, 8), nn.MaxPool2d(3, 2, 1), "after a ReLU"),
    "pool to a size that does not divide": ((3, 8), nn.AdaptiveAvgPool1d(3), "evenly"),
    "linear on windows": ((3, 8), nn.Linear(8, 4), "flatten first"),
    "group norm on a flattened map": ((4, 6), nn.Sequential(nn.Flatten(), nn.GroupNorm(2, 24)), "before the flatten"),
    "layer norm on a map": ((3, 8), nn.LayerNorm(8), "GroupNorm has one"),
    "clipping to tensors": ((8,), Function(lambda x: x.clamp(min=BOUNDS)), "clamp at"),
    "softmax over positions": ((3, 8), nn.Softmax(2), "runs over channels"),
    "joining positions": ((3, 8), Function(lambda x: torch.cat([x, x], 2)), "along dimension 2"),
    "cutting positions": ((3, 8), Function(lambda x: x[:, :, 1:4]), "along dimension 2"),
    "every second channel": ((4, 8), Function(lambda x: x[:, ::2]), "every 2th channel"),
    "cutting a flattened map": ((3, 8), Function(lambda x: x.flatten(1)[:, :5]), "another order on the device"),
    "upsampling by a part": ((3, 8), nn.Upsample(size=12), "not a whole factor"),
    "rows spread over columns": ((3, 4, 4), Function(lambda x: x * x.mean(3, keepdim=True)), "averages over"),
    "batch statistics": ((3, 8), nn.BatchNorm1d(3, track_running_stats=False), "batch_norm"),
    "dropout that stays on": ((8,), Function(lambda x: F.dropout(x, 0.5)), "dropout"),
    "part of a mean": ((2, 4, 4), Function(lambda x: x.mean(2)), "averages"),
    "channels as rows": ((3, 8), Function(lambda x: x.unsqueeze(1)), "TRANSPOSE"),
    "division by an activation": ((8,), Function(lambda x: x / (x + 3)), "constants only"),
    "division of a constant": ((8,), Function(lambda x: 1 / (x * x + 1)), "reciprocal"),
    "scaled sum": ((8,), Function(lambda x: torch.add(x, x, alpha=2)), "alpha"),
    "sum of two memory orders": (
        (2, 8),
        Function(lambda x, layer: x.flatten(1) + layer(x.flatten(1)), nn.Linear(16, 16)),
        "flattened in different ways",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_come_out_wrong_is_refused(name):
    shape, layer, reason = REFUSED[name]
    model = nn.Sequential(layer, nn.Flatten(), nn.LazyLinear(3))
    x = torch.ones(2, *shape)
    model.eval()(x)
    with pytest.raises(UnsupportedLayerError, match=reason):
        export(model, x.numpy(), "float32")


def test_the_answer_must_be_one_tensor_in_an_order_that_can_be_told():
    with pytest.raises(UnsupportedLayerError, match="flattened map"):
        export(nn.Sequential(nn.Conv1d(3, 4, 3), nn.Flatten()), np.zeros((1, 3, 8)), "float32")
    with pytest.raises(UnsupportedLayerError, match="one tensor"):
        export(Function(lambda x: (x, x)), np.zeros((1, 8)), "float32")
    with pytest.raises(UnsupportedLayerError, match="from its input"):
        export(Function(lambda x, layer: layer.weight * 1.0, nn.Linear(8, 2)), np.zeros((1, 8)), "float32")


@pytest.mark.parametrize(
    ("calibration", "reason"),
    [
        (np.zeros((0, 20)), "at least one record"),
        (np.zeros(20), "records have shape"),
        (np.full((3, 20), np.nan), "NaN"),
    ],
)
def test_useless_calibration_records_are_refused(calibration, reason, trained):
    with pytest.raises(ValueError, match=reason):
        export(trained("mlp").model, calibration)
