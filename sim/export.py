"""The export stage: every model becomes an int8 artefact for the named microcontroller, checked against its parent."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from torch import nn
from torch.export import ExportedProgram

from clients.randomness import generator
from clients.training import logits
from edge.arena import measure_arenas
from edge.artifact import Artifact
from edge.check import compare, silent_words
from edge.coarse import coarse_ranges
from edge.config import Variant
from edge.cost import Estimate, Work, count, energy, latency
from edge.devices import DEVICES, Device, fits
from edge.export import ExportWarning, UnsupportedLayerError, silent, trace
from edge.export import export as export_model
from edge.vela import VelaError, compile_for_npu
from sim.data.federation import ClientData, Labelled
from sim.errors import InputError
from sim.federate import GLOBAL
from sim.files import write_atomically
from sim.folder import RunFolder, personal_name
from sim.given import federation_of, fresh_model, stored_model
from sim.progress import Progress
from sim.report import words
from sim.results import Calibration, EdgeResult, Estimated
from sim.scenario import Scenario
from sim.shipped import stem, train_heads

Batch = Float[np.ndarray, "records ..."]


@dataclass(frozen=True, slots=True)
class Export:
    """One file to be made: of which model, with whose records at hand, quantised how."""

    name: str
    owners: tuple[ClientData, ...]
    variant: Variant

    def file(self, scenario: Scenario, folder: RunFolder) -> Path:
        """Where it lies."""
        return folder.artifact(stem(scenario, self.name, self.variant))


CHECKS = "checks.json"
CALIBRATION = {
    "population": "records of the attacker's population, which stand for public data: no client's records",
    "members": "the records the model was trained on: its ranges are then part of what leaks",
    "held-out": "records of the same clients that no model was trained on",
}


def export(scenario: Scenario, folder: RunFolder, progress: Progress) -> None:
    """Export the global and all personal models; fills `edge/` with artefacts and what their checks found."""
    jobs = exports(scenario)
    for job in jobs:
        model = stored_model(scenario, folder.models / (GLOBAL if job.name == "global" else f"{job.name}.safetensors"))
        blob = export_bytes(scenario, model, calibration_records(scenario, job.owners), job.variant)
        write_atomically(job.file(scenario, folder), blob)
        progress.step(f"{job.name} {job.variant}")
    if scenario.edge.head:
        train_heads(scenario, folder, federation_of(scenario).clients)
    files = [job.file(scenario, folder) for job in jobs]
    arenas = measure_arenas(files, done=lambda count: progress.step(f"arenas: {count} of {len(files)}", count=0))
    checked = []
    for job, arena in zip(jobs, arenas, strict=True):
        checked.append(_check(scenario, folder, job, arena))
        progress.step(f"{job.name} {job.variant}, beside the float model")
    for said in _said(checked):
        progress.say(said)
    document = json.dumps([result.model_dump() for result in checked], indent=2)
    write_atomically(folder.edge / CHECKS, document.encode())


def exports(scenario: Scenario) -> list[Export]:
    """All files that the scenario asks for, the variant that ships first."""
    clients = federation_of(scenario).clients
    models: list[tuple[str, tuple[ClientData, ...]]] = [("global", clients)]
    models += [(personal_name(client.client), (client,)) for client in clients]
    return [Export(name, owners, variant) for variant in scenario.edge.variants for name, owners in models]


def export_bytes(scenario: Scenario, model: nn.Module, calibration: Batch, variant: str | None = None) -> bytes:
    """One model as the scenario ships it, or as another variant."""
    chosen = variant or scenario.edge.variants[0]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExportWarning)  # the export stage says it of what ships
            exported = export_model(model, calibration, chosen, scenario.edge.output, _traced(scenario))
    except UnsupportedLayerError as error:
        raise InputError(f"model.name = '{scenario.model.name}', edge.variants: {error}") from error
    ratio = scenario.edge.round_ranges
    return exported if ratio is None else coarse_ranges(exported, ratio)


@lru_cache(maxsize=1)
def _traced(scenario: Scenario) -> ExportedProgram:
    """All models of a run have one architecture, so one trace serves them all."""
    return trace(fresh_model(scenario), federation_of(scenario).population.x)


def calibration_records(scenario: Scenario, owners: tuple[ClientData, ...]) -> Batch:
    """The records that set a model's quantisation ranges, as the scenario chooses them; its owners may have none."""
    if scenario.edge.calibration == "population":
        return drawn(scenario, federation_of(scenario).population.x)
    pool = np.concatenate([x for x, _ in calibration_pools(scenario, owners)])
    return drawn(scenario, pool if len(pool) else federation_of(scenario).population.x)


def calibration_pools(scenario: Scenario, owners: tuple[ClientData, ...]) -> list[Labelled]:
    """Each owner's records that calibration draws from, where it does not draw from the population."""
    member = scenario.edge.calibration == "members"
    return [client.members if member else client.held_out for client in owners]


def drawn(scenario: Scenario, pool: Batch) -> Batch:
    """As many of `pool` as the scenario calibrates with."""
    return np.asarray(pool[drawn_rows(scenario, len(pool))])


def drawn_rows(scenario: Scenario, size: int) -> Int[np.ndarray, " drawn"]:
    """Which of `size` records those are."""
    count = min(scenario.edge.calibration_records, size)
    return np.asarray(np.sort(generator(scenario.seed, "calibration").choice(size, count, replace=False)))


def calibration_card(scenario: Scenario) -> Calibration:
    """What was used to calibrate, for the record."""
    edge, clients = scenario.edge, federation_of(scenario).clients
    fewest = min(len(calibration_records(scenario, (client,))) for client in clients)
    return Calibration(source=edge.calibration, records=fewest, description=CALIBRATION[edge.calibration])


def kinds(work: Work) -> int:
    """How many kinds of operators a model has."""
    return len(work.macs) + len(work.elements)


def _said(checked: list[EdgeResult]) -> Iterator[str]:
    """Every variant's distance from its float parents, and the layers that it holds at zero."""
    for variant, target in dict.fromkeys((row.variant, row.target) for row in checked):
        rows = [row for row in checked if (row.variant, row.target) == (variant, target)]
        same = words.percent_span([row.top1_agreement for row in rows])
        yield (
            f"{target} {variant}, beside the float model on held-out records: off by {words.export_errors(rows)}; "
            f"the same label for {same}"
        )
    for row in checked:
        if row.silent_layers:
            yield f"{row.artifact}: {silent_words(row.silent_layers)}"


def checks(folder: RunFolder) -> list[EdgeResult]:
    """What the export stage found."""
    return [EdgeResult(**check) for check in json.loads((folder.edge / CHECKS).read_text())]


def unseen(scenario: Scenario, owners: tuple[ClientData, ...]) -> Batch:
    """Records that the owners' models never trained on: held-out ones, or the population's where there are none."""
    held_out = np.concatenate([client.held_out[0] for client in owners])
    return held_out if len(held_out) else federation_of(scenario).population.x


def _check(scenario: Scenario, folder: RunFolder, job: Export, arena: int) -> EdgeResult:
    """Compare on held-out records: what the device will see in use."""
    name, owners, file = job.name, job.owners, job.file(scenario, folder)
    model = stored_model(scenario, folder.models / (GLOBAL if name == "global" else f"{name}.safetensors"))
    blob = file.read_bytes()
    x = unseen(scenario, owners)
    found = compare(Artifact.from_bytes(blob, scenario.edge.output), x, logits(model, x))
    device, work = DEVICES[scenario.edge.device], count(blob)
    size, time = _on_board(blob, arena, work, device)
    fit = fits(device, *size, operators=kinds(work))
    return EdgeResult(
        artifact=f"edge/{file.name}",
        variant=job.variant,
        target="global" if name == "global" else "personal",
        client=None if name == "global" else owners[0].client,
        device=device.name,
        bytes=len(blob),
        arena_bytes=arena,
        fits=fit.fits,
        fit=fit.words,
        macs=work.total_macs,
        latency=_estimated(time),
        energy=_estimated(energy(time, device)),
        top1_agreement=found.top1_agreement,
        max_logit_error=found.max_logit_error,
        mean_logit_error=found.mean_logit_error,
        silent_layers=silent_layers(scenario, folder, name, owners, blob),
        rows_compared=found.rows_compared,
        litert_rows_differing=found.litert_rows_differing,
        litert_labels_differing=found.litert_labels_differing,
    )


def silent_layers(
    scenario: Scenario, folder: RunFolder, name: str, owners: tuple[ClientData, ...], blob: bytes
) -> tuple[str, ...]:
    """Layers of an exported model that gave nothing but zeros on its calibration records."""
    model = stored_model(scenario, folder.models / (GLOBAL if name == "global" else f"{name}.safetensors"))
    return silent(model, calibration_records(scenario, owners), blob, lambda: _traced(scenario))


def _on_board(blob: bytes, arena: int, work: Work, device: Device) -> tuple[tuple[int, int], Estimate]:
    """Flash and RAM for the model in bytes, and what one inference takes; on an NPU as its compiler has them."""
    if device.npu is None:
        return (len(blob), arena), latency(work, device)
    try:
        compiled = compile_for_npu(blob, device.npu)
    except VelaError as error:
        why = f"{error}, so it is taken to run on the processor beside {device.npu}, whose speed is not known"
        return (len(blob), arena), Estimate(None, "ms", why)
    return compiled.sizes(arena), compiled.latency


def _estimated(found: Estimate) -> Estimated:
    return Estimated(interval=found.interval, unit=found.unit, anchor=found.anchor)
