"""The run folder: where one run's scenario, transcript, models, artefacts, scores and report lie."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import tomli_w

from sim.errors import InputError
from sim.scenario import Scenario, load_scenario


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Paths inside one run folder. `results.json` and `report.html` come last: without them the run is not done."""

    path: Path

    @property
    def scenario(self) -> Path:
        """The resolved scenario: every setting, also those left to their defaults."""
        return self.path / "scenario.toml"

    @property
    def transcript(self) -> Path:
        """What happened, round by round."""
        return self.path / "transcript"

    @property
    def models(self) -> Path:
        """The global model, the personal models, and the models the attackers trained."""
        return self.path / "models"

    @property
    def edge(self) -> Path:
        """The exported `.tflite` files."""
        return self.path / "edge"

    @property
    def stages(self) -> Path:
        """Seconds spent in each finished stage."""
        return self.path / "stages.json"

    @property
    def scores(self) -> Path:
        """One row per attack, target and record."""
        return self.path / "scores.parquet"

    @property
    def results(self) -> Path:
        """The results document."""
        return self.path / "results.json"

    @property
    def report(self) -> Path:
        """The report for people."""
        return self.path / "report.html"

    def personal_model(self, client: int) -> Path:
        """Where a client keeps its personal model."""
        return self.models / f"{personal_name(client)}.safetensors"

    def artifact(self, name: str) -> Path:
        """Where an exported model lies: `global`, or `personal-0003`."""
        return self.edge / f"{name}.tflite"


def personal_name(client: int) -> str:
    """A personal model's name, for its weights and for its artefact."""
    return f"personal-{client:04d}"


def folder_of(scenario: Scenario, parent: Path) -> RunFolder:
    """Where a scenario's run lies under `parent`: named after it and all of its settings."""
    return RunFolder(parent / f"{scenario.name}-{scenario.fingerprint}")


def create(scenario: Scenario, parent: Path) -> RunFolder:
    """A fresh folder for this scenario; what an earlier run of exactly the same scenario left there is replaced.

    A study's folder gets no parts of its own: its runs have theirs.

    Raises:
        InputError: the folder cannot be written.
    """
    folder = folder_of(scenario, parent)
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        _clear(folder)
        for part in (folder.transcript, folder.models, folder.edge) if scenario.study.single else ():
            part.mkdir()
    except OSError as error:
        raise InputError(
            f"{folder.path}: cannot be written ({error.strerror}). Name another place with --out"
        ) from error
    settings = scenario.model_dump(mode="json", exclude_none=True)
    write_atomically(folder.scenario, tomli_w.dumps(settings).encode())
    return folder


def _clear(folder: RunFolder) -> None:
    for done in (folder.report, folder.results, folder.scores, folder.stages):
        done.unlink(missing_ok=True)
    for part in (folder.transcript, folder.models, folder.edge):
        shutil.rmtree(part, ignore_errors=True)


def open_folder(path: Path) -> tuple[RunFolder, Scenario]:
    """A run folder, or that of a study, and its scenario.

    Raises:
        InputError: it is neither.
    """
    folder = RunFolder(path)
    if not folder.scenario.is_file():
        raise InputError(f"{path}: not a run folder (no scenario.toml). `seepage run SCENARIO` makes one under runs/")
    return folder, load_scenario(folder.scenario)


def open_finished(path: Path) -> tuple[RunFolder, Scenario]:
    """A run folder whose federation and exports are complete, and its scenario.

    Raises:
        InputError: it is no run folder, or the run was stopped before its models were exported.
    """
    folder, scenario = open_folder(path)
    if "export" not in read_stages(folder):
        raise InputError(
            f"{path}: this run was stopped before its models were exported. "
            f"Run it again with: seepage run {folder.scenario}"
        )
    return folder, scenario


def read_stages(folder: RunFolder) -> dict[str, float]:
    """Seconds of each finished stage.

    Raises:
        InputError: the file that says so is damaged.
    """
    if not folder.stages.exists():
        return {}
    try:
        stages: dict[str, float] = json.loads(folder.stages.read_text())
    except ValueError as error:
        raise InputError(f"{folder.stages}: damaged ({error}). Run it again: seepage run {folder.scenario}") from error
    return stages


def record_stage(folder: RunFolder, stage: str, seconds: float) -> None:
    """Note that a stage is finished."""
    stages = read_stages(folder) | {stage: round(seconds, 2)}
    write_atomically(folder.stages, json.dumps(stages, indent=2).encode())


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_bytes(content)
    os.replace(temporary, path)  # noqa: PTH105  # Path.replace is the same call; this one is named for what matters
