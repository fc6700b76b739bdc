"""Every file of a finished run, damaged in every way, and every command that reads it: exit code 2 and the file named.

What a command does not read does not stop it (`test_end_to_end` has reports without models, attacks without results).
"""

import itertools
import os
import resource
import shutil
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from sim import manifest
from sim.folder import RunFolder, folder_of, named
from sim.given import data_hash_of, federation_of
from sim.lock import NAME as LOCK
from sim.manifest import OUTCOME, PAGE, TARGET

READS = {
    "attack": TARGET,
    "report": ("scenario.toml", "stages.json", *OUTCOME),
    "export": (*TARGET, *OUTCOME),
    "verify": (*TARGET, *OUTCOME, *PAGE),
    "run": (*TARGET, *OUTCOME),
}


WHOLLY = ("scenario.toml", "results.json", "transcript/rounds.jsonl", "models/global.safetensors")


def missing(path):
    path.unlink()


def cut_short(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path):
    path.write_bytes(b"")


def one_byte_changed(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def another_kind_of_file(path):
    path.write_bytes(b"\x89PNG\r\n\x1a\n\x00\xff" * 50)


def json_null(path):
    path.write_text("null")


def a_folder(path):
    path.unlink()
    path.mkdir()


def a_link_to_nowhere(path):
    path.unlink()
    path.symlink_to(path.parent / "nowhere")


def a_link_to_itself(path):
    path.unlink()
    path.symlink_to(path)


def a_pipe(path):
    """Whoever opens it to read waits for ever."""
    path.unlink()
    os.mkfifo(path)


def an_endless_device(path):
    path.unlink()
    path.symlink_to("/dev/zero")


DAMAGES = (
    *(missing, cut_short, empty, one_byte_changed, another_kind_of_file, json_null),
    *(a_folder, a_link_to_nowhere, a_link_to_itself, a_pipe, an_endless_device),
)


def mended(path, whole):
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)
    shutil.copy2(whole, path)


@pytest.fixture
def words(tiny_file, copied):
    """Each command's words for the copied run."""
    again = ("run", tiny_file, "--out", copied.parent)
    return {verb: again if verb == "run" else (verb, copied) for verb in READS}


@pytest.mark.parametrize("verb", READS)
def test_every_damaged_file_stops_who_reads_it(verb, words, finished, copied, seepage):
    """Each file in one way after the other; one of each folder in every way."""
    original = finished[0].path
    files = sorted(f for f in original.rglob("*") if f.is_file() and f.name not in (LOCK, "manifest.json"))
    names = [f.relative_to(original).as_posix() for f in files]
    read = [name for name in names if name.split("/")[0] in READS[verb]]
    assert len(read) >= 4 and set(names) == set(manifest.read(original).files)
    turns = itertools.cycle(DAMAGES)
    for name in read:
        for damage in DAMAGES if verb == "verify" and name in WHOLLY else [next(turns)]:
            damage(copied / name)
            said = seepage(*words[verb])
            told = said.out if verb == "verify" else said.err
            assert said.code == 2 and name in told.replace("\n", ""), (name, damage.__name__, said)
            assert "Traceback" not in said.err and "broke inside" not in said.err
            mended(copied / name, original / name)
    assert seepage("verify", copied).code == 0


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_manifest_stops_everybody(damage, words, copied, seepage):
    """A truncated document is never nothing recorded."""
    damage(copied / "manifest.json")
    for verb, each in words.items():
        said = seepage(*each)
        assert said.code == 2 and "manifest.json" in said.err and "broke inside" not in said.err, (verb, said)
    assert (copied / "results.json").exists()


@pytest.mark.parametrize("damage", [a_folder, a_link_to_nowhere, a_pipe, an_endless_device])
def test_a_lock_that_is_none(damage, words, copied, seepage):
    (copied / LOCK).touch()
    damage(copied / LOCK)
    for verb, each in words.items():
        said = seepage(*each)
        assert said.code == 2 and LOCK in said.err, (verb, said)


@pytest.mark.parametrize("tree", manifest.TREES)
def test_what_somebody_added_does_not_belong(tree, words, copied, seepage):
    """A fourth round, a model of another run, a folder from elsewhere; its name may hold anything."""
    foreign = copied / tree / "round-000004\x1b[2J.safetensors"
    shutil.copy(copied / "models" / "global.safetensors", foreign)
    for verb in ("attack", "export", "verify", "run"):
        said = seepage(*words[verb])
        told = said.out + said.err
        assert said.code == 2 and "does not belong to this run" in told and "\x1b" not in told, said
    foreign.unlink()
    (copied / tree / "elsewhere").symlink_to(copied)
    assert "elsewhere" in seepage("verify", copied).out
    (copied / tree / "elsewhere").unlink()
    (copied / tree / ".global.tflite.x.part").touch()  # what a killed run leaves
    assert seepage("verify", copied).code == 0


def test_two_files_exchanged(copied, seepage):
    one, other = (RunFolder(copied).personal_model(client) for client in (0, 1))
    kept = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(kept)
    said = seepage("attack", copied)
    assert said.code == 2 and one.name in said.err and other.name in said.err and "SHA-256 differs" in said.err


def test_results_that_nobody_recorded_are_no_results(copied, seepage, tmp_path):
    """Of another run, or half written: neither a report nor a model card is made of them, nor without them."""
    known = manifest.read(copied)
    manifest.forget(copied, known, ("results.json", "scores.parquet", "report.html"))
    for verb in ("report", "export"):
        said = seepage(verb, copied, *(("--out", tmp_path / "out") if verb == "export" else ()))
        assert said.code == 2 and "results.json" in said.err and "seepage attack" in said.err, said
    assert not (tmp_path / "out").exists()


def test_other_data_is_refused(tiny, words, copied, seepage):
    """Whether re-sorted, changed or with other coins: figures would be of records that the models never saw."""
    known, federation = manifest.read(copied), federation_of(tiny)
    assert manifest.data_hash(federation) == known.data == data_hash_of(tiny)
    first = federation.clients[0]
    others = [
        {"x": first.x[::-1]},
        {"y": first.y[::-1]},
        {"member": ~first.member},
        {"person": "somebody"},
        {"x": np.nextafter(first.x, np.float32(9))},
    ]
    changed = [replace(federation, clients=(replace(first, **each), *federation.clients[1:])) for each in others]
    changed.append(replace(federation, population=replace(federation.population, x=federation.population.x + 1)))
    assert len({known.data, *map(manifest.data_hash, changed)}) == len(changed) + 1
    manifest.write(copied, known.model_copy(update={"data": manifest.data_hash(changed[0])}))
    for verb in ("attack", "export", "verify"):
        said = seepage(*words[verb])
        assert said.code == 2 and "digits" in said.out + said.err and "not in that order" in (said.out + said.err)
    assert folder_of(tiny, copied.parent).path == copied
    assert named(tiny, copied.parent, known.data[::-1]).path != copied  # other data has another folder


@pytest.mark.parametrize(("verb", "file"), [("report", "report.html"), ("export", "bundles")])
def test_no_room_is_said_and_nothing_lost(verb, file, words, copied, seepage):
    before = manifest.read(copied)
    with no_file_larger_than(16_000):  # the exported model is smaller, its C array is larger
        said = seepage(*words[verb])
    assert said.code == 2 and file in said.err and "File too large" in said.err, said
    assert manifest.read(copied) == before and seepage("verify", copied).code == 0
    assert not [left for left in copied.rglob(".*") if left.name != LOCK]


@contextmanager
def no_file_larger_than(size):
    """As on a disk that has no more room: the operating system refuses to write past `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_manifest_cannot_lead_out_of_its_folder(copied, seepage):
    known = manifest.read(copied)
    outside = {"edge/../../other": known.files["edge/global.tflite"]}
    manifest.write(copied, known.model_copy(update={"files": {**known.files, **outside}}))
    said = seepage("verify", copied)
    assert said.code == 2 and "not a file of this folder" in said.out.replace("\n", " ")
