"""What `report` says of a run folder whose results or scores it cannot read."""

import json

import pytest

from sim import manifest
from sim.errors import InputError
from sim.folder import RunFolder
from sim.run import report


@pytest.fixture
def folder(tmp_path):
    """A run of another version, whose manifest lists what is there."""
    path = tmp_path / "run"
    path.mkdir()
    (path / "scenario.toml").write_text('name = "x"\n[data]\nsource = "watch"\n[model]\nname = "cnn1d"\n')
    (path / "stages.json").write_text('{"prepare": 1.0}')
    (path / "scores.parquet").write_bytes(b"PAR1")
    return RunFolder(path)


@pytest.mark.parametrize("content", ["{", json.dumps({"schema": "seepage/results/0"}), "[]"])
def test_results_of_another_version_say_how_to_write_them_again(folder, content):
    folder.results.write_text(content)
    manifest.record(folder.path, manifest.Manifest(kind="run", scenario="", data=""), folder.path.iterdir())
    with pytest.raises(InputError, match=r"damaged, or from another version.*seepage attack"):
        report(folder.path)
    assert not folder.report.exists()
