"""What would make the global model fit its device, where it does not: other numbers, fewer channels, another board."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import numpy as np
from torch import nn

from clients.models import MODELS, ModelShapeError, build_model
from clients.randomness import generator, torch_generator
from edge.arena import measure_arenas
from edge.artifact import Artifact
from edge.config import Variant
from edge.cost import count
from edge.devices import DEVICES
from edge.export import export
from edge.remedy import Measured, remedies
from edge.runtimes import predict
from sim.export import Batch, calibration_records, export_bytes, kinds
from sim.federate import GLOBAL
from sim.folder import RunFolder
from sim.given import federation_of, stored_model
from sim.results import EdgeResult
from sim.scenario import Scenario

SHARES = (0.75, 0.5, 0.25)  # of the model's width, in whole groups of four channels


def what_would_fit(scenario: Scenario, folder: RunFolder, checked: list[EdgeResult]) -> list[str]:
    """Single changes after which the global model fits, each measured, the smallest first; none where it fits."""
    row = next(row for row in checked if row.target == "global")
    if row.fits:
        return []
    clients = federation_of(scenario).clients
    x = calibration_records(scenario, clients)
    model = stored_model(scenario, folder.models / GLOBAL)
    files = {name: export_bytes(scenario, model, x, name) for name in get_args(Variant)}
    smaller = {f"width {width}": export(narrow, x) for width, narrow in _narrower(scenario, x)}
    current, *others = _measured(files | smaller, scenario.edge.variants[0])
    shown = {name: _labels(file, x) for name, file in files.items()}
    usual = shown[scenario.edge.variants[0]]
    agreement = {name: float(np.mean(labels == usual)) for name, labels in shown.items()}
    found = remedies(
        DEVICES[scenario.edge.device],
        current,
        [_agreeing(each, agreement[each.name]) for each in others if each.name in files],
        [each for each in others if each.name in smaller],
    )
    return [remedy.words for remedy in found]


def _measured(files: dict[str, bytes], first: str) -> list[Measured]:
    """Every file's size and arena, the model in use first."""
    names = [first, *(name for name in files if name != first)]
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, f"{number}.tflite") for number in range(len(names))]
        for name, path in zip(names, paths, strict=True):
            path.write_bytes(files[name])
        arenas = measure_arenas(paths)
    return [
        Measured(name, len(files[name]), arena, kinds(count(files[name])))
        for name, arena in zip(names, arenas, strict=True)
    ]


def _agreeing(file: Measured, agreement: float) -> Measured:
    return Measured(file.name, file.model_bytes, file.arena_bytes, file.operators, agreement)


def _labels(file: bytes, x: Batch) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.asarray(predict(Artifact.from_bytes(file), x).argmax(1))


def _narrower(scenario: Scenario, x: Batch) -> Iterator[tuple[int, nn.Module]]:
    """The same architecture with fewer channels, untrained: sizes and arenas do not depend on the weights."""
    federation, width = federation_of(scenario), scenario.model.width or MODELS[scenario.model.name].width
    for narrow in dict.fromkeys(max(4, int(width * share) // 4 * 4) for share in SHARES):
        config = scenario.model.model_copy(update={"width": narrow})
        draw = torch_generator(generator(scenario.seed, "narrower", narrow))
        try:
            yield narrow, build_model(config, x.shape[1:], len(federation.classes), draw)
        except ModelShapeError:
            continue
