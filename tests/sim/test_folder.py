"""The run folder: whole files or none, and nothing old left beside the new."""

import json

import pytest

from sim.errors import InputError
from sim.files import write_atomically
from sim.folder import RunFolder, create, open_finished, personal_name, read_stages, record_stage


def test_a_new_folder_replaces_all_of_the_same_scenario_s_last_run(tiny, tmp_path):
    folder = create(tiny, tmp_path)
    old = [folder.report, folder.results, folder.scores, folder.models / "global.safetensors"]
    old += [folder.transcript / "round-000009.safetensors", folder.artifact("global")]
    for file in old:
        file.write_text("old")
    record_stage(folder, "export", 1)
    assert create(tiny, tmp_path) == folder
    assert not any(file.exists() for file in old) and read_stages(folder) == {}
    assert folder.scenario.exists() and folder.models.is_dir() and folder.edge.is_dir() and folder.transcript.is_dir()


def test_another_scenario_s_run_stays(tiny, tmp_path):
    folder = create(tiny, tmp_path)
    folder.report.write_text("mine")
    other = create(tiny.model_copy(update={"seed": 99}), tmp_path)
    assert other.path != folder.path and folder.report.read_text() == "mine"


def test_stages_add_up(tiny, tmp_path):
    folder = create(tiny, tmp_path)
    record_stage(folder, "federate", 1.23456)
    with pytest.raises(InputError, match=r"stopped before its models were exported.*seepage run .*scenario\.toml"):
        open_finished(folder.path)
    record_stage(folder, "prepare", 2)
    assert read_stages(folder) == json.loads(folder.stages.read_text()) == {"federate": 1.23, "prepare": 2}
    assert open_finished(folder.path) == (folder, tiny)


def test_damaged_stages_are_an_input_error(tiny, tmp_path):
    folder = create(tiny, tmp_path)
    record_stage(folder, "prepare", 2)
    folder.stages.write_text("{")
    with pytest.raises(InputError, match=r"stages\.json: 1 bytes, not the \d+ that were written"):
        open_finished(folder.path)


def test_no_run_folder(tmp_path):
    with pytest.raises(InputError, match=r"not a run folder \(no scenario\.toml\)"):
        open_finished(tmp_path)


def test_a_file_is_there_whole_or_not_at_all(tmp_path):
    file = tmp_path / "a.json"
    write_atomically(file, b"first")
    with pytest.raises(TypeError):
        write_atomically(file, "no bytes")
    assert file.read_bytes() == b"first"
    write_atomically(file, b"second")
    assert file.read_bytes() == b"second" and list(tmp_path.glob("*.json")) == [file]


def test_names_sort_as_numbers_do(tmp_path):
    names = [personal_name(i) for i in (2, 10, 100)]
    assert names == sorted(names)
    assert RunFolder(tmp_path).personal_model(7).name == "personal-0007.safetensors"
    assert RunFolder(tmp_path).artifact("global").name == "global.tflite"


def test_a_place_that_cannot_be_written(tiny, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match=r"tiny-\w+: cannot be written .* another place with --out"):
        create(tiny, tmp_path / "file")
