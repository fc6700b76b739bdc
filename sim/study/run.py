"""The verbs, for a study: run every part, attack every part again, write the report again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from sim import manifest
from sim import run as single
from sim.errors import InputError
from sim.files import write_atomically
from sim.folder import RunFolder, make, named, open_finished, open_folder, start
from sim.judge import SCHEMA
from sim.lock import locked
from sim.preflight import preflight
from sim.progress import Progress
from sim.results import Results
from sim.scenario import Scenario
from sim.stored import stored_results
from sim.study.evidence import shown
from sim.study.gather import gather
from sim.study.page import write_page
from sim.study.plan import Part, data_of, parts
from sim.study.results import StudyResults

DOCUMENT = "study.json"
_Run = tuple[Part, str, Results, pa.Table]


def run(
    scenario: Scenario, engine: str, parent: Path, progress: Progress, *, again: bool = False
) -> tuple[RunFolder, StudyResults]:
    """Every variant with every seed, each a whole run in the study's folder; then the study's own report.

    Runs that are finished already are not run again, unless `again` asks for it.
    """
    everything = parts(scenario)
    _preflight(everything)
    folder = named(scenario, parent, data_of(scenario))
    make(folder)
    with locked(folder.path, "run"):
        if again or not _same_study(folder, scenario):
            start(folder, "study", scenario, data_of(scenario))

        def one(part: Part) -> tuple[RunFolder, Results]:
            return single.run(part.scenario, engine, folder.path, progress, again=again)

        return folder, _together(scenario, folder, progress, one)


def attack(path: Path, progress: Progress) -> tuple[RunFolder, StudyResults]:
    """Attack every finished run of a study again; nothing of a target is trained again.

    Raises:
        InputError: a run is not finished, or is not as it was written; another process has the study or a run.
    """
    with locked(path, "attack"):
        folder, scenario = open_folder(path)
        places = _places(folder, scenario)
        for place in places.values():
            open_finished(place)  # all of them are there, before the first is attacked

        def one(part: Part) -> tuple[RunFolder, Results]:
            return single.attack_again(places[part], (), progress)

        return folder, _together(scenario, folder, progress, one)


def report(path: Path) -> tuple[RunFolder, StudyResults]:
    """Write the study's report again, from the results of its runs alone."""
    with locked(path, "report"):
        folder, scenario = open_folder(path)
        runs = [_stored(part, place) for part, place in _places(folder, scenario).items()]
        return folder, _write(scenario, folder, runs)


def _same_study(folder: RunFolder, scenario: Scenario) -> bool:
    """Whether this study was begun here. Raises InputError where its manifest or its scenario is damaged."""
    if not (folder.path / manifest.NAME).exists():
        return False
    return open_folder(folder.path)[1] == scenario


def _places(folder: RunFolder, scenario: Scenario) -> dict[Part, Path]:
    """Where each run of a study that came to its end lies."""
    everything, runs = parts(scenario), manifest.read(folder.path).runs
    if len(runs) != len(everything) or any(Path(name).name != name for name in runs):
        raise InputError(
            f"{folder.path}: {len(runs)} of the study's {len(everything)} runs are finished. Run the rest: seepage run "
            f"{folder.scenario} --out {folder.path.parent}"
        )
    return {part: folder.path / name for part, name in zip(everything, runs, strict=True)}


def _together(
    scenario: Scenario, folder: RunFolder, progress: Progress, one: Callable[[Part], tuple[RunFolder, Results]]
) -> StudyResults:
    runs, everything = [], parts(scenario)
    for number, part in enumerate(everything, start=1):
        progress.say(f"run {number} of {len(everything)}: variant {part.variant}, seed {part.scenario.seed}")
        place, _ = one(part)
        runs.append(_stored(part, place.path))
    return _write(scenario, folder, runs)


def _write(scenario: Scenario, folder: RunFolder, runs: list[_Run]) -> StudyResults:
    scored: dict[str, list[tuple[Results, pa.Table]]] = {}
    for part, _, results, scores in runs:
        scored.setdefault(part.variant, []).append((results, scores))
    study = gather(scenario, [(part, name, results) for part, name, results, _ in runs], shown(scored))
    document = folder.path / DOCUMENT
    write_atomically(document, study.model_dump_json(by_alias=True, indent=2).encode())
    write_page(study, folder.report)
    known = manifest.read(folder.path).model_copy(update={"runs": [name for _, name, *_ in runs]})
    manifest.record(folder.path, known, [document, folder.report])
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


def _stored(part: Part, path: Path) -> _Run:
    folder, _ = open_finished(path)
    results = stored_results(folder)
    if results is None:
        raise InputError(f"{path}: not finished. Attack the study again with: seepage attack {path.parent}")
    try:
        return part, path.name, results, pq.read_table(folder.scores, schema=SCHEMA)
    except (OSError, pa.ArrowException) as error:
        raise InputError(
            f"{folder.scores}: damaged, or from another version. Attack the study again with: seepage attack "
            f"{path.parent}"
        ) from error
