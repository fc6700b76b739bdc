"""The run folder: where one run's scenario, transcript, models, artefacts, scores and report lie."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tomli_w
from pydantic import TypeAdapter, ValidationError

from sim import manifest
from sim.errors import InputError, cannot_write
from sim.files import write_atomically
from sim.given import data_hash_of
from sim.manifest import Manifest
from sim.scenario import Scenario, load_scenario

_STAGES: TypeAdapter[dict[str, float]] = TypeAdapter(dict[str, float])
LAST_BEFORE_ATTACKS = "prepare"  # the stage at whose end all that attacks are made on is there


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Paths inside one run folder. `results.json` and `report.html` come last: without them the run is not done.

    What lies in it and belongs together is listed in `manifest.json`, see `sim.manifest`.
    """

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
    """Where a scenario's run lies under `parent`: named after it, all of its settings, and the data that it meets."""
    return named(scenario, parent, data_hash_of(scenario))


def named(scenario: Scenario, parent: Path, data: str) -> RunFolder:
    """The folder for a scenario with data of this SHA-256."""
    return RunFolder(parent / f"{scenario.name}-{manifest.combined((scenario.sha256, data))[:8]}")


def create(scenario: Scenario, parent: Path) -> RunFolder:
    """A fresh folder for this scenario's run; what an earlier one left there is replaced.

    Raises:
        CannotWriteError: the folder cannot be written.
    """
    folder = folder_of(scenario, parent)
    make(folder)
    start(folder, "run", scenario, data_hash_of(scenario))
    return folder


def make(folder: RunFolder) -> None:
    """See that the folder is there. Raises CannotWriteError."""
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder.path, error) from error


def start(folder: RunFolder, kind: Literal["run", "study"], scenario: Scenario, data: str) -> None:
    """Begin a run, or a study, in a folder that is there: what it held is removed, but for a study's runs.

    Raises:
        CannotWriteError: something cannot be removed or written.
    """
    parts = (folder.transcript, folder.models, folder.edge)
    old = [folder.report, folder.results, folder.scores, folder.stages, folder.path / manifest.NAME]
    try:
        for path in [*old, *parts, folder.path / "bundles", *folder.path.glob(".*.part")]:
            _remove(path)
        for part in parts if kind == "run" else ():
            part.mkdir()
    except OSError as error:
        raise cannot_write(Path(error.filename or folder.path), error) from error
    record_scenario(folder, Manifest(kind=kind, scenario=scenario.sha256, data=data), scenario)


def record_scenario(folder: RunFolder, known: Manifest, scenario: Scenario) -> None:
    """Write the resolved scenario. Raises CannotWriteError."""
    settings = scenario.model_dump(mode="json", exclude_none=True)
    write_atomically(folder.scenario, tomli_w.dumps(settings).encode())
    known = known.model_copy(update={"scenario": scenario.sha256})
    manifest.record(folder.path, known, [folder.scenario])


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def is_run_folder(path: Path) -> bool:
    """Whether a place looks like the folder of a run, or of a study, however damaged."""
    return RunFolder(path).scenario.is_file() or (path / manifest.NAME).exists()


def open_folder(path: Path) -> tuple[RunFolder, Scenario]:
    """A run folder, or that of a study, and its scenario.

    Raises:
        InputError: it is neither, its manifest is damaged, or its scenario is not the one that it was made by.
    """
    folder = RunFolder(path)
    if not is_run_folder(path):
        raise InputError(f"{path}: not a run folder (no scenario.toml). `seepage run SCENARIO` makes one under runs/")
    remedy = (
        "The models were trained, and every figure measured, with the settings that were written. Bring the file back, "
        "or run a scenario of your own with other settings. Attacks alone can be changed: seepage attack RUN --set"
    )
    manifest.check(path, manifest.read(path), [folder.scenario.name], remedy)
    return folder, load_scenario(folder.scenario)


def open_finished(path: Path) -> tuple[RunFolder, Scenario]:
    """A run folder whose federation and exports are complete, and its scenario.

    Raises:
        InputError: it is no run folder, or the run was stopped before its models were exported.
    """
    folder, scenario = open_folder(path)
    if (known := manifest.read(path)).kind == "study":
        one = f", such as {path / known.runs[0]}" if known.runs else ""
        raise InputError(f"{path}: a study, not a run. Name one of its runs{one}")
    if LAST_BEFORE_ATTACKS not in read_stages(folder):
        raise InputError(
            f"{path}: this run was stopped before its models were exported and the attackers' references trained. "
            f"Run it again with: seepage run {folder.scenario} --out {path.parent}"
        )
    return folder, scenario


def read_stages(folder: RunFolder) -> dict[str, float]:
    """Seconds of each finished stage.

    Raises:
        InputError: the file that says so is damaged, or is not the one that was written.
    """
    known, remedy = manifest.read(folder.path), f"Run it again: seepage run {folder.scenario} --again"
    if folder.stages.name not in known.files and not folder.stages.exists():
        return {}
    manifest.check(folder.path, known, [folder.stages.name], remedy)
    try:
        return _STAGES.validate_json(folder.stages.read_bytes())
    except (OSError, ValidationError) as error:
        raise InputError(f"{folder.stages}: damaged. {remedy}") from error


def record_stage(folder: RunFolder, stage: str, seconds: float) -> None:
    """Note that a stage is finished."""
    stages = read_stages(folder) | {stage: round(seconds, 2)}
    write_atomically(folder.stages, _STAGES.dump_json(stages, indent=2))
    manifest.record(folder.path, manifest.read(folder.path), [folder.stages])
