"""Firmware answers as TFLite Micro does, bit for bit, on every core and with either set of kernels."""

import numpy as np
import pytest
import torch

from clients.models import MODELS
from edge.artifact import Artifact
from edge.export import VARIANTS, export
from edge.firmware import CORES, build, run
from edge.runtimes import RUNTIMES, CannotRunError
from edge.runtimes import run as run_on

NAMES = ["mlp", "cnn", "windows", "depthwise", "residual"]
QUICK = ["mlp", "depthwise", "residual"]
WHOLE = [(core, kernels) for core, entry in CORES.items() for kernels in entry.kernels]
SHAPES = {
    "mlp": ((64,), 6),
    "cnn": ((1, 16, 16), 6),
    "cnn1d": ((3, 64), 6),
    "ds-cnn": ((1, 49, 10), 12),
    "resnet8": ((3, 32, 32), 10),
    "mobilenet-v1-0.25": ((3, 96, 96), 2),
    "autoencoder": ((64,), 64),
}
pytestmark = pytest.mark.usefixtures("toolchain")


def assert_equal(firmware, model, rows, on_tflm):
    done = run(firmware, rows)
    np.testing.assert_array_equal(done.outputs, on_tflm(model, rows))
    return done


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
)
def test_firmware_answers_as_tflite_micro_does(name, built, exported, inputs, on_tflm):
    model = exported(name, "probabilities")
    assert_equal(built(name), model, inputs(model, 200), on_tflm)


def test_on_real_records_too(built, exported, trained, on_tflm):
    artifact = Artifact.from_bytes(exported("depthwise", "probabilities"))
    assert_equal(built("depthwise"), artifact.model, artifact.quantize_input(trained("depthwise").fresh), on_tflm)


@pytest.mark.parametrize(
    ("core", "kernels"),
    [pair if "portable" in pair else pytest.param(*pair, marks=pytest.mark.slow) for pair in WHOLE[1:]],
)
def test_on_every_core_and_with_portable_kernels(core, kernels, built, exported, inputs, on_tflm):
    model = exported("depthwise", "probabilities")
    assert_equal(built("depthwise", "probabilities", core, kernels), model, inputs(model), on_tflm)


@pytest.mark.parametrize("variant", ["int4", "int8-per-tensor"])
def test_other_weights(variant, built, exported, inputs, on_tflm):
    model = exported("mlp", "logits", variant)
    assert_equal(built("mlp", "logits", variant=variant), model, inputs(model, 200), on_tflm)


@pytest.mark.slow
@pytest.mark.parametrize("variant", [name for name in VARIANTS if name not in ("float32", "int16x8")])
@pytest.mark.parametrize("name", NAMES)
def test_every_variant_with_logits(name, variant, built, exported, inputs, on_tflm):
    model = exported(name, "logits", variant)
    assert_equal(built(name, "logits", variant=variant), model, inputs(model, 100), on_tflm)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answers", "core", "kernels"), [("logits", *WHOLE[0]), *(("probabilities", *pair) for pair in WHOLE)]
)
@pytest.mark.parametrize("name", SHAPES)
def test_the_models_of_a_federation(name, answers, core, kernels, inputs, on_tflm, tmp_path):
    shape, classes = SHAPES[name]
    rng = np.random.default_rng(7)
    net = MODELS[name].build(shape, classes, MODELS[name].width, "none").eval()
    for parameter in net.parameters():
        fan = max(1, parameter[0].numel())
        parameter.data = torch.from_numpy(rng.normal(size=parameter.shape).astype(np.float32) * np.float32(fan**-0.5))
    model = export(net, rng.normal(size=(30, *shape)).astype(np.float32), answers=answers)
    assert_equal(build(model, tmp_path, core, kernels), model, inputs(model), on_tflm)


def test_qemu_is_a_runtime(exported, inputs):
    artifact = Artifact.from_bytes(exported("mlp"))
    rows = inputs(artifact.model)
    assert RUNTIMES["qemu"].missing() is None
    np.testing.assert_array_equal(run_on(artifact, rows, "qemu"), run_on(artifact, rows, "tflm"))
    np.testing.assert_array_equal(run_on(artifact, rows[::-1], "qemu"), run_on(artifact, rows[::-1], "tflm"))
    assert run_on(artifact, rows[:0], "qemu").shape == (0, 4)


def test_the_runtime_refuses_what_firmware_cannot_do(exported, inputs):
    artifact = Artifact.from_bytes(exported("group-norm"))
    with pytest.raises(CannotRunError, match=r"operator \d+ of \d+, SUB, has no kernel here"):
        run_on(artifact, inputs(artifact.model), "qemu")
