"""What a file answers in the sandbox is what it answers outside; what goes wrong has words."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from edge.artifact import Artifact
from edge.head import Head
from edge.runtimes import run
from edge.runtimes.tflm import ZEROED_ARENA
from edge.sandbox import SANDBOXED, Limits, UnusableFileError, answers, arena, can_load
from edge.tensors import packed, unpacked
from edge.training_file import training_file
from tests.edge.foreign import made, records


@pytest.fixture(scope="module")
def cnn(exported, trained):
    """A file, and records in its own layout."""
    return exported("cnn"), np.moveaxis(trained("cnn").fresh, 1, -1)


@pytest.mark.parametrize("runtime", SANDBOXED)
def test_answers_are_those_of_the_runtime(runtime, cnn):
    file, rows = cnn
    artifact = Artifact.from_bytes(file)
    truth = run(artifact, artifact.input.levels(rows), runtime)
    found = answers(file, rows, runtime)
    np.testing.assert_array_equal(found.levels, truth)
    np.testing.assert_array_equal(found.real, artifact.output.real(truth))
    assert (found.real.dtype, found.levels.dtype) == (np.float32, np.int8)
    assert any("seconds" in words for words in found.limits)


def test_rows_may_be_flat(cnn):
    file, rows = cnn
    flat = answers(file, rows.reshape(len(rows), -1))
    np.testing.assert_array_equal(flat.levels, answers(file, rows).levels)


@pytest.mark.parametrize("variant", ["float32", "int16x8"])
def test_other_numbers(variant, exported, trained):
    file, rows = exported("mlp", variant=variant), trained("mlp").fresh
    found = answers(file, rows)
    assert found.levels.dtype == {"float32": np.float32, "int16x8": np.int16}[variant]
    artifact = Artifact.from_bytes(file)
    np.testing.assert_array_equal(found.levels, run(artifact, artifact.input.levels(rows), "tflm"))
    assert np.mean(found.real.argmax(1) == trained("mlp").logits.argmax(1)) > 0.95


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (np.full((2, 8, 8, 2), np.nan), "not finite"),
        (np.full((2, 8, 8, 2), 1e300), "not finite"),
        (np.zeros((0, 8, 8, 2)), "one row per record"),
        (np.zeros(8), "one row per record"),
        (np.full((2, 4), "x"), "wanted numbers"),
        (np.full((2, 4), None), "wanted numbers"),
        (np.broadcast_to(np.float32(0), (3, 10**9)), "12000000000 bytes"),
        (np.zeros((2, 8, 8, 3), np.float32), "records of 192 numbers do not fit a model that takes"),
    ],
)
def test_records_that_are_no_use(rows, words, cnn):
    with pytest.raises(ValueError, match=words):
        answers(cnn[0], rows)


@pytest.mark.parametrize("runtime", ["qemu", "tflite-runtime", "no such thing"])
def test_runtimes_that_do_not_run_in_a_sandbox(runtime, cnn):
    with pytest.raises(ValueError, match="does not run in a sandbox; choose one of tflm"):
        answers(*cnn, runtime)


def test_a_damaged_file(cnn):
    file, rows = cnn
    for blob in (b"", file[:1000], b"text" * 100):
        with pytest.raises(UnusableFileError):
            answers(blob, rows)


def test_too_slow(cnn):
    with pytest.raises(UnusableFileError, match=r"not done after 0\.01 s in TFLite Micro") as caught:
        answers(*cnn, limits=Limits(seconds=0.01))
    assert caught.value.ended == "stopped"


def test_too_much_to_say(cnn):
    with pytest.raises(UnusableFileError, match="its answers are 800 bytes; 100 are allowed"):
        answers(*cnn, limits=Limits(output_bytes=100))


def test_too_little_memory():
    """A file with a memory is given an arena that always is new pages: other files may find room in old ones."""
    limit = 3 << 20
    assert limit < ZEROED_ARENA
    with pytest.raises(UnusableFileError, match=r"it needs more than 3 MB of memory|signal|refuses"):
        answers(made("ring"), records("ring"), limits=Limits(memory_bytes=limit))


def test_a_file_that_crashes_a_runtime_is_survived_and_named(cnn):
    file, rows = cnn
    head = Head(np.ones((8, 4), np.float32), np.zeros(4, np.float32))
    with pytest.raises(UnusableFileError, match=r"crashed with signal 11 \(SIGSEGV\) in TFLite Micro") as caught:
        can_load(training_file(head, 8, 0.1), "tflm")
    assert caught.value.ended == "crashed"
    assert len(answers(file, rows).real) == len(rows)


def test_an_operator_that_reads_what_is_not_there_is_refused_by_name(cnn):
    file, rows = cnn
    whole = unpacked(file)
    whole.subgraphs[0].operators[0].inputs = [999999, 1, 2]
    for runtime in ("tflm", "litert"):
        with pytest.raises(UnusableFileError, match=r"operator 0 \(CONV_2D\) reads tensor 999999"):
            answers(packed(whole), rows, runtime)


def test_any_ports_can_be_loaded(cnn):
    for runtime in ("tflm", "litert"):
        can_load(cnn[0], runtime)
        with pytest.raises(UnusableFileError):
            can_load(cnn[0][:1000], runtime)


def test_the_arena_is_the_smallest(cnn):
    size = arena(cnn[0])
    assert size % 16 == 0
    assert size > 8 * 8 * 2 + 8 * 8 * 8  # the input and the first layer's output


def test_several_threads_may_ask(cnn):
    file, rows = cnn
    truth, found = answers(file, rows).levels, {}

    def ask(part):
        found[part] = answers(file, rows[part::4]).levels

    threads = [threading.Thread(target=ask, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for part in range(4):
        np.testing.assert_array_equal(found[part], truth[part::4])


def test_a_forked_process_asks_a_child_of_its_own(cnn):
    file, rows = cnn
    truth = answers(file, rows).levels
    process = os.fork()
    if process == 0:
        try:
            os._exit(0 if np.array_equal(answers(file, rows).levels, truth) else 1)
        finally:
            os._exit(2)
    assert os.waitpid(process, 0)[1] == 0
    np.testing.assert_array_equal(answers(file, rows).levels, truth)


def test_the_caller_does_not_even_load_what_could_parse_a_file(cnn, tmp_path):
    (tmp_path / "file.tflite").write_bytes(cnn[0])
    code = """
import sys
from edge.inspection import inspect
assert inspect(open(sys.argv[1], "rb").read()).kind == "full-int8"
sys.exit(", ".join({"tflite_micro", "ai_edge_litert", "flatbuffers", "torch", "tensorflow"} & set(sys.modules)))
"""
    command = [sys.executable, "-c", code, tmp_path / "file.tflite"]
    assert subprocess.run(command, capture_output=True, text=True).stderr.strip() == ""
