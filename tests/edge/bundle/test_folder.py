"""A bundle is whole, the same every time, and takes nobody else's place."""

import json
from hashlib import sha256
from pathlib import Path

import jsonschema
import pytest
from pydantic import ValidationError

from edge.artifact import ArtifactError
from edge.bundle import BundleError, Facts, manifest_schema, read_bundle, write_bundle


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_bundle_holds_the_model_and_a_hash_of_every_other_file(model, full, tmp_path):
    manifest = write_bundle(tmp_path / "out", model, full)
    found = contents(tmp_path / "out")
    assert set(found) == {
        "personal-0003.tflite",
        "personal-0003.cc",
        "personal-0003.h",
        "README.md",
        "manifest.json",
    }
    assert found["personal-0003.tflite"] == model
    document = json.loads(found.pop("manifest.json"))
    assert document["schema"] == "seepage/bundle/1"
    assert {name: file["sha256"] for name, file in document["files"].items()} == {
        name: sha256(content).hexdigest() for name, content in found.items()
    }
    assert read_bundle(tmp_path / "out") == manifest


def test_the_manifest_shows_what_the_file_is(model, full, tmp_path, operators):
    graph = write_bundle(tmp_path / "out", model, full).graph
    assert graph.operators == dict(operators(model))
    assert (graph.input.shape, graph.input.numbers, graph.output.shape) == ((1, 16, 16, 1), "int8", (1, 4))
    assert graph.answers == "logits"


def test_the_same_facts_give_the_same_bytes(model, full, tmp_path):
    for name in ("one", "two"):
        write_bundle(tmp_path / name, model, Facts.model_validate(full.model_dump()))
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    write_bundle(tmp_path / "one", model, full)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert str(tmp_path).encode() not in b"".join(contents(tmp_path / "one").values())


@pytest.mark.parametrize("which", ["bare", "full"])
def test_the_manifest_is_of_its_schema(model, which, tmp_path, request):
    facts = request.getfixturevalue(which)
    write_bundle(tmp_path / "out", model, facts)
    jsonschema.validate(json.loads((tmp_path / "out" / "manifest.json").read_text()), manifest_schema())


def test_what_is_not_known_is_said(model, bare, full, tmp_path):
    nothing = write_bundle(tmp_path / "bare", model, bare).unknown
    assert len(nothing) == 10
    assert "It is not known how well membership in its training data can be told: it was not attacked." in nothing
    assert write_bundle(tmp_path / "full", model, full).unknown == ()
    halfway = full.model_copy(update={"controls": (), "unknown": ("The sensor may be another.",)})
    assert write_bundle(tmp_path / "half", model, halfway).unknown == (
        "It is not known whether the audit's controls hold: none was run.",
        "The sensor may be another.",
    )


def test_a_bundle_replaces_a_bundle_whatever_its_name(model, bare, full, tmp_path):
    write_bundle(tmp_path, model, full)
    write_bundle(tmp_path, model, bare)
    assert set(contents(tmp_path)) == {"found.tflite", "found.cc", "found.h", "README.md", "manifest.json"}


def test_an_empty_folder_is_filled_and_parents_are_made(model, bare, tmp_path):
    (tmp_path / "empty").mkdir()
    write_bundle(tmp_path / "empty", model, bare)
    write_bundle(tmp_path / "a" / "b", model, bare)
    assert read_bundle(tmp_path / "empty") == read_bundle(tmp_path / "a" / "b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "empty"]  # nothing temporary is left


def test_another_s_folder_is_left_alone(model, bare, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(BundleError, match="holds something that is not a bundle"):
        write_bundle(tmp_path, model, bare)
    (tmp_path / "manifest.json").write_text('{"schema": "somebody/elses/1", "files": {"thesis.tex": {}}}')
    with pytest.raises(BundleError, match="holds something that is not a bundle"):
        write_bundle(tmp_path, model, bare)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_file_added_to_a_bundle_is_not_lost(model, bare, tmp_path):
    write_bundle(tmp_path, model, bare)
    (tmp_path / "notes.md").write_text("mine")
    with pytest.raises(BundleError, match=r"also holds 'notes\.md'"):
        write_bundle(tmp_path, model, bare)
    assert (tmp_path / "notes.md").exists()


def test_a_file_or_a_link_is_no_folder_to_write_to(model, bare, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("file", "link"):
        with pytest.raises(BundleError, match="exists and is not a folder"):
            write_bundle(tmp_path / name, model, bare)


def test_what_is_no_model_writes_nothing(bare, tmp_path):
    with pytest.raises(ArtifactError, match="not a TFLite file"):
        write_bundle(tmp_path / "out", b"no model at all", bare)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("found.tflite", lambda content: content[:-1] + bytes([content[-1] ^ 1]), "its SHA-256 differs"),
        ("README.md", lambda content: content + b"\n", "its SHA-256 differs"),
        ("manifest.json", lambda content: content[:-10], "not the manifest of a bundle"),
        (
            "manifest.json",
            lambda content: content.replace(b'"numbers": "int8"', b'"numbers": "u8"'),
            "not the manifest of a bundle",
        ),
    ],
)
def test_what_was_altered_is_named(model, bare, tmp_path, name, change, said):
    write_bundle(tmp_path, model, bare)
    path = tmp_path / name
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(BundleError, match=f"{name}.*{said}"):
        read_bundle(tmp_path)


def test_what_is_missing_is_named_and_nothing_outside_is_read(model, bare, tmp_path):
    write_bundle(tmp_path, model, bare)
    (tmp_path / "found.h").unlink()
    with pytest.raises(BundleError, match=r"found\.h: missing"):
        read_bundle(tmp_path)
    path = tmp_path / "manifest.json"
    path.write_text(path.read_text().replace('"found.h"', '"../../etc/passwd"'))
    with pytest.raises(BundleError, match="not a file of the bundle's own folder"):
        read_bundle(tmp_path)


@pytest.mark.parametrize("name", ["", "../up", "a/b", "1st", "a b", 'x"', "x" * 65, "ümlaut"])
def test_a_name_is_one_of_a_file_and_of_a_c_array(name):
    with pytest.raises(ValidationError, match="name"):
        Facts(name=name, variant="int8", runtimes=())


def test_facts_hold_no_number_that_json_lacks():
    from edge.bundle import Cost

    with pytest.raises(ValidationError, match="finite"):
        Cost(interval=(1.0, float("nan")), unit="ms", anchor="a clock")
