"""Every kind of file is recognised, and gets the right words."""

import collections
import re

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from edge.cost import count
from edge.inspection import inspect, read
from edge.sandbox import UnusableFileError, answers

# What is made: its kind, its format, whether it is a device model, and words of the verdict.
KINDS = {
    "full-int8": ("full-int8", "int8", True, "full int8: a device model"),
    "int8-float-io": ("int8-float-io", "int8", True, "quantises its input and dequantises its output itself"),
    "int16x8": ("int16x8", "int16x8", True, "twice the memory of int8"),
    "int4": ("int4", "int4", True, "unpack the weights into the arena"),
    "float32": ("float32", "float32", True, "boards with a floating-point unit"),
    "float16": ("float16", "float16", False, "does not turn float16 constants into float32"),
    "dynamic-range": ("dynamic-range", "dynamic-range", False, "does not support hybrid models"),
    "weight-only": ("weight-only", "weight-only", False, "computes WRONG numbers"),
    "weight-only-per-tensor": ("weight-only", "weight-only", True, "one scale for all, which is read rightly"),
    "uint8": ("uint8", "uint8", False, "no longer take uint8"),
    "mixed": ("mixed", "mixed", True, "partly in floating point"),
    "training": ("training", "float32", False, "export the inference part by itself"),
    "several-ports": ("several-ports", "float32", True, "it has 2 inputs and 1 outputs"),
    "control-flow-or-custom": (
        "control-flow-or-custom",
        "float32",
        False,
        "Encountered|registration from op code CUSTOM",
    ),
    "dynamic-batch": ("full-int8", "int8", True, "full int8: a device model"),
    "batch-of-8": (
        "float32",
        "float32",
        True,
        "It takes 8 records at once: each is asked in a batch filled with copies",
    ),
}


@pytest.fixture(scope="module")
def inspected(made):
    """What is found in a file, by the name of what was made; inspected once."""
    found = {}

    def inspection(kind):
        if kind not in found:
            found[kind] = inspect(made(kind))
        return found[kind]

    return inspection


@pytest.mark.parametrize("made_as", KINDS)
def test_a_file_is_recognised_and_judged(made_as, inspected):
    found, (kind, numbers, device_model, words) = inspected(made_as), KINDS[made_as]
    assert (found.kind, found.format, found.device_model) == (kind, numbers, device_model)
    assert re.search(words, found.verdict), found.verdict
    assert found.verdict.isprintable()
    assert found.dynamic_batch == (made_as == "dynamic-batch")
    assert (found.arena_bytes is not None) == (found.tried("tflm").outcome == "takes")


def test_the_device_computes_weight_only_int8_wrongly_and_the_host_does_not(made, inspected):
    """The figures behind the verdict, from the runtimes themselves."""
    rows = np.random.default_rng(0).normal(size=(32, 8, 8, 3)).astype(np.float32)
    true, file = answers(made("float32"), rows).real, made("weight-only")
    steps = np.abs(true).max() / 50
    assert np.abs(answers(file, rows, "litert").real - true).max() < steps
    assert np.abs(answers(file, rows, "tflm").real - true).max() > 10 * steps
    assert np.abs(answers(made("weight-only-per-tensor"), rows, "tflm").real - true).max() < 10 * steps
    assert inspected("weight-only").misread_constants == 2
    assert inspected("weight-only").tried("litert").labels_differing > 0
    assert inspected("weight-only-per-tensor").misread_constants == 0


def test_a_training_file_crashes_the_device_s_runtime_and_nothing_else(inspected):
    found = inspected("training")
    assert found.tried("tflm").outcome == "crashes"
    assert found.tried("tflm").reason == "crashed with signal 11 (SIGSEGV) in TFLite Micro"
    assert found.tried("litert").outcome == "takes"
    assert set(found.signatures) == {"train", "infer", "weights"}


def test_what_is_in_a_file(made, inspected):
    found, interpreter = inspected("full-int8"), Interpreter(model_content=made("full-int8"))
    (given,), (made_of,) = interpreter.get_input_details(), interpreter.get_output_details()
    for port, truth in ((found.inputs[0], given), (found.outputs[0], made_of)):
        assert port.name == truth["name"]
        assert port.shape == tuple(truth["shape"])
        assert (port.scale, port.zero_point) == truth["quantization"]
        assert port.numbers == "int8"
    assert found.size == len(made("full-int8"))
    assert found.operators == {"CONV_2D": 1, "MEAN": 1, "FULLY_CONNECTED": 1}
    assert found.parameters == 3 * 3 * 3 * 48 + 48 + 48 * 32 + (32 if found.parameter_bytes["int32"] > 192 else 0)
    assert found.parameter_bytes["int8"] == 3 * 3 * 3 * 48 + 48 * 32
    assert found.macs == 4 * 4 * 48 * 27 + 48 * 32
    assert found.work.macs == count(made("full-int8")).macs
    assert found.ends_in == "FULLY_CONNECTED"
    assert not found.probabilities


def test_operators_are_those_of_the_file(exported, operators):
    for name in ("depthwise", "residual"):
        structure, _ = read(exported(name))
        assert collections.Counter(structure.operators) == operators(exported(name))


def test_a_softmax_is_seen_through_the_dequantise_behind_it(inspected):
    assert inspected("int8-float-io").ends_in == "SOFTMAX"
    assert inspected("int8-float-io").probabilities


def test_the_host_and_the_device_are_compared(exported, trained):
    rows = np.moveaxis(trained("cnn").fresh, 1, -1)
    found = inspect(exported("cnn"), inputs=rows)
    device, host = (answers(exported("cnn"), rows, runtime).levels.astype(int) for runtime in ("tflm", "litert"))
    compared = found.tried("litert")
    assert (found.records, found.drawn) == (len(rows), False)
    assert compared.rows_differing == (device != host).any(1).sum()
    assert compared.labels_differing == (device.argmax(1) != host.argmax(1)).sum()
    assert compared.largest_difference == np.abs(device - host).max()


def test_the_device_s_arithmetic_is_equal_in_the_sandbox_too(inspected):
    exact = inspected("full-int8").tried("device-arithmetic")
    assert (exact.outcome, exact.rows_differing, exact.largest_difference) == ("takes", 0, 0.0)


def test_the_same_file_gives_the_same_inspection(made):
    assert inspect(made("full-int8")) == inspect(made("full-int8"))


def test_limits_are_part_of_what_is_found(inspected):
    assert "60 seconds" in inspected("float32").limits


@pytest.mark.parametrize(
    ("blob", "words"),
    [
        (b"", "this is not a TFLite file"),
        (b"a long enough line of text", "this is not a TFLite file"),
        (b"\x1c\0\0\0TFL3", "damaged"),
        (b"\xff\xff\xff\xffTFL3" + bytes(100), "damaged"),
    ],
)
def test_what_is_no_file_is_no_inspection(blob, words):
    with pytest.raises(UnusableFileError, match=words):
        inspect(blob)


def test_a_torn_file_is_no_inspection(made):
    whole = made("full-int8")
    for share in (0.1, 0.5, 0.9, 0.999):
        with pytest.raises(UnusableFileError, match="damaged"):
            inspect(whole[: int(len(whole) * share)])
