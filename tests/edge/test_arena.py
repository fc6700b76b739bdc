"""The arena is TFLite Micro's own count, and its crashes stay in the child process."""

import subprocess
import sys
from pathlib import Path

import flatbuffers
import numpy as np
import pytest

from edge import sandbox
from edge.arena import ArenaError, measure_arenas
from edge.tensors import constant_of, packed, quantised, unpacked, with_values, without_orphans

LOAD = """
import sys
from tflite_micro.python.tflite_micro import runtime
runtime.Interpreter.from_bytes(open(sys.argv[1], "rb").read(), arena_size=int(sys.argv[2])).invoke()
"""


@pytest.fixture
def files(exported, tmp_path) -> list[Path]:
    paths = [tmp_path / f"{name}.tflite" for name in ("mlp", "windows", "depthwise")]
    for path in paths:
        path.write_bytes(exported(path.stem))
    return paths


@pytest.fixture
def crashing(exported, tmp_path) -> Path:
    """A file that is well formed except that its first operator reads a tensor that does not exist."""
    from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(exported("windows"))
    model.subgraphs[0].operators[0].inputs = [999999, 1, 2]
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), b"TFL3")
    path = tmp_path / "crashing.tflite"
    path.write_bytes(bytes(builder.Output()))
    return path


def loads(path: Path, arena: int) -> bool:
    return subprocess.run([sys.executable, "-c", LOAD, path, str(arena)], capture_output=True).returncode == 0


def test_a_model_runs_in_the_measured_arena_and_not_in_less(files):
    for path, arena in zip(files, measure_arenas(files), strict=True):
        assert loads(path, arena)
        assert not loads(path, arena - 16)


def test_files_are_measured_in_order_and_each_as_if_alone(files):
    together = measure_arenas(files)
    assert len(set(together)) == 3
    assert measure_arenas(files[::-1]) == together[::-1]
    assert measure_arenas(files[1:2]) == together[1:2]


def test_an_image_map_needs_at_least_its_largest_layer(files):
    assert measure_arenas(files)[1] >= 32 * 16 + 32 * 3  # the first convolution's input and output


def test_nothing_to_measure():
    assert measure_arenas([]) == []


def test_a_crash_names_the_file_and_spares_the_caller(files, crashing):
    with pytest.raises(ArenaError, match=r"crashing\.tflite: crashed with signal 11 \(SIGSEGV\) in TFLite Micro"):
        measure_arenas([files[0], crashing, files[1]])


def test_a_refused_model_is_named_with_the_reason(files, tmp_path):
    torn = tmp_path / "torn.tflite"
    torn.write_bytes(files[1].read_bytes()[:1000])
    with pytest.raises(ArenaError, match=r"torn\.tflite: damaged: .+"):
        measure_arenas([files[0], torn])


def test_a_missing_file_is_named(files, tmp_path):
    with pytest.raises(ArenaError, match=r"missing\.tflite.*No such file"):
        measure_arenas([files[0], tmp_path / "missing.tflite"])


def test_too_long_is_an_error_too(files):
    with pytest.raises(ArenaError, match=r"mlp\.tflite: not done after .+ s in TFLite Micro"):
        measure_arenas(files, seconds=0.001)


def renumbered(path: Path, to: Path) -> Path:
    """The same structure with other weights, scales and zero points."""
    whole = unpacked(path.read_bytes())
    rng = np.random.default_rng(len(to.name))
    factor = rng.uniform(0.5, 1)
    for tensor in filter(quantised, whole.subgraphs[0].tensors):
        constant = constant_of(whole, tensor)
        if constant is None or constant.values.dtype == np.int32:  # an activation, or a bias in its steps
            tensor.quantization.scale = (np.asarray(tensor.quantization.scale) * factor).tolist()
        if constant is not None:
            with_values(whole, tensor, rng.permutation(constant.values.ravel()))
    to.write_bytes(packed(without_orphans(whole)))
    return to


def test_files_of_one_structure_have_one_arena_which_is_measured_on_some_of_them(files, tmp_path, monkeypatch):
    alike = [renumbered(files[1], tmp_path / f"{'x' * number}.tflite") for number in range(1, 9)]
    alone = {measure_arenas([path])[0] for path in (files[1], *alike[:3])}
    real, looked, said = sandbox.arena, [], []
    monkeypatch.setattr(sandbox, "arena", lambda model, limits: looked.append(model) or real(model, limits))
    found = measure_arenas([*alike, files[0], files[1]], done=said.append)
    assert len(alone) == 1
    assert {*found[:8], found[9]} == alone
    assert found[8] not in alone
    assert len(looked) < 10
    assert said[-1] == 10


def test_where_a_structure_tells_too_little_every_file_is_measured(files, monkeypatch):
    monkeypatch.setattr("edge.arena._structure", lambda _: "the same for all")
    assert len(set(measure_arenas(files))) == 3
