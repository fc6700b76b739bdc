"""`seepage export`: one model of a finished run as a bundle to ship, and on request as firmware that was run."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from attacks.registry import ATTACKS
from clients.training import logits
from edge import bundle, firmware
from edge.arena import measure_arenas
from edge.artifact import Artifact
from edge.bundle import Agreement, Attack, Board, Budget, Control, Cost, Data, Facts, Training, Tried
from edge.bundle import Calibration as Calibrated
from edge.check import compare, silent_words
from edge.config import Variant
from edge.cost import count, energy, latency
from edge.devices import DEVICES, fits
from edge.runtimes import RUNTIMES, CannotRunError, run
from edge.training_file import training_file
from sim.data.federation import ClientData
from sim.errors import InputError
from sim.export import Batch, calibration_card, calibration_records, export_bytes, kinds, silent_layers, unseen
from sim.federate import GLOBAL
from sim.files import write_atomically
from sim.folder import RunFolder, personal_name
from sim.given import federation_of, stored_model
from sim.report import words
from sim.results import AttackResult, Estimated, Results
from sim.results import Budget as Promise
from sim.scenario import Scenario
from sim.shipped import flash, stem
from sim.stored import stored_results

TRIED = 100  # held-out records that each runtime is given
RECORDS = 20  # held-out records that the emulated firmware is run on
LOW = "0.01"


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written, and what the emulated firmware did, if it was asked for."""

    folder: Path
    manifest: bundle.Manifest
    firmware: Path | None
    emulated: dict[str, object] | None


def export_bundle(
    scenario: Scenario,
    folder: RunFolder,
    model: str,
    variant: Variant | None,
    device: str | None,
    core: str | None,
    out: Path | None,
    say: Callable[[str], None],
) -> Exported:
    """Write the bundle of one model: `global`, or a client's number. Raises InputError for what cannot be exported."""
    name, owners = _which(scenario, model)
    chosen: Variant = variant or scenario.edge.variants[0]
    board = device or scenario.edge.device
    _check_device(board)
    blob = _bytes(scenario, folder, name, owners, chosen)
    parent = out or folder.path / "bundles"
    place = parent / f"{name}-{chosen}"
    emulated, package, instructions = None, None, None
    if core is not None:
        say(f"building firmware for {core} and running it on {RECORDS} held-out records")
        package = parent / f"{name}-{chosen}-{core}"
        emulated, instructions = _firmware(blob, unseen(scenario, owners), core, package)
    say("measuring the arena, and comparing with the float model")
    facts = _facts(scenario, folder, name, owners, chosen, board, blob, emulated, instructions)
    try:
        manifest = bundle.write_bundle(place, blob, facts)
    except bundle.BundleError as error:
        raise InputError(f"{error}. Name another place with --out") from error
    if scenario.edge.head and name == "global":
        head = flash(scenario, folder).head
        config = scenario.edge.head
        file = training_file(head, config.batch_size, config.learning_rate)
        write_atomically(parent / f"{name}-{chosen}-head-training.tflite", file)
    return Exported(place, manifest, package, emulated)


def _which(scenario: Scenario, model: str) -> tuple[str, tuple[ClientData, ...]]:
    clients = federation_of(scenario).clients
    if model == "global":
        return "global", clients
    for client in clients:
        if model in (str(client.client), personal_name(client.client)):
            return personal_name(client.client), (client,)
    raise InputError(
        f"--model {model}: no such model in this run; there is global, and client numbers from 0 to {len(clients) - 1}"
    )


def _check_device(device: str) -> None:
    if device not in DEVICES:
        raise InputError(f"--device {device}: not known; choose one of {', '.join(DEVICES)}")


def _bytes(scenario: Scenario, folder: RunFolder, name: str, owners: tuple[ClientData, ...], variant: Variant) -> bytes:
    """The run's own file, or for a variant that it did not ask for a new one from the same model and calibration."""
    if variant in scenario.edge.variants:
        return folder.artifact(stem(scenario, name, variant)).read_bytes()
    file = folder.models / (GLOBAL if name == "global" else f"{name}.safetensors")
    return export_bytes(scenario, stored_model(scenario, file), calibration_records(scenario, owners), variant)


def _firmware(blob: bytes, x: Batch, core: str, package: Path) -> tuple[dict[str, object], int]:
    """Build, run and pack; what the emulator counted, and whether its answers are TFLite Micro's."""
    if core not in firmware.CORES:
        raise InputError(f"--firmware {core}: not known; choose one of {', '.join(firmware.CORES)}")
    if package.exists() and any(package.iterdir()):
        raise InputError(f"{package}: is there already. Remove it, or name another place with --out")
    artifact = Artifact.from_bytes(blob)
    levels = artifact.quantize_input(x[:RECORDS])
    try:
        with tempfile.TemporaryDirectory() as place:
            made = firmware.build(blob, Path(place, "firmware"), core)
            ran = firmware.run(made, levels)
            firmware.pack(made, package)
            counted = firmware.facts(made, ran)
    except (firmware.ToolMissingError, firmware.FirmwareError, CannotRunError) as error:
        raise InputError(f"--firmware {core}: {error}") from error
    differing = int((ran.outputs != run(artifact, levels, "tflm")).any(axis=1).sum())
    counted |= {"records_compared": len(levels), "records_differing_from_tflite_micro": differing}
    write_atomically(package / "emulated.json", (json.dumps(counted, indent=2) + "\n").encode())
    return counted, ran.instructions


def _facts(
    scenario: Scenario,
    folder: RunFolder,
    name: str,
    owners: tuple[ClientData, ...],
    variant: Variant,
    device: str,
    blob: bytes,
    emulated: dict[str, object] | None,
    instructions: int | None,
) -> Facts:
    board, work, tried = DEVICES[device], count(blob), _tried(blob, unseen(scenario, owners), emulated)
    with tempfile.NamedTemporaryFile(suffix=".tflite") as file:
        file.write(blob)
        file.flush()
        (arena,) = measure_arenas([Path(file.name)])
    time = latency(work, board, instructions)
    results = stored_results(folder)
    federation, calibration = federation_of(scenario), calibration_card(scenario)
    return Facts(
        name=f"{name}-{variant}",
        variant=variant,
        runtimes=tuple(each.runtime for each in tried if each.differing is not None),
        tried=tried,
        training=Training(
            scenario=scenario.name,
            scenario_hash=scenario.fingerprint,
            seed=scenario.seed,
            target="global" if name == "global" else f"personal, client {owners[0].client}",
            versions=results.versions if results else {},
        ),
        data=Data(
            title=federation.title,
            source=federation.source,
            licence=federation.licence,
            synthetic=results.data.synthetic if results else federation.synthetic,
            classes=federation.classes,
            channels=federation.channels,
            hertz=federation.hertz,
        ),
        calibration=Calibrated(
            source=calibration.source,
            records=len(calibration_records(scenario, owners)),
            description=calibration.description,
            rounded_ranges=scenario.edge.round_ranges,
            silent_layers=silent_layers(scenario, folder, name, owners, blob),
        ),
        agreement=_agreement(scenario, folder, name, owners, blob),
        arena_bytes=arena,
        macs=work.total_macs,
        board=Board.of(fits(board, len(blob), arena, operators=kinds(work))),
        latency=Cost.of(time),
        energy=Cost.of(energy(time, board)),
        budgets=_budgets(results),
        caveats=tuple(results.protection.caveats) if results and results.protection else (),
        audit=_audit(results, name, variant),
        controls=_controls(results),
        unknown=_unknown(results, name),
    )


def _agreement(
    scenario: Scenario, folder: RunFolder, name: str, owners: tuple[ClientData, ...], blob: bytes
) -> Agreement:
    file = folder.models / (GLOBAL if name == "global" else f"{name}.safetensors")
    x = unseen(scenario, owners)
    found = compare(Artifact.from_bytes(blob, scenario.edge.output), x, logits(stored_model(scenario, file), x))
    return Agreement(
        records=len(x),
        top1=found.top1_agreement,
        largest_error=found.max_logit_error,
        mean_error=found.mean_logit_error,
    )


def _tried(blob: bytes, x: Batch, emulated: dict[str, object] | None) -> tuple[Tried, ...]:
    """What each runtime that is here makes of the file, on the same records; QEMU where firmware was asked for."""
    artifact = Artifact.from_bytes(blob)
    levels = artifact.quantize_input(x[:TRIED])
    device = run(artifact, levels, "tflm")
    found = [Tried(runtime="tflm", records=len(levels), differing=0)]
    for name in ("device-arithmetic", "litert", "tflite-runtime"):
        if RUNTIMES[name].missing() is not None:
            continue
        try:
            differing = int((run(artifact, levels, name) != device).any(axis=1).sum())
            found.append(Tried(runtime=name, records=len(levels), differing=differing))
        except CannotRunError as error:
            found.append(Tried(runtime=name, records=len(levels), differing=None, why=str(error).rstrip(".")))
    if emulated is not None:
        records, differs = emulated["records_compared"], emulated["records_differing_from_tflite_micro"]
        found.append(Tried(runtime="qemu", records=int(str(records)), differing=int(str(differs))))
    return tuple(found)


def _budgets(results: Results | None) -> tuple[Budget, ...] | None:
    if results is None:
        return None
    return tuple(map(_budget, results.budgets))


def _budget(row: Promise) -> Budget:
    """A shipped model's card promises no epsilon for noise that follows from the seed which stands in the same card."""
    wanted = ("unit", "vantage", "epsilon", "delta", "adjacency", "accountant", "why")
    budget = Budget(**{key: getattr(row, key) for key in wanted})
    if row.noise != "seed":
        return budget
    why = f"The noise follows from the seed that this card names: whoever reads it can take the noise off ({row.why})."
    return Budget(unit=row.unit, vantage=row.vantage, epsilon="inf", delta=None, adjacency=None, why=why)


def _audit(results: Results | None, name: str, variant: Variant) -> tuple[Attack, ...] | None:
    """The strongest attack of each vantage on this model, or all of its kind; of the server, on the training."""
    if results is None:
        return None
    target = "global" if name == "global" else "personal"
    rows = [row for row in results.attacks if row.output is None or (row.target, row.precision) == (target, variant)]
    best = {row.vantage: row for row in sorted(rows, key=lambda row: row.auc)}
    return tuple(_attack(row) for row in best.values())


def _attack(row: AttackResult) -> Attack:
    cell = row.tpr_at_fpr.get(LOW)
    return Attack(
        vantage=row.vantage,
        attack=ATTACKS[row.attack].title if row.attack in ATTACKS else row.attack,
        target=f"{row.target} {row.precision}" if row.output else "the training",
        auc=row.auc,
        auc_ci=row.auc_ci,
        tpr=cell.tpr if cell else None,
        tpr_ci=cell.ci if cell else None,
        fpr=float(LOW) if cell else None,
        members=row.members,
        nonmembers=row.nonmembers,
    )


def _controls(results: Results | None) -> tuple[Control, ...]:
    if results is None:
        return ()
    both = (("blind", results.controls.blind), ("stranger", results.controls.stranger))
    return tuple(Control(name=name, auc=control.auc, auc_ci=control.auc_ci) for name, control in both)


def _unknown(results: Results | None, name: str) -> tuple[str, ...]:
    if results is None:
        return ("This run was not attacked, so nothing is known of what the model gives away.",)
    said = ["Attacks that were not tried may find more.", "The figures are of one training run."]
    if name != "global":
        said.append("Attack figures are of all personal models of the run together, not of this one alone.")
    return tuple(said)


def render(made: Exported, console: Console) -> None:
    """Print what a person who ships the model wants to know first; the rest is in the model card."""
    facts = made.manifest.facts
    rows = {"bundle": str(made.folder), "model": f"{facts.name}: {', '.join(made.manifest.files)}"}
    if facts.board:
        rows["fit"] = f"{'fits' if facts.board.fits else 'DOES NOT FIT'} {facts.board.title}: {facts.board.words}"
    for what, cost in (("one inference", facts.latency), ("energy", facts.energy)):
        if cost is not None:
            found = Estimated(interval=cost.interval, unit=cost.unit, anchor=cost.anchor)
            rows[what] = f"{words.estimated(found)}: {cost.anchor}"
    if facts.agreement:
        rows["same label as float"] = f"{words.percent(facts.agreement.top1)} of {facts.agreement.records:,} records"
        mean, most = facts.agreement.mean_error, facts.agreement.largest_error
        rows["off from float by"] = f"{most:.3g} at most" + ("" if mean is None else f", {mean:.2g} on average")
    if facts.calibration and facts.calibration.silent_layers:
        rows["dead layers"] = silent_words(facts.calibration.silent_layers)
    if made.emulated:
        rows["firmware"] = str(made.firmware)
        rows["emulated"] = _emulated(made.emulated)
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in rows.items():
        grid.add_row(Text(name), Text(value))
    console.print(grid)


def _emulated(counted: dict[str, object]) -> str:
    differing, compared = counted["records_differing_from_tflite_micro"], counted["records_compared"]
    ran = counted["emulated"]
    assert isinstance(ran, dict)
    return (
        f"{differing} of {compared} records differ from TFLite Micro; {ran['instructions']:,} instructions and "
        f"{ran['stack_bytes']:,} bytes of stack per inference"
    )
