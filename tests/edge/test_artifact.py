"""Quantising records and reading scores back, and files that cannot be asked."""

import flatbuffers
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edge.artifact import Artifact, ArtifactError, Port


def flat(scale=0.5, zero_point=0, output_scale=0.5, output_zero_point=0, output="logits"):
    return Artifact(
        b"", Port((1, 4), "int8", scale, zero_point), Port((1, 3), "int8", output_scale, output_zero_point), output
    )


scales = st.floats(2.0**-13, 8.0, width=32)
zero_points = st.integers(-128, 127)


def test_halves_are_rounded_away_from_zero_and_the_ends_are_clipped():
    artifact = flat(scale=0.5, zero_point=3)
    assert artifact.quantize_input(np.array([[0.25, -0.25, 0.24, -0.24]])).tolist() == [[4, 2, 3, 3]]
    assert artifact.quantize_input(np.array([[0.75, -0.75, 1e9, -1e9]])).tolist() == [[5, 1, 127, -128]]


def test_the_quantiser_is_tflite_micros_own():
    import tensorflow as tf
    from tflite_micro.python.tflite_micro import runtime

    function = tf.function(lambda x: tf.reshape(x, [1, 8]), input_signature=[tf.TensorSpec([1, 2, 4], tf.float32)])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], tf.Module())
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([np.full((1, 2, 4), v, np.float32)] for v in (-1.7, 3.1))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    blob = bytes(converter.convert())  # float32 in, QUANTIZE, RESHAPE, DEQUANTIZE, float32 out
    converter.inference_input_type = converter.inference_output_type = tf.int8
    artifact = Artifact.from_bytes(bytes(converter.convert()))
    interpreter = runtime.Interpreter.from_bytes(blob, arena_size=1 << 16)
    steps = np.arange(-300, 300) / 2 + np.repeat([0.0, 1e-4, -1e-4], 200)  # halves, and next to them
    rows = np.resize(steps * artifact.input.scale, (75, 2, 4)).astype(np.float32)
    for row in rows:
        interpreter.set_input(row[None], 0)
        interpreter.invoke()
        ours = artifact.dequantize(artifact.quantize_input(np.moveaxis(row, -1, 0)[None]).reshape(1, 8))
        np.testing.assert_array_equal(interpreter.get_output(0), ours)


@given(
    arrays(np.float32, (3, 4), elements=st.floats(-1024, 1024, width=32, allow_subnormal=False)), scales, zero_points
)
def test_a_value_inside_the_range_comes_back_within_half_a_step(x, scale, zero_point):
    levels = flat(scale, zero_point).quantize_input(x)
    back = (levels.astype(np.float64) - zero_point) * scale
    inside = (x / scale + zero_point > -128) & (x / scale + zero_point < 127)
    assert levels.dtype == np.int8
    assert np.all(np.abs(back - x)[inside] <= 0.5 * scale + 1e-6 * np.abs(x)[inside])
    assert np.all(np.isin(levels[~inside], [-128, 127]))


@given(arrays(np.float32, 40, elements=st.floats(-1024, 1024, width=32, allow_subnormal=False)), scales, zero_points)
def test_larger_values_never_get_smaller_levels(x, scale, zero_point):
    levels = flat(scale, zero_point).quantize_input(np.sort(x).reshape(10, 4)).ravel()
    assert np.all(np.diff(levels.astype(int)) >= 0)


@given(arrays(np.int8, (5, 3)), scales, zero_points)
def test_scores_are_whole_steps_from_the_zero_point(levels, scale, zero_point):
    scores = flat(output_scale=scale, output_zero_point=zero_point).dequantize(levels)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, (levels.astype(float) - zero_point) * scale, rtol=1e-6)


def test_probabilities_are_multiples_of_their_resolution():
    artifact = flat(output_scale=1 / 256, output_zero_point=-128, output="probabilities")
    assert artifact.dequantize(np.array([[-128, 0, 127]], np.int8)).tolist() == [[0.0, 0.5, 255 / 256]]
    assert artifact.resolution == 1 / 256
    assert flat().resolution == 0.0


@pytest.mark.parametrize(
    ("torch_shape", "file_shape"), [((2, 3, 4), (1, 3, 4, 2)), ((2, 5), (1, 1, 5, 2)), ((1, 5), (1, 1, 5, 1))]
)
def test_channels_move_last_whatever_the_file_s_rank(torch_shape, file_shape):
    artifact = Artifact(b"", Port(file_shape, "int8"), Port((1, 3), "int8"), "logits")
    x = np.arange(2 * np.prod(torch_shape)).reshape(2, *torch_shape)
    levels = artifact.quantize_input(x)
    assert levels.shape == (2, *file_shape[1:])
    last = tuple(side - 1 for side in torch_shape)
    assert levels[1][(..., *last[1:], last[0])].item() == x[1][last]
    assert levels[0][..., -1].ravel().tolist() == x[0][-1].ravel().tolist()


def test_records_of_another_shape_are_refused():
    artifact = Artifact(b"", Port((1, 3, 4, 2), "int8"), Port((1, 3), "int8"), "logits")
    with pytest.raises(ValueError, match=r"\(3, 4, 2\) \(channels first\) do not fit .* \(3, 4, 2\) \(channels last\)"):
        artifact.quantize_input(np.zeros((5, 3, 4, 2)))


def test_a_file_says_what_it_takes_and_answers(exported, tmp_path):
    path = tmp_path / "windows.tflite"
    path.write_bytes(exported("windows"))
    artifact = Artifact.load(path, "logits")
    assert (artifact.input.shape, artifact.output.shape, artifact.classes) == ((1, 1, 32, 3), (1, 4), 4)
    assert artifact.model == exported("windows")
    assert "model=" not in repr(artifact)


def test_the_quantisation_is_the_one_litert_reads(exported):
    from ai_edge_litert.interpreter import Interpreter

    artifact = Artifact.from_bytes(exported("cnn"))
    interpreter = Interpreter(model_content=exported("cnn"))
    source, result = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    assert (artifact.input.scale, artifact.input.zero_point) == source["quantization"]
    assert (artifact.output.scale, artifact.output.zero_point) == result["quantization"]


def test_a_file_that_answers_something_else_is_refused(exported):
    with pytest.raises(ArtifactError, match="answers with logits, not probabilities"):
        Artifact.from_bytes(exported("windows"), "probabilities")


def test_a_float_model_takes_and_gives_real_numbers(trained, exported):
    artifact = Artifact.from_bytes(exported("mlp", variant="float32"))
    assert (artifact.input.numbers, artifact.output.numbers, artifact.resolution) == ("float32", "float32", 0.0)
    x = trained("mlp").fresh[:5]
    np.testing.assert_array_equal(artifact.quantize_input(x), x)


def test_a_model_with_two_inputs_is_refused(exported):
    from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(exported("windows"))
    model.subgraphs[0].inputs = [model.subgraphs[0].inputs[0], model.subgraphs[0].inputs[0]]
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), b"TFL3")
    with pytest.raises(ArtifactError, match="2 inputs"):
        Artifact.from_bytes(bytes(builder.Output()))


@pytest.mark.parametrize(
    "blob", [b"", b"not a model at all", b"\x10\x00\x00\x00TFL3", b"\xff\xff\xff\x7fTFL3" + b"x" * 99]
)
def test_bytes_that_are_no_model_are_refused(blob, tmp_path):
    path = tmp_path / "bad.tflite"
    path.write_bytes(blob)
    with pytest.raises(ArtifactError, match=r"bad\.tflite: "):
        Artifact.load(path)


@settings(deadline=None)
@given(st.data())
def test_a_damaged_file_is_read_or_refused_but_nothing_else(exported, data):
    blob = bytearray(exported("windows"))
    for position in data.draw(st.lists(st.integers(8, len(blob) - 1), min_size=1, max_size=20)):
        blob[position] = data.draw(st.integers(0, 255))
    try:
        assert Artifact.from_bytes(bytes(blob)).input.scale > 0
    except ArtifactError as error:
        assert str(error)
