"""What is said of files as other people bring them: by name and place, with what to do."""

import re

import numpy as np
import pytest
import torch
from torch import nn

from edge.cost import count
from edge.export import export
from edge.inspection import inspect, read
from edge.inspection.verdict import drawing, left_behind, remarks, titled
from edge.sandbox import UnusableFileError, answers, can_load
from edge.tensors import packed, unpacked
from edge.tflite.parser import parse
from edge.tflite.scales import dead_activations, wrong_biases
from tests.edge.foreign import by_hand, converted, made

KINDS = {
    "ring": ("with-memory", "float32, with a memory"),
    "lstm": ("with-memory", "float32, with a memory"),
    "ring-int8": ("with-memory", "full int8, with a memory"),
    "vela": ("compiled", "compiled for an Arm Ethos-U NPU, by Arm's compiler Vela"),
    "edgetpu": ("compiled", "compiled for a Coral Edge TPU, by edgetpu_compiler"),
    "neutron": ("compiled", "compiled for an NXP eIQ Neutron NPU"),
    "dispatched": ("compiled", "compiled for the NPU of a phone"),
    "somebody-s": ("control-flow-or-custom", "CUSTOM MyOwnOperator"),
    "if": ("control-flow-or-custom", "IF"),
    "while": ("control-flow-or-custom", "WHILE"),
    "two-outputs": ("several-ports", "several inputs or outputs"),
    "uint8": ("int8-uint8-io", "uint8 at its ends"),
    "int8": ("full-int8", "full int8"),
}
UNASKABLE = {
    "two-outputs": "1 inputs and 2 outputs",
    "label": "'Identity' is int32; int8, int16, uint8 and float32 can be asked",
    "bool": "'Identity' is bool",
    "no-batch": "the first axis is not a batch of records",
}


@pytest.mark.parametrize("name", KINDS)
def test_a_file_is_called_what_it_is(name):
    structure, _ = read(made(name))
    kind, words = KINDS[name]
    assert structure.kind == kind
    assert words in titled(structure)
    assert "training on a phone" not in titled(structure)


@pytest.mark.parametrize("name", UNASKABLE)
def test_an_end_that_cannot_be_asked_is_named(name):
    assert UNASKABLE[name] in read(made(name))[0].unaskable


def test_only_a_file_that_learns_is_for_training(made):
    """`made` of this folder: the product's own file with the signatures train, infer and weights."""
    structure, _ = read(made("training"))
    assert structure.kind == "training"
    assert len(structure.states) == 2


def test_a_memory_is_said_and_every_runtime_repeats_itself():
    found = inspect(made("ring-int8"))
    assert found.device_model
    assert found.states == ("resource variable 'kept'",)
    assert [each.repeats for each in found.runtimes if each.outcome == "takes"] == [True, True]
    assert "it keeps a state" in found.tried("device-arithmetic").reason
    (memory,) = remarks(found, found.runtimes)
    assert "resource variable 'kept'" in memory
    assert "from a fresh state" in memory


def test_answers_that_depend_on_the_batch_are_found():
    found = inspect(made("normalised-over-its-batch"))
    assert not found.device_model
    assert [found.tried(name).alone for name in ("tflm", "litert")] == [False, False]
    assert "depends on the others in its batch of 3" in found.verdict
    fine = inspect(made("batch-of-3"))
    assert fine.device_model
    assert (fine.batch, fine.tried("tflm").alone, fine.tried("litert").alone) == (3, True, True)
    assert fine.tried("litert").largest_difference < 1e-5


def test_random_numbers_and_left_behind_variables_are_said():
    for name in ("random", "dropout"):
        structure, _ = read(made(name))
        assert structure.random == ("RANDOM_UNIFORM",)
        assert "with dropout and noise off" in drawing(structure)
    structure, _ = read(made("forgotten"))
    assert "kept" in left_behind(structure)
    assert not left_behind(read(made("ring"))[0])


def test_a_runtime_that_refuses_zeros_has_not_refused_the_model():
    """TRANSPOSE_CONV with a computed shape of its output: zeros are no shape."""
    import tensorflow as tf

    kernel = np.ones((2, 2, 1, 1), np.float32)
    ask = lambda tf, shape, x: tf.nn.conv2d_transpose(x, kernel, shape, 2)  # noqa: E731
    specs = [tf.TensorSpec([4], tf.int32), tf.TensorSpec([1, 3, 3, 1], tf.float32)]
    graph = tf.function(lambda shape, x: ask(tf, shape, x), input_signature=specs).get_concrete_function()
    model = bytes(tf.lite.TFLiteConverter.from_concrete_functions([graph]).convert())
    assert can_load(model, "litert")
    found = inspect(model)
    assert found.tried("litert").outcome == "not tried"
    assert "it loads; for want of records it was run on zeros" in found.tried("litert").reason
    with pytest.raises(UnusableFileError, match="refuses this model"):
        can_load(made("somebody-s"), "litert")


@pytest.fixture(scope="module")
def twice():
    """A layer used twice and another one, in int8."""

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(10, 10), nn.Linear(10, 4)

        def forward(self, x):
            return self.last(torch.relu(self.first(torch.relu(self.first(x)))))

    model, rng = Twice().eval(), np.random.default_rng(0)
    for weights in model.parameters():
        weights.data = torch.from_numpy(rng.uniform(-0.3, 0.3, weights.shape).astype(np.float32))
    return export(model, rng.normal(size=(24, 10)).astype(np.float32))


def with_bias_scale(model: bytes, times: float) -> bytes:
    """The file with the scales of its second layer's bias multiplied, and nothing else changed."""
    whole = unpacked(model)
    graph = whole.subgraphs[0]
    bias = graph.tensors[int(graph.operators[1].inputs[2])]
    bias.quantization.scale = [float(scale) * times for scale in bias.quantization.scale]
    return packed(whole)


def test_a_bias_with_another_scale_than_it_is_read_with_is_found(twice):
    assert wrong_biases(parse(twice)) == []
    assert wrong_biases(parse(with_bias_scale(twice, 1 + 1e-6))) == []  # rounding
    (flaw,) = wrong_biases(parse(with_bias_scale(twice, 3)))
    assert (flaw.operator, flaw.kind) == (2, "FULLY_CONNECTED")
    assert flaw.value == pytest.approx(3 * flaw.wanted, rel=1e-5)
    assert flaw.steps > 1
    structure, _ = read(with_bias_scale(twice, 3))
    (words,) = remarks(structure, ())
    assert re.search(r"The bias '.*' of FULLY_CONNECTED, operator 2, was written in steps of", words)


def test_the_harm_of_a_wrong_bias_is_what_the_runtime_computes_wrongly(twice):
    """By hand: levels of the bias times what its step is off, in steps of the layer's output."""
    whole = unpacked(with_bias_scale(twice, 3))
    graph = whole.subgraphs[0]
    layer = graph.operators[1]
    source, weights, bias, output = (graph.tensors[int(index)] for index in (*layer.inputs, *layer.outputs))
    levels = np.frombuffer(bytes(bytearray(whole.buffers[bias.buffer].data)), np.int32)
    read_as = np.float64(source.quantization.scale[0]) * np.asarray(weights.quantization.scale, np.float64)
    off = np.abs(np.asarray(bias.quantization.scale) - read_as).max() * np.abs(levels).max()
    (flaw,) = wrong_biases(parse(packed(whole)))
    assert flaw.steps == pytest.approx(off / output.quantization.scale[0], rel=1e-4)


def test_a_dead_layer_is_found_and_a_living_one_is_not(twice):
    assert dead_activations(parse(twice)) == []
    whole = unpacked(twice)
    graph = whole.subgraphs[0]
    graph.tensors[int(graph.operators[0].outputs[0])].quantization.scale = [7.8e-9]
    structure, _ = read(packed(whole))
    (flaw,) = structure.dead
    assert (flaw.operator, flaw.kind) == (1, "FULLY_CONNECTED")
    assert flaw.value == pytest.approx(255 * 7.8e-9, rel=1e-5)
    assert "dead on the records that the file was calibrated with" in " ".join(remarks(structure, ()))


@pytest.mark.parametrize("name", ["ring-int8", "uint8", "int8"])
def test_sound_files_have_no_flaws(name):
    structure, _ = read(made(name))
    assert (structure.biases, structure.dead, structure.unset, structure.random) == ((), (), (), ())


def test_recurrent_products_by_hand():
    assert count(made("lstm")).macs == {"UNIDIRECTIONAL_SEQUENCE_LSTM": 6 * 4 * (4 * 5 + 4 * 4)}
    assert count(made("svdf")).macs == {"SVDF": 4 * 5 + 4 * 3}
    assert count(made("sequence-rnn")).macs == {"UNIDIRECTIONAL_SEQUENCE_RNN": 6 * (4 * 5 + 4 * 4)}
    assert count(made("lstm")).uncounted == ()
    for name, kind in (("while", "WHILE"), ("if", "IF"), ("vela", "CUSTOM")):
        assert count(made(name)).uncounted == (kind,)


def test_an_open_length_and_an_open_batch_are_told_apart():
    structure, _ = read(made("open-length"))
    assert (structure.open_axes, structure.dynamic_batch) == ((1,), False)
    assert "Axis 1 of its input is left open" in " ".join(remarks(structure, ()))


def test_a_file_in_two_parts_is_whole():
    """Constants behind the table, as in files of more than 2 GB: an offset and a size instead of the bytes."""
    import flatbuffers
    from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

    whole = unpacked(converted(lambda tf, x: tf.matmul(x, np.eye(5, dtype=np.float32)), [1, 5]))
    index = next(i for i, buffer in enumerate(whole.buffers) if buffer.data is not None and len(buffer.data) == 100)
    data = bytes(bytearray(whole.buffers[index].data))
    whole.buffers[index].data, whole.buffers[index].offset, whole.buffers[index].size = None, 1 << 30, len(data)
    builder = flatbuffers.Builder(4096)
    builder.Finish(whole.Pack(builder), b"TFL3")
    table = bytes(builder.Output())
    with pytest.raises(UnusableFileError, match="a buffer lies outside the file"):
        read(table + data)
    start = -(-len(table) // 16) * 16
    parts = schema.Model.GetRootAs(bytearray(table), 0).Buffers(index)
    place = parts._tab.Pos + parts._tab.Offset(6)
    table = bytearray(table)
    table[place : place + 8] = start.to_bytes(8, "little")
    model = bytes(table) + bytes(start - len(table)) + data
    structure, _ = read(model)
    assert structure.kind == "float32"
    x = np.random.default_rng(2).normal(size=(3, 5)).astype(np.float32)
    np.testing.assert_allclose(answers(model, x, "litert").real, x, atol=1e-6)


def test_strings_that_a_file_brings_are_shown_without_harm():
    whole = unpacked(made("ring"))
    for graph in whole.subgraphs:
        for operator in graph.operators:
            if hasattr(operator.builtinOptions, "sharedName"):
                operator.builtinOptions.sharedName = b"\x1b[2J" + b"k" * 5000
    structure, _ = read(packed(whole))
    (words,) = structure.states
    assert words.isprintable()
    assert words.isascii()
    assert len(words) <= 160


def test_a_flat_custom_operator_reads_what_nobody_wrote_and_others_may_not():
    read(made("vela"))
    tensors = [((1, 5), None, False), ((5,), None, False), ((1, 5), None, False)]
    with pytest.raises(UnusableFileError, match="reads tensor 1, which is not there by then"):
        read(by_hand("ADD", tensors, [0, 1]))
