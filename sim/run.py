"""The verbs: run a scenario, attack a finished run again, write its report again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from sim.beyond import beyond_membership
from sim.controls import controls
from sim.data.federation import noted
from sim.engines import ENGINES
from sim.errors import InputError
from sim.export import export, exports
from sim.federate import federate
from sim.folder import RunFolder, create, open_finished, record_stage, write_atomically
from sim.given import federation_of
from sim.judge import SCHEMA, judge, table, truth_of
from sim.observe import observe
from sim.preflight import preflight
from sim.prepare import prepare, preparing
from sim.probe import probing
from sim.progress import Progress
from sim.recovery import recover_updates
from sim.report import write_report
from sim.results import Results
from sim.scenario import Scenario
from sim.structure import sentences, span_warnings
from sim.summary import summarise
from sim.tampering import scored


def run(scenario: Scenario, engine: str, parent: Path, progress: Progress) -> tuple[RunFolder, Results]:
    """The whole path, from scenario to report. The folder is written as it goes; results and report come last."""
    preflight(scenario)
    folder = create(scenario, parent)
    progress.say(f"run folder: {folder.path}")
    for note in noted(federation_of(scenario)):
        progress.say(note)
    for sentence in sentences([each for each in span_warnings(scenario) if each.grade == "exact"]):
        progress.say(sentence)
    with _timed(folder, "prepare"), preparing(scenario, folder, progress):
        with _timed(folder, "federate"), progress.stage("federating", scenario.federation.rounds + 1):
            federate(scenario, ENGINES[engine], folder, progress, probing(scenario, folder, progress))
        with _timed(folder, "export"), progress.stage("exporting", len(exports(scenario))):
            export(scenario, folder, progress)
    return folder, attack(scenario, folder, progress)


def attack(scenario: Scenario, folder: RunFolder, progress: Progress) -> Results:
    """Attack a federation whose models are there, score, and report. Nothing of the target is trained again."""
    federation = scored(scenario)
    truth = truth_of(federation)
    prepared = prepare(scenario, folder, progress)
    with _timed(folder, "attack"):
        targets = observe(scenario, folder, prepared)
        judged, refused = judge(scenario, targets, truth, progress)
        recoveries, lacking = recover_updates(scenario, folder, progress)
        beyond = beyond_membership(scenario, folder, federation, targets, progress)
    if not judged:
        reasons = "; ".join(dict.fromkeys(each.reason for each in refused))
        raise InputError(f"attacks.names: none of them can be tried here ({reasons}). Name another as well")
    with _timed(folder, "controls"), progress.stage("running the controls"):
        both = controls(scenario, federation, prepared, truth)
    refused += [*lacking, *beyond.refused]
    results = summarise(scenario, folder, federation, targets, judged, refused, recoveries, beyond, both, truth)
    part = folder.scores.with_suffix(".part")
    pq.write_table(table(judged), part)
    part.replace(folder.scores)
    write_atomically(folder.results, results.model_dump_json(by_alias=True, indent=2).encode())
    write_report(results, pq.read_table(folder.scores), folder.report)
    return results


def report(path: Path) -> tuple[RunFolder, Results]:
    """Write the report of a finished run again, from its results and scores alone."""
    folder, _ = open_finished(path)
    if not folder.results.exists() or not folder.scores.exists():
        raise InputError(f"{path}: nothing to report yet. Finish it with: seepage attack {path}")
    try:
        results = Results.model_validate_json(folder.results.read_text())
        scores = pq.read_table(folder.scores, schema=SCHEMA)
    except (ValidationError, pa.ArrowException) as error:
        raise InputError(
            f"{path}: damaged, or from another version. Write it again with: seepage attack {path}"
        ) from error
    write_report(results, scores, folder.report)
    return folder, results


@contextmanager
def _timed(folder: RunFolder, stage: str) -> Iterator[None]:
    started = monotonic()
    yield
    record_stage(folder, stage, monotonic() - started)
