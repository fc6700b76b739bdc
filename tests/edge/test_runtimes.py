"""Every runtime is given the same bytes; TFLite Micro is the reference."""

import numpy as np
import pytest

from edge.artifact import Artifact
from edge.runtimes import RUNTIMES, RuntimeMissingError, predict, run


@pytest.mark.parametrize("runtime", ["tflm", "litert"])
def test_a_record_is_answered_the_same_alone_and_among_others(runtime, trained, exported):
    artifact = Artifact.from_bytes(exported("windows"))
    inputs = artifact.quantize_input(trained("windows").fresh[:20])
    together = run(artifact, inputs, runtime)
    alone = np.concatenate([run(artifact, inputs[i : i + 1], runtime) for i in range(20)])
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(run(artifact, inputs[::-1], runtime), together[::-1])


@pytest.mark.parametrize("name", ["mlp", "cnn", "windows", "depthwise", "residual"])
def test_litert_is_close_to_the_device(name, trained, exported):
    artifact = Artifact.from_bytes(exported(name))
    inputs = artifact.quantize_input(trained(name).fresh)
    apart = np.abs(run(artifact, inputs, "tflm").astype(int) - run(artifact, inputs, "litert"))
    assert apart.max() <= 3


def test_predict_is_quantise_run_dequantise(trained, exported):
    artifact, x = Artifact.from_bytes(exported("cnn", "probabilities")), trained("cnn").fresh[:30]
    answers = predict(artifact, x)
    assert (answers.shape, answers.dtype) == ((30, 4), np.float32)
    np.testing.assert_array_equal(answers * 256, np.round(answers * 256))
    np.testing.assert_allclose(answers.sum(axis=1), 1, atol=4 / 256)
    np.testing.assert_array_equal(answers, artifact.dequantize(run(artifact, artifact.quantize_input(x))))


def test_no_records_get_no_answers(exported):
    assert predict(Artifact.from_bytes(exported("mlp")), np.zeros((0, 20))).shape == (0, 4)


def test_an_unknown_runtime_is_refused_with_the_known_ones(exported):
    with pytest.raises(ValueError, match="choose one of tflm, device-arithmetic, litert, tflite-runtime, qemu"):
        predict(Artifact.from_bytes(exported("mlp")), np.zeros((1, 20)), "onnx")


def test_every_runtime_is_described_in_one_line():
    assert all(runtime.description and "\n" not in runtime.description for runtime in RUNTIMES.values())
    assert RUNTIMES["tflm"].missing() is None
    assert RUNTIMES["litert"].missing() is None


@pytest.mark.skipif(int(np.__version__[0]) < 2, reason="this is about environments with NumPy 2")
def test_tflite_runtime_says_what_it_needs(exported):
    with pytest.raises(RuntimeMissingError, match=r"pip install tflite-runtime==2\.14\.0 'numpy<2'"):
        predict(Artifact.from_bytes(exported("mlp")), np.zeros((1, 20)), "tflite-runtime")


@pytest.mark.skipif(RUNTIMES["tflite-runtime"].missing() is not None, reason=str(RUNTIMES["tflite-runtime"].missing()))
def test_tflite_runtime_is_close_to_the_device(trained, exported):
    artifact = Artifact.from_bytes(exported("windows"))
    inputs = artifact.quantize_input(trained("windows").fresh)
    apart = np.abs(run(artifact, inputs).astype(int) - run(artifact, inputs, "tflite-runtime"))
    assert apart.max() <= 1
