"""Whole models: our own exports, what TensorFlow's converter makes of others, and what must be refused."""

import os
from pathlib import Path

import numpy as np
import pytest

import edge.arithmetic.check as check
from edge.arithmetic import compiled, exact
from edge.artifact import Artifact
from edge.runtimes import RUNTIMES, CannotRunError, predict, run
from tests.edge.arithmetic.conftest import artifact_of, records
from tests.edge.arithmetic.graphs import Graph, random_graph
from tests.edge.conftest import NETS


@pytest.mark.parametrize("answers", ["logits", "probabilities"])
@pytest.mark.parametrize("name", sorted(NETS))
def test_our_exports_are_equal(name, answers, trained, exported):
    artifact = Artifact.from_bytes(exported(name, answers))
    real = artifact.quantize_input(trained(name).fresh)
    inputs = np.concatenate([real, records(artifact.input, 50, np.random.default_rng(1))])
    np.testing.assert_array_equal(run(artifact, inputs, "device-arithmetic"), run(artifact, inputs, "tflm"))
    assert exact(artifact) == "device-arithmetic"


def test_neither_batches_nor_order_matter(trained, exported):
    artifact = Artifact.from_bytes(exported("residual"))
    inputs = artifact.quantize_input(trained("residual").fresh)
    together = run(artifact, inputs, "device-arithmetic")
    alone = np.concatenate([run(artifact, inputs[i : i + 1], "device-arithmetic") for i in range(len(inputs))])
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(run(artifact, inputs[::-1], "device-arithmetic"), together[::-1])


def test_single_small_records_are_exact(differing):
    """Torch multiplies these by Winograd's method, unless it is told not to: 1 of 400 graphs came out wrong."""
    assert sum(differing(random_graph(["CONV_2D"], seed), rows=2, seed=seed) for seed in range(60)) == 0
    for seed in range(60):
        artifact = artifact_of(random_graph(["CONV_2D"], seed))
        inputs = records(artifact.input, 4, np.random.default_rng(seed))
        model = compiled(artifact.model)
        np.testing.assert_array_equal(np.concatenate([model(row[None]) for row in inputs]), model(inputs))


def test_predict_goes_through_it(trained, exported):
    artifact, x = Artifact.from_bytes(exported("cnn")), trained("cnn").fresh[:5]
    np.testing.assert_array_equal(predict(artifact, x, "device-arithmetic"), predict(artifact, x, "tflm"))
    assert predict(artifact, x[:0], "device-arithmetic").shape == (0, 4)


@pytest.fixture(scope="module")
def tensorflow():
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    return pytest.importorskip("tensorflow")


def branching(tf, weights):
    """Convolutions, pools, a sum, padding and a softmax, as an image classifier has them."""

    def forward(x):
        a = tf.nn.relu6(tf.nn.conv2d(x, weights(3, 3, 3, 12), 2, "SAME") + weights(12))
        b = tf.nn.relu(tf.nn.depthwise_conv2d(a, weights(3, 3, 12, 1), [1, 1, 1, 1], "SAME"))
        c = tf.nn.conv2d(b, weights(1, 1, 12, 12), 1, "VALID") + a
        c = tf.nn.avg_pool2d(tf.pad(c, [[0, 0], [1, 2], [0, 1], [0, 0]]), 3, 2, "SAME")
        d = tf.concat([c, tf.nn.max_pool2d(c, 2, 1, "SAME")], -1)
        pooled = tf.reshape(tf.reduce_mean(d, [1, 2]), [1, 24])
        return tf.nn.softmax(pooled @ weights(24, 5) + weights(5))

    return forward


def activations(tf, weights):
    """The rarer operators: slices, transposes, products, other activations."""

    def forward(x):
        a = tf.nn.leaky_relu(tf.nn.conv2d(x, weights(3, 3, 3, 8), 1, "VALID", dilations=2), 0.2)
        gate = tf.sigmoid(tf.nn.conv2d(tf.reduce_mean(a, [1, 2], keepdims=True), weights(1, 1, 8, 8), 1, "VALID"))
        b = a * gate - tf.nn.tanh(a)
        c = tf.transpose(tf.maximum(b, 0.1 * b)[:, 1:, ::2], [0, 2, 1, 3])
        e = tf.reduce_sum(tf.math.squared_difference(c, weights(8)), 1)
        flat = tf.reshape(tf.expand_dims(e, 1) * weights(8), [1, -1])
        return flat @ weights(flat.shape[1], 6)

    return forward


ENDS = {"int8": "int8", "float32": "float32", "int16": "int16"}


def converted(tf, forward, ends):
    shape, rng = (1, 12, 10, 3), np.random.default_rng(2)
    function = tf.function(forward, input_signature=[tf.TensorSpec(shape, tf.float32)], autograph=False)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], tf.Module())
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    samples = rng.normal(size=(40, *shape)).astype(np.float32)
    converter.representative_dataset = lambda: ([sample] for sample in samples)
    sets = tf.lite.OpsSet
    wide = sets.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
    converter.target_spec.supported_ops = [wide if ends == "int16" else sets.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = getattr(tf, ends)
    return bytes(converter.convert())


@pytest.mark.parametrize("ends", sorted(ENDS))
@pytest.mark.parametrize("build", [branching, activations])
def test_other_peoples_models_are_equal(build, ends, tensorflow, differing):
    rng = np.random.default_rng(4)
    drawn = build(tensorflow, lambda *shape: (rng.normal(size=shape) * 0.4).astype(np.float32))
    model = converted(tensorflow, drawn, ends)
    if (build, ends) == (activations, "int16"):
        with pytest.raises(CannotRunError, match=r"MUL|SUB|SQUARED_DIFFERENCE|MAXIMUM|SUM|TANH"):
            compiled(model)
        return
    assert differing(model, rows=200) == 0


def test_a_float_model_of_the_reference_package_is_refused_by_name():
    """The only file that an installed package ships."""
    import tflite_micro

    shipped = Path(tflite_micro.__path__[0]) / "python/tflite_micro/sine_float.tflite"
    artifact = Artifact.load(shipped)
    with pytest.raises(CannotRunError, match=r"FULLY_CONNECTED .* computes in float32"):
        run(artifact, np.zeros((1, 1), np.float32), "device-arithmetic")
    assert exact(artifact) == "tflm"


def test_an_operator_that_is_not_supported_is_named():
    graph = Graph(np.random.default_rng(0))
    x = graph.activation((1, 4), "int8", 0.1, 0)
    y = graph.add("ELU", [x.index], graph.activation((1, 4), "int8", 0.1, 0))
    with pytest.raises(CannotRunError, match=r"ELU \('t1'\) is not supported; supported are ADD, AVERAGE_POOL_2D"):
        compiled(graph.packed(x, y))


def test_a_file_that_does_not_fit_together_is_refused():
    graph = Graph(np.random.default_rng(0))
    x = graph.activation((1, 4), "int8", 0.1, 0)
    y = graph.activation((1, 4), "int8", 0.1, 0)
    graph.add("TRANSPOSE", [x.index, graph.constant(np.float32([0.5]), "float32")], y, "TransposeOptions")
    graph.add("MEAN", [x.index, graph.constant(np.int32([9, 0, 1])), x.index], y)
    graph.add("FULLY_CONNECTED", [x.index, graph.tensor((3, 0), "int8", 0.1)], y, "FullyConnectedOptions")
    with pytest.raises(CannotRunError, match="device-arithmetic cannot run this model"):
        compiled(graph.packed(x, y))


def test_a_number_outside_an_operators_domain_is_refused_as_on_the_device():
    graph = Graph(np.random.default_rng(0))
    x = graph.activation((1, 4), "int8", 0.1, 0)
    y = graph.add("RSQRT", [x.index], graph.activation((1, 4), "int8", 0.1, 0))
    model = compiled(graph.packed(x, y))
    assert model(np.int8([[1, 4, 9, 100]])).shape == (1, 4)
    with pytest.raises(CannotRunError, match="not defined"):
        model(np.int8([[1, 4, 9, -1]]))


def test_a_model_that_comes_out_different_is_left_to_tflite_micro(exported, monkeypatch):
    artifact = Artifact.from_bytes(exported("mlp", "probabilities"))
    monkeypatch.setattr(
        check, "compiled", lambda model: lambda levels: compiled(model)(levels) + np.int8(levels[:, :1] > 0)
    )
    check.checked.cache_clear()
    with pytest.raises(CannotRunError, match=r"differs from TFLite Micro in \d+ of 12 random records"):
        run(artifact, artifact.quantize_input(np.zeros((1, 20))), "device-arithmetic")
    assert exact(artifact) == "tflm"


def test_it_is_the_second_runtime():
    assert list(RUNTIMES)[:2] == ["tflm", "device-arithmetic"]
    assert RUNTIMES["device-arithmetic"].missing() is None
