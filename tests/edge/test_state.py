"""Files with a memory: an answer depends on its record alone, in every runtime, or the state is named."""

import numpy as np
import pytest

from edge.artifact import Artifact
from edge.quiet import quiet_stderr
from edge.runtimes import RUNTIMES, CannotRunError, run
from edge.tflite.parser import parse
from edge.tflite.state import needs_fresh_start, states_of, unset
from tests.edge.foreign import made, records

STATES = {
    "ring": ["resource variable 'kept'"],
    "ring-int8": ["resource variable 'kept'"],
    "lstm": [f"variable tensor 'tensor {number}' of UNIDIRECTIONAL_SEQUENCE_LSTM" for number in (13, 14)],
    "svdf": ["variable tensor 'tensor 4' of SVDF"],
    "sequence-rnn": ["variable tensor 'tensor 4' of UNIDIRECTIONAL_SEQUENCE_RNN"],
    "circular-buffer": ["operator CIRCULAR_BUFFER"],
}
UNKNOWN = {"tflm": ("sequence-rnn",), "litert": ("circular-buffer",), "tflite-runtime": ("circular-buffer",)}
WHERE = [(name, runtime) for name in STATES for runtime in UNKNOWN if name not in UNKNOWN[runtime]]


def one_after_another(name, levels):
    """What an interpreter that is never started again answers: the wrong way, to see that there is something to do."""
    from ai_edge_litert.interpreter import Interpreter

    if name in UNKNOWN["litert"]:
        return on_a_device(name, levels)
    with quiet_stderr():
        interpreter = Interpreter(model_content=made(name), num_threads=1)
        interpreter.allocate_tensors()
    answers = []
    for row in levels:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], row[None])
        interpreter.invoke()
        answers.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).reshape(-1))
    return np.stack(answers)


def on_a_device(name, levels):
    from tflite_micro.python.tflite_micro import runtime

    interpreter, answers = runtime.Interpreter.from_bytes(made(name)), []
    for row in levels:
        interpreter.set_input(row[None], 0)
        interpreter.invoke()
        answers.append(interpreter.get_output(0).reshape(-1))
    return np.stack(answers)


@pytest.mark.parametrize(("name", "runtime"), WHERE)
def test_the_order_of_records_changes_no_answer(name, runtime):
    if why := RUNTIMES[runtime].missing():
        pytest.skip(why)
    artifact = Artifact.from_bytes(made(name))
    levels = artifact.input.levels(records(name))
    row = run(artifact, levels, runtime)
    order = np.random.default_rng(1).permutation(len(levels))
    np.testing.assert_array_equal(run(artifact, levels[order], runtime), row[order])
    alone = np.concatenate([run(artifact, levels[i : i + 1], runtime) for i in range(len(levels))])
    np.testing.assert_array_equal(alone, row)
    assert (one_after_another(name, levels)[1:] != row[1:]).any(), "the file has no memory: nothing is tested"


def test_a_fresh_state_is_the_one_that_the_file_sets_and_not_zero():
    """Two steps of a buffer that is one half throughout when it is switched on, by hand."""
    head = np.random.default_rng(6).normal(size=(20, 4)).astype(np.float32)
    artifact, x = Artifact.from_bytes(made("ring")), records("ring")
    kept = np.concatenate([np.full((len(x), 2, 5), 0.5, np.float32), x], axis=1).reshape(len(x), -1)
    for runtime in ("tflm", "litert"):
        np.testing.assert_allclose(run(artifact, x, runtime), kept @ head, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", STATES)
def test_states_are_named(name):
    assert [state.words for state in states_of(made(name))] == STATES[name]
    assert needs_fresh_start(made(name))


@pytest.mark.parametrize("runtime", ["device-arithmetic", "qemu"])
def test_runtimes_that_answer_side_by_side_refuse_a_state_by_name(runtime):
    if why := RUNTIMES[runtime].missing():
        pytest.skip(why)
    artifact = Artifact.from_bytes(made("ring-int8"))
    with pytest.raises(CannotRunError, match=r"it keeps a state \(resource variable 'kept'\)"):
        run(artifact, artifact.input.levels(records("ring-int8")), runtime)


@pytest.mark.parametrize("name", ["int8", "if", "while", "batch-of-3"])
def test_a_loop_or_a_branch_is_no_memory(name):
    assert not states_of(made(name))
    assert not needs_fresh_start(made(name))


def test_a_variable_that_is_handed_to_a_loop_keeps_its_name():
    """The loop's body assigns it; the graph that calls the loop made the handle."""
    import tensorflow as tf

    class Counting(tf.Module):
        def __init__(self):
            self.total = tf.Variable(np.zeros((1, 5), np.float32), name="total")

        @tf.function(input_signature=[tf.TensorSpec([1, 5], tf.float32)])
        def infer(self, x):
            for _ in tf.range(3):
                self.total.assign_add(x)
            return self.total.read_value()

    module = Counting()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([module.infer.get_concrete_function()], module)
    converter.experimental_enable_resource_variables = True
    model = bytes(converter.convert())
    assert [state.words for state in states_of(model)] == ["resource variable 'total'"]
    artifact, x = Artifact.from_bytes(model), np.ones((3, 5), np.float32)
    np.testing.assert_array_equal(run(artifact, x, "litert"), np.full((3, 5), 3))


def test_a_variable_that_nothing_sets_is_named():
    assert unset(parse(made("forgotten"))) == ("kept",)
    assert unset(parse(made("ring"))) == ()


def test_neighbours_in_a_batch_have_no_part_in_an_answer():
    """Of a file that takes three records at once, also one whose answers depend on what else is in the batch."""
    for name in ("batch-of-3", "normalised-over-its-batch"):
        artifact, x = Artifact.from_bytes(made(name)), records(name, 7)
        for runtime in ("tflm", "litert"):
            row = run(artifact, x, runtime)
            assert row.shape == (7, 4)
            np.testing.assert_array_equal(run(artifact, x[::-1], runtime), row[::-1])
            np.testing.assert_array_equal(run(artifact, x[3:4], runtime), row[3:4])
    plain = Artifact.from_bytes(made("batch-of-3"))
    np.testing.assert_array_equal(run(plain, x, "tflm", together=True), run(plain, x, "tflm"))
    assert (run(artifact, x, "tflm", together=True) != row).any()


def test_no_records_get_no_answers_of_a_file_with_a_batch():
    assert run(Artifact.from_bytes(made("batch-of-3")), np.zeros((0, 5), np.float32)).shape == (0, 4)


def test_uint8_ends_are_the_int8_file_s_answers_moved_by_128():
    """The same net with int8 and with uint8 ends, in every runtime that the device's answers come from."""
    artifact, twin = Artifact.from_bytes(made("uint8")), Artifact.from_bytes(made("int8"))
    x = records("uint8", 40)
    assert (artifact.input.numbers, artifact.output.numbers) == ("uint8", "uint8")
    for runtime in ("tflm", "device-arithmetic", "litert"):
        levels = run(artifact, artifact.input.levels(x), runtime)
        truth = run(twin, twin.input.levels(x), runtime)
        np.testing.assert_array_equal(levels.astype(int), truth.astype(int) + 128)
        np.testing.assert_allclose(artifact.dequantize(levels), twin.dequantize(truth), atol=1e-6)


def test_uint8_levels_are_rounded_and_clipped_as_quantize_does():
    port = Artifact.from_bytes(made("uint8")).input
    ends = port.real(np.array([0, 255], np.uint8))
    np.testing.assert_array_equal(port.levels(ends), [0, 255])
    np.testing.assert_array_equal(port.levels(np.array([-1e9, 1e9], np.float32)), [0, 255])
    every = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(port.levels(port.real(every)), every)
