"""The verbs: run a scenario, attack a finished run again, write its report again."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import pyarrow as pa
import pyarrow.parquet as pq

from attacks.malicious.making import MAKERS
from attacks.mask_recovery import NAME as MASK_RECOVERY
from sim import manifest
from sim.beyond import beyond_membership
from sim.controls import controls
from sim.data.federation import noted
from sim.data.registry import OWN
from sim.engines import ENGINES
from sim.errors import InputError
from sim.export import export, exports
from sim.federate import federate
from sim.files import write_atomically
from sim.folder import (
    LAST_BEFORE_ATTACKS,
    RunFolder,
    folder_of,
    is_run_folder,
    make,
    open_finished,
    open_folder,
    read_stages,
    record_scenario,
    record_stage,
    start,
)
from sim.given import data_hash_of, federation_of, read_now
from sim.judge import SCHEMA, judge, table, truth_of
from sim.lock import locked, unchanged
from sim.manifest import OUTCOME, TARGET, data_hash
from sim.observe import observe
from sim.preflight import preflight
from sim.prepare import prepare, preparing
from sim.probe import probing
from sim.progress import Progress
from sim.recovery import recover_updates
from sim.report import write_report
from sim.results import Results
from sim.scenario import Scenario, load_scenario
from sim.stored import check_target, stored_results
from sim.structure import sentences, span_warnings
from sim.summary import summarise
from sim.tampering import scored


def run(
    scenario: Scenario, engine: str, parent: Path, progress: Progress, *, again: bool = False
) -> tuple[RunFolder, Results]:
    """The whole path, from scenario to report. The folder is written as it goes; results and report come last.

    A run that is finished already is not run again, nor is what an attack needs where it is there already, unless
    `again` asks for it.

    Raises:
        InputError: the scenario meets its data badly; another process has the folder; what lies there is damaged.
    """
    preflight(scenario)
    folder = folder_of(scenario, parent)
    if not again and (found := _finished(scenario, folder, progress)):
        return folder, found
    make(folder)
    with locked(folder.path, "run"):
        if not again and (found := _finished(scenario, folder, progress, alone=True)):
            return folder, found
        progress.say(f"run folder: {folder.path}")
        if again or not _prepared(folder):
            _train(scenario, engine, folder, progress)
        else:
            open_folder(folder.path)
            check_target(folder, scenario)
            if (known := manifest.read(folder.path)).scenario != scenario.sha256:
                record_scenario(folder, known, scenario)
            progress.say("its models are there and as they were written: going on with the attacks")
        return folder, attack(scenario, folder, progress)


def _train(scenario: Scenario, engine: str, folder: RunFolder, progress: Progress) -> None:
    """All that attacks are made on, and the attackers' reference models."""
    start(folder, "run", scenario, data_hash_of(scenario))
    for note in noted(federation_of(scenario)):
        progress.say(note)
    for sentence in sentences([each for each in span_warnings(scenario) if each.grade == "exact"]):
        progress.say(sentence)
    with _timed(folder, LAST_BEFORE_ATTACKS):
        with preparing(scenario, folder, progress):
            with _timed(folder, "federate"), progress.stage("federating", scenario.federation.rounds + 1):
                federate(scenario, ENGINES[engine], folder, progress, probing(scenario, folder, progress))
            with _timed(folder, "export"), progress.stage("exporting", 2 * len(exports(scenario))):
                export(scenario, folder, progress)
        _refuse_changed_data(scenario, folder)
        _record_new(folder)


def _refuse_changed_data(scenario: Scenario, folder: RunFolder) -> None:
    """Workers read the user's file for themselves, so it must be the same at the end as it was at the beginning."""
    own = scenario.data.source.startswith(OWN)
    if own and data_hash(read_now(scenario)) != manifest.read(folder.path).data:
        raise InputError(f"data.source = {scenario.data.source}: changed while this run read it. Run it again")


def _finished(scenario: Scenario, folder: RunFolder, progress: Progress, *, alone: bool = False) -> Results | None:
    """The results of a run that is there and whole; None where there is none, or it is not finished.

    `alone`: this process has the folder's lock.
    """
    if not folder.path.is_dir():
        return None
    if not alone:
        with unchanged(folder.path):
            return _finished(scenario, folder, progress, alone=True)
    if not (folder.path / manifest.NAME).exists() and not folder.results.exists():
        return None
    known, afresh = manifest.read(folder.path), "or run it afresh: the same command with --again"
    if folder.results.name not in known.files:
        return None
    remedy = f"Bring the files back from a copy, {afresh}. Where only results differ: seepage attack {folder.path}"
    manifest.check(folder.path, known, (*TARGET, *OUTCOME), remedy)
    if known.scenario != scenario.sha256:
        raise InputError(
            f"{folder.path}: was attacked again with other settings, see its scenario.toml. Attack it once more with "
            f"these: seepage attack {folder.path} --set …, {afresh}"
        )
    progress.say(f"{folder.path}: finished already, these are its results. To run it afresh: the same with --again")
    return stored_results(folder)


def _prepared(folder: RunFolder) -> bool:
    return (folder.path / manifest.NAME).exists() and LAST_BEFORE_ATTACKS in read_stages(folder)


def attack_again(path: Path, overrides: Iterable[str], progress: Progress) -> tuple[RunFolder, Results]:
    """Attack a finished run whose files are as they were written; `overrides` change settings of its attacks.

    Raises:
        InputError: something in the folder does not belong together; another process has it; an override is about
            something else than attacks, or names one that has to be there in training.
    """
    if not is_run_folder(path):
        open_folder(path)  # says what is wrong with it
    with locked(path, "attack"):
        folder, scenario = open_finished(path)
        wanted = load_scenario(folder.scenario, overrides)
        _refuse_other_settings(scenario, wanted)
        check_target(folder, scenario)
        if wanted != scenario:
            record_scenario(folder, manifest.read(path), wanted)
        return folder, attack(wanted, folder, progress)


def _refuse_other_settings(scenario: Scenario, wanted: Scenario) -> None:
    if wanted.model_copy(update={"attacks": scenario.attacks}) != scenario:
        raise InputError("--set: of a finished run only settings of its attacks can be changed, such as attacks.names")
    trained_for = {name for name in wanted.attacks.names if name in MAKERS or name == MASK_RECOVERY}
    if missing := sorted(trained_for - set(scenario.attacks.names)):
        raise InputError(
            f"--set attacks.names: {', '.join(missing)} had to be there when the federation was run. Run a scenario "
            "that names it"
        )


def attack(scenario: Scenario, folder: RunFolder, progress: Progress) -> Results:
    """Attack a federation whose models are there, score, and report. Nothing of the target is trained again.

    Whoever calls this has the folder's lock and knows that what lies there belongs together.
    """
    federation = scored(scenario)
    truth = truth_of(federation)
    prepared = prepare(scenario, folder, progress)
    _record_new(folder)
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
    _store(folder, results, table(judged))
    return results


def _store(folder: RunFolder, results: Results, scores: pa.Table) -> None:
    content = io.BytesIO()
    pq.write_table(scores, content)
    write_atomically(folder.scores, content.getvalue())
    write_atomically(folder.results, results.model_dump_json(by_alias=True, indent=2).encode())
    write_report(results, pq.read_table(folder.scores), folder.report)
    _record(folder, [folder.scores, folder.results, folder.report])


def _record(folder: RunFolder, paths: Iterable[Path]) -> None:
    manifest.record(folder.path, manifest.read(folder.path), paths)


def _record_new(folder: RunFolder) -> None:
    """Files of transcript, models and exports that this process has just written."""
    known = manifest.read(folder.path).files
    there = manifest.files_in_trees(folder.path)
    if new := [path for path in there if path.relative_to(folder.path).as_posix() not in known]:
        _record(folder, new)


def report(path: Path) -> tuple[RunFolder, Results]:
    """Write the report of a finished run again, from its results and scores alone.

    Raises:
        InputError: there are none, they are not what was written, or another process has the folder.
    """
    if not is_run_folder(path):
        open_folder(path)  # says what is wrong with it
    with locked(path, "report"):
        folder, _ = open_finished(path)
        results = stored_results(folder)
        if results is None:
            raise InputError(f"{path}: nothing to report yet. Finish it with: seepage attack {path}")
        try:
            scores = pq.read_table(folder.scores, schema=SCHEMA)
        except (OSError, pa.ArrowException) as error:
            raise InputError(
                f"{folder.scores}: damaged, or from another version. Write it again with: seepage attack {path}"
            ) from error
        write_report(results, scores, folder.report)
        _record(folder, [folder.report])
    return folder, results


@contextmanager
def _timed(folder: RunFolder, stage: str) -> Iterator[None]:
    started = monotonic()
    yield
    record_stage(folder, stage, monotonic() - started)
