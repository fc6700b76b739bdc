"""One small federation, run whole once and shared, and the `seepage` command as a user types it."""

from __future__ import annotations

import io
import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console

from sim import cli
from sim.progress import Progress
from sim.run import run
from sim.scenario import load_scenario
from sim.schema import FILE

TINY = """
name = "tiny"
seed = 7
[data]
source = "digits"
partition = "iid"
clients = 4
records_per_client = 50
[population]
people = 2
records = 60
[model]
name = "mlp"
width = 8
[federation]
rounds = 3
[personalization]
epochs = 3
[attacks]
references = 2
"""


@dataclass(frozen=True)
class Said:
    """What a command answered."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def quiet():
    """Progress that nobody reads."""
    return Progress(Console(file=io.StringIO()))


@pytest.fixture(scope="session")
def tiny_file(tmp_path_factory):
    """A small scenario file: four clients with fifty digits each."""
    file = tmp_path_factory.mktemp("scenario") / "tiny.toml"
    file.write_text(TINY)
    return file


@pytest.fixture(scope="session")
def tiny(tiny_file):
    """The small scenario."""
    return load_scenario(tiny_file)


@pytest.fixture(scope="session")
def finished(tiny, quiet, tmp_path_factory):
    """The small scenario's finished run: its folder and its results. Tests leave it as it is."""
    return run(tiny, "inprocess", tmp_path_factory.mktemp("finished"), quiet)


@pytest.fixture(scope="session")
def results_schema():
    """The JSON Schema of results.json, as shipped."""
    return json.loads(FILE.read_text())


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of the finished run's folder, to do anything with."""
    return Path(shutil.copytree(finished[0].path, tmp_path / finished[0].path.name))


@pytest.fixture
def seepage(monkeypatch, capfd):
    """The command with its arguments, run in this process: exit code, standard output and standard error."""

    def command(*words):
        monkeypatch.setattr(sys, "argv", ["seepage", *map(str, words)])
        capfd.readouterr()
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        return Said(code, *capfd.readouterr())

    return command
