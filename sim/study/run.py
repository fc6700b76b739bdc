"""The verbs, for a study: run every part, attack every part again, write the report again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from sim import run as single
from sim.errors import InputError
from sim.folder import RunFolder, create, open_finished, write_atomically
from sim.preflight import preflight
from sim.progress import Progress
from sim.results import Results
from sim.scenario import Scenario
from sim.study.gather import gather
from sim.study.page import write_page
from sim.study.plan import Part, parts, place
from sim.study.results import StudyResults

DOCUMENT = "study.json"


def run(scenario: Scenario, engine: str, parent: Path, progress: Progress) -> tuple[RunFolder, StudyResults]:
    """Every variant with every seed, each a whole run in the study's folder; then the study's own report."""
    everything = parts(scenario)
    _preflight(everything)
    folder = create(scenario, parent)

    def one(part: Part) -> Results:
        return single.run(part.scenario, engine, folder.path, progress)[1]

    return folder, _together(scenario, folder, progress, one)


def attack(scenario: Scenario, folder: RunFolder, progress: Progress) -> StudyResults:
    """Attack every finished run of a study again; nothing of a target is trained again."""
    for part in parts(scenario):
        open_finished(place(folder, part).path)  # all of them are there, before the first is attacked

    def one(part: Part) -> Results:
        return single.attack(part.scenario, place(folder, part), progress)

    return _together(scenario, folder, progress, one)


def report(scenario: Scenario, folder: RunFolder) -> StudyResults:
    """Write the study's report again, from the results of its runs alone."""
    runs = [(part, place(folder, part)) for part in parts(scenario)]
    return _write(scenario, folder, [(part, place.path.name, _stored(place)) for part, place in runs])


def _together(
    scenario: Scenario, folder: RunFolder, progress: Progress, one: Callable[[Part], Results]
) -> StudyResults:
    runs, everything = [], parts(scenario)
    for number, part in enumerate(everything, start=1):
        progress.say(f"run {number} of {len(everything)}: variant {part.variant}, seed {part.scenario.seed}")
        runs.append((part, place(folder, part).path.name, one(part)))
    return _write(scenario, folder, runs)


def _write(scenario: Scenario, folder: RunFolder, runs: list[tuple[Part, str, Results]]) -> StudyResults:
    study = gather(scenario, runs)
    write_atomically(folder.path / DOCUMENT, study.model_dump_json(by_alias=True, indent=2).encode())
    write_page(study, folder.report)
    return study


def _preflight(everything: list[Part]) -> None:
    """What makes any part impossible, before any work."""
    faults = []
    for part in {part.variant: part for part in reversed(everything)}.values():
        try:
            preflight(part.scenario)
        except InputError as error:
            faults.append(f"variant {part.variant}: {error}")
    if faults:
        raise InputError("\n".join(faults))


def _stored(folder: RunFolder) -> Results:
    try:
        return Results.model_validate_json(folder.results.read_text())
    except (OSError, ValidationError) as error:
        raise InputError(
            f"{folder.path}: not finished, or from another version. Attack the study again with: seepage attack "
            f"{folder.path.parent}"
        ) from error
