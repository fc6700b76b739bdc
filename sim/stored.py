"""A run folder read back: whether what lies in it belongs together, and the results that were stored."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edge.bundle import BundleError, read_bundle
from sim import manifest
from sim.errors import InputError, shown
from sim.folder import RunFolder, is_run_folder, open_finished, open_folder
from sim.given import data_hash_of
from sim.lock import unchanged
from sim.manifest import OUTCOME, PAGE, TARGET, Difference, Manifest
from sim.results import Results
from sim.scenario import Scenario


@dataclass(frozen=True, slots=True)
class Verified:
    """What holding a run folder to its manifest found. `files` were compared; `finished`: it has results."""

    files: int
    finished: bool
    differences: list[Difference]

    def document(self, path: Path) -> dict[str, Any]:
        """As `seepage verify --json` prints it."""
        return {
            "schema": "seepage/verify/1",
            "run": str(path),
            "files": self.files,
            "finished": self.finished,
            "belongs_together": not self.differences,
            "differences": [asdict(each) for each in self.differences],
        }

    def text(self, path: Path) -> str:
        """As `seepage verify` prints it."""
        lines = [f"{path / shown(each.file)}: {each.what}" for each in self.differences]
        unfinished = "" if self.finished else " The run is not finished."
        if lines:
            lines.append(f"{len(lines)} of {self.files} recorded files and the data are not as they were written.")
        else:
            lines.append(f"All {self.files} recorded files, and the data, are as they were written.")
        return "\n".join(lines) + unfinished


@contextmanager
def whole(path: Path) -> Iterator[tuple[RunFolder, Scenario]]:
    """A run, finished up to its models, with everything in it as it was written, and kept so meanwhile.

    Raises:
        InputError: something does not belong together, or another process writes there.
    """
    if not path.is_dir():
        open_folder(path)  # says what is wrong with it
    with unchanged(path):
        folder, scenario = open_finished(path)
        check_target(folder, scenario)
        yield folder, scenario


def is_study(path: Path) -> bool:
    """Whether a folder holds a study.

    Raises:
        InputError: it holds neither a run nor a study, or its manifest cannot be read.
    """
    open_folder(path)
    return manifest.read(path).kind == "study"


def check_target(folder: RunFolder, scenario: Scenario) -> None:
    """Whether transcript, models and exported files are those that were written, and the data still the same.

    Raises:
        InputError: with every file that is not.
    """
    known = manifest.read(folder.path)
    manifest.check(folder.path, known, TARGET, f"Bring them back from a copy, or run it afresh: {_afresh(folder)}")
    if data_hash_of(scenario) != known.data:
        raise InputError(
            f"data.source = {scenario.data.source}: not the records that {folder.path} was made of, or not in that "
            "order (their SHA-256 differs). Bring the data back as it was, or run the scenario again: with other data "
            "it gets another folder"
        )


def stored_results(folder: RunFolder) -> Results | None:
    """The results of a run; None of one that was not attacked yet.

    Raises:
        InputError: they are damaged, of another run, or from another version.
    """
    known, again = manifest.read(folder.path), f"Write it again with: seepage attack {folder.path}"
    found = [each for each in unrecorded(folder, known) if each.file in OUTCOME]
    found += manifest.differences(folder.path, known, OUTCOME)
    if found:
        raise InputError(manifest.said(folder.path, found, again))
    if folder.results.name not in known.files:
        return None
    try:
        results = Results.model_validate_json(folder.results.read_bytes())
    except (OSError, ValidationError) as error:
        raise InputError(f"{folder.results}: damaged, or from another version. {again}") from error
    if results.made_of and results.made_of["scenario"] != known.scenario:
        raise InputError(f"{folder.results}: of an attack with other settings than scenario.toml has. {again}")
    return results


def unrecorded(folder: RunFolder, known: Manifest) -> list[Difference]:
    """Outcomes that lie in the folder and that nothing here wrote, or not to its end."""
    return [
        Difference(name, "does not belong to this run, or an attack was stopped while it was written")
        for name in (*OUTCOME, *PAGE)
        if name not in known.files and (folder.path / name).exists()
    ]


def verify(path: Path) -> Verified:
    """Hold a run folder, or a study's with all of its runs, to its manifest, and its data to the hash there.

    Raises:
        InputError: it is no run folder, or has no manifest that can be read.
    """
    if not is_run_folder(path):
        open_folder(path)  # says what is wrong with it
    with unchanged(path):
        known = manifest.read(path)
        return _verify_study(path, known) if known.kind == "study" else _verify_run(path, known)


def _verify_run(path: Path, known: Manifest) -> Verified:
    folder = RunFolder(path)
    found = manifest.differences(path, known, (*TARGET, *OUTCOME, *PAGE))
    found += [*unrecorded(folder, known), *_bundles(path)]
    if not any(each.file == folder.scenario.name for each in found):
        found += _data(folder, known)
    return Verified(len(known.files), folder.results.name in known.files, found)


def _verify_study(path: Path, known: Manifest) -> Verified:
    found = manifest.differences(path, known, {name.split("/")[0] for name in known.files})
    files, finished = len(known.files), len(known.files) > 1
    for name in known.runs:
        try:
            if Path(name).name != name or manifest.read(path / name).kind != "run":
                raise InputError("not a run of this study")
            run = verify(path / name)
        except InputError as error:
            found.append(Difference(name, str(error)))
        else:
            files, finished = files + run.files, finished and run.finished
            found += [Difference(f"{name}/{each.file}", each.what) for each in run.differences]
    return Verified(files, finished, found)


def _data(folder: RunFolder, known: Manifest) -> Iterator[Difference]:
    try:
        scenario = open_folder(folder.path)[1]
        if data_hash_of(scenario) != known.data:
            yield Difference(scenario.data.source, "not the records that this run was made of, or not in that order")
    except InputError as error:
        yield Difference("the data", str(error))


def _bundles(path: Path) -> Iterator[Difference]:
    for place in sorted((path / "bundles").glob("*/manifest.json")):
        try:
            read_bundle(place.parent)
        except BundleError as error:
            yield Difference(place.parent.relative_to(path).as_posix(), str(error))


def _afresh(folder: RunFolder) -> str:
    return f"seepage run {folder.scenario} --out {folder.path.parent} --again"
