"""Every model in every variant: size, closeness to float, equality with the device, instructions, boards it fits.

Run: python benchmarks/edge_table.py [--models cnn,ds-cnn+group] [--quick] [--keep FOLDER]        (half an hour)
Each model is trained for a moment on structured synthetic records, exported in every one of `VARIANTS`, and measured on
records that it has not seen. With every model measured docs/edge-models.md is written anew. With --quick (few records,
little training) or only some models the tables are printed. --keep holds what is finished, so that a rerun goes on.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy, mse_loss

from clients.models import MODELS, new_model, parameter_count
from edge import firmware
from edge.arena import ArenaError, measure_arenas
from edge.artifact import Artifact
from edge.cost import count, latency
from edge.devices import DEVICES, fits_all
from edge.export import VARIANTS, UnsupportedLayerError, export, trace
from edge.firmware.toolchain import versions
from edge.reading import kinds_of, unpacked
from edge.runtimes import CannotRunError, run

PAGE = Path(__file__).parents[1] / "docs" / "edge-models.md"
START, END = "<!-- tables: written by benchmarks/edge_table.py -->", "<!-- /tables -->"
BOARD = "nano-33-ble-sense"
TRAINED, CALIBRATED, FRESH, RANDOM, EMULATED = 1000, 200, 200, 100, 20  # records


@dataclass(frozen=True)
class Case:
    """A model at its native shape, and how long it has to learn."""

    name: Any
    shape: tuple[int, ...]
    classes: int
    norm: Any = "none"
    steps: int = 200
    rate: float = 1e-3

    @property
    def title(self) -> str:
        return self.name + ("" if self.norm == "none" else f"+{self.norm}")


CASES = (
    Case("mlp", (561,), 6),
    Case("cnn", (1, 28, 28), 10),
    Case("cnn1d", (9, 128), 6),
    Case("cnn1d", (9, 128), 6, "group", rate=3e-3),
    Case("autoencoder", (640,), 10, steps=600),
    Case("ds-cnn", (1, 49, 10), 12, steps=150),
    Case("ds-cnn", (1, 49, 10), 12, "group", steps=120, rate=3e-3),
    Case("resnet8", (3, 32, 32), 10, steps=90),
    Case("mobilenet-v1-0.25", (3, 96, 96), 2, steps=30),
)


def records(case: Case, number: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Three waves per class, each record with its own phases and strengths, under as much noise; 5 % false labels."""
    waves, rng = _waves(case), np.random.default_rng([1, seed])
    y = rng.integers(0, case.classes, number)
    own = (number, 3, *[1] * len(case.shape))
    phases, strengths = rng.uniform(-0.8, 0.8, own), rng.uniform(0.3, 1, own)
    x = np.stack([(s * np.cos(waves[k] + p)).sum(0) for k, p, s in zip(y, phases, strengths, strict=True)])
    x += rng.normal(size=x.shape)
    return x.astype(np.float32), np.where(rng.random(number) < 0.05, rng.integers(0, case.classes, number), y)


def _waves(case: Case) -> np.ndarray:
    """The angle of each wave of each class at each number of a record: 1 to 6 turns along every axis."""
    rng = np.random.default_rng(0)
    each = (case.classes, 3, *[1] * len(case.shape))
    turns = [
        rng.integers(1, 7, each) * side / size for side, size in zip(np.indices(case.shape), case.shape, strict=True)
    ]
    return np.asarray(2 * np.pi * sum(turns) + rng.uniform(0, 2 * np.pi, each))


def trained(case: Case, quick: bool) -> torch.nn.Module:
    model = new_model(case.name, case.shape, case.classes, torch.Generator().manual_seed(0), norm=case.norm)
    x, y = (torch.from_numpy(part) for part in records(case, TRAINED, 0))
    rebuilds = MODELS[case.name].task == "reconstruction"
    optimizer, rng = torch.optim.Adam(model.parameters(), case.rate), torch.Generator().manual_seed(1)
    for _ in range(20 if quick else case.steps):
        rows = torch.randint(len(x), (64,), generator=rng)
        answers = model(x[rows])
        loss = mse_loss(answers, x[rows].flatten(1)) if rebuilds else cross_entropy(answers, y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def measured(case: Case, quick: bool) -> dict[str, Any]:
    """One model, as it is in torch and in every variant."""
    told(f"{case.title}: training")
    model = trained(case, quick)
    calibration = records(case, 20 if quick else CALIBRATED, 1)[0]
    x, y = records(case, 20 if quick else FRESH, 2)
    with torch.no_grad():
        answers = model(torch.from_numpy(x)).numpy()
    rebuilds = MODELS[case.name].task == "reconstruction"
    right = 1 - np.mean((answers - x) ** 2) / np.var(x) if rebuilds else np.mean(answers.argmax(1) == y)
    traced = trace(model, calibration)
    variants: dict[str, Any] = {}
    for variant in VARIANTS:
        told(f"{case.title}: {variant}")
        try:
            variants[variant] = file_row(export(model, calibration, variant, traced=traced), x, answers, rebuilds)
        except (UnsupportedLayerError, CannotRunError) as refusal:
            variants[variant] = {"refusal": str(refusal)}
    return {
        "parameters": parameter_count(model),
        "right": float(right),
        "spread": float(answers.std()),
        "rebuilds": rebuilds,
        "variants": variants,
    }


def file_row(file: bytes, x: np.ndarray, answers: np.ndarray, rebuilds: bool) -> dict[str, Any]:
    artifact, work = Artifact.from_bytes(file, "logits"), count(file)
    levels = np.concatenate([artifact.quantize_input(x), random_levels(artifact)])
    device = run(artifact, levels, "tflm")
    scores = artifact.dequantize(device[: len(x)])
    emulated = [*range(EMULATED // 2), *range(len(x), len(x) + EMULATED // 2)]
    counted = counted_in_qemu(artifact, levels[emulated], device[emulated], work.total_macs)
    arena, why_no_arena = arena_of(file)
    time_ = latency(work, DEVICES[BOARD], counted.get("instructions"))
    fit = fits_all(len(file), arena or 0, operators=len(set(kinds_of(unpacked(file)))))
    return {
        "bytes": len(file),
        "arena": arena,
        "why_no_arena": why_no_arena,
        "macs": work.total_macs,
        "largest_error": float(np.abs(scores - answers).max()),
        "mean_error": float(np.abs(scores - answers).mean()),
        "agreement": None if rebuilds else float(np.mean(scores.argmax(1) == answers.argmax(1))),
        "margin": None if rebuilds else lead(answers, scores),
        "clipped": float(np.mean([(row != within(artifact, row)).any() for row in answers])),
        "arithmetic": differing(artifact, levels, device, "device-arithmetic"),
        "litert": differing(artifact, levels, device, "litert"),
        "qemu": counted,
        "milliseconds": time_.interval,
        "why_no_time": None if time_.interval else time_.anchor,
        "fits": {name: list(each.exceeded) for name, each in fit.items()},
    }


def lead(answers: np.ndarray, scores: np.ndarray) -> float:
    """By how much torch's first label led its second where the file gives another one: the most of any record."""
    other = answers.argmax(1) != scores.argmax(1)
    ranked = np.sort(answers, axis=1)[other]
    return float((ranked[:, -1] - ranked[:, -2]).max(initial=0))


def within(artifact: Artifact, answers: np.ndarray) -> np.ndarray:
    """Answers cut to the range of the file's output, which calibration set."""
    port = artifact.output
    if port.numbers == "float32":
        return answers
    ends = np.iinfo(port.numbers)
    return np.clip(answers, *port.real(np.array([ends.min, ends.max])))


def random_levels(artifact: Artifact) -> np.ndarray:
    """Uniform over the whole range of the input; two records hold one of its ends throughout, one both in turn."""
    rng, shape = np.random.default_rng(3), (RANDOM, *artifact.input.shape[1:])
    whole = None if artifact.input.numbers == "float32" else np.iinfo(artifact.input.numbers)
    low, high = (-8, 8) if whole is None else (whole.min, whole.max)
    levels = rng.uniform(low, high, shape) if whole is None else rng.integers(low, high + 1, shape)
    levels[0], levels[1], levels[2] = low, high, np.resize((low, high), shape[1:])
    return levels.astype(artifact.input.numbers)


def differing(artifact: Artifact, levels: np.ndarray, device: np.ndarray, runtime: str) -> dict[str, Any]:
    """How many rows are not TFLite Micro's in every bit, and by how many levels at most (float32: by how much)."""
    try:
        answers = run(artifact, levels, runtime)
    except CannotRunError as refusal:
        return {"refusal": str(refusal)}
    return apart(answers, device)


def apart(answers: np.ndarray, device: np.ndarray) -> dict[str, Any]:
    largest = np.abs(answers.astype(np.float64) - device.astype(np.float64)).max()
    return {"rows": int((answers != device).any(1).sum()), "of": len(device), "largest": float(largest)}


def counted_in_qemu(artifact: Artifact, levels: np.ndarray, device: np.ndarray, macs: int) -> dict[str, Any]:
    try:
        with tempfile.TemporaryDirectory() as folder:
            built = firmware.build(artifact.model, Path(folder) / "firmware")
            done = firmware.run(built, levels)
    except (CannotRunError, firmware.FirmwareError) as refusal:
        return {"refusal": str(refusal)}
    return {
        **apart(done.outputs, device),
        "instructions": done.instructions,
        "per_mac": done.instructions / macs,
        "stack": done.stack_bytes,
        "flash": built.sizes.model_flash,
        "ram": built.working_bytes,
    }


def arena_of(file: bytes) -> tuple[int | None, str]:
    """Bytes, or why there is no figure."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        path.write_bytes(file)
        try:
            return measure_arenas([path])[0], ""
        except ArenaError as error:
            return None, str(error).replace(f"{path}: ", "")


def tables(found: dict[str, dict[str, Any]]) -> str:
    """Markdown of all tables, with what was refused and why in notes at the end."""
    notes: dict[str, int] = {}
    rows = [{"model": t, "variant": v} | row for t, model in found.items() for v, row in model["variants"].items()]
    made = [row for row in rows if "refusal" not in row]
    said = [f"{row['model']} as {row['variant']}: {row['refusal']}" for row in rows if "refusal" in row]
    said += [f"{row['model']} as {row['variant']}, arena: {row['why_no_arena']}" for row in made if not row["arena"]]
    said += [f"{case.title}: not measured" for case in CASES if case.title not in found]
    parts = {
        "The models": markdown("model|record|parameters|MACs|right|spread", map(model_cells, found.items())),
        "Size, and closeness to torch": markdown(SIZES, map(size_cells, made)),
        "Equality with TFLite Micro": markdown(EQUALITY, (equality_cells(row, notes) for row in made)),
        "Firmware on a Cortex-M4": markdown(SPEED, (speed_cells(row) for row in made if row["milliseconds"])),
        "Boards, in int8": markdown("board|" + "|".join(found), (board_cells(board, found) for board in DEVICES)),
        "Notes": "\n\n".join([*(f"[{number}] {why}." for why, number in notes.items()), *(f"{why}." for why in said)]),
    }
    return "\n\n".join([*(f"### {title}\n\n{part}" for title, part in parts.items()), measured_with()])


SIZES = "model|variant|file, bytes|arena, bytes|agreement|largest error|mean error|clipped|boards|does not fit"
EQUALITY = "model|variant|device-arithmetic|LiteRT|QEMU"
SPEED = "model|variant|instructions|per MAC|flash, bytes|RAM, bytes|stack, bytes|latency, ms"


def markdown(head: str, rows: Iterable[Iterable[str]]) -> str:
    names = head.split("|")
    return "\n".join(f"| {' | '.join(line)} |" for line in (names, ["---"] * len(names), *rows))


def model_cells(item: tuple[str, dict[str, Any]]) -> Iterable[str]:
    title, model = item
    case = next(case for case in CASES if case.title == title)
    chance = "of variance" if model["rebuilds"] else f"(chance {1 / case.classes:.2f})"
    counts = (f"{model['parameters']:,}", f"{model['variants']['int8']['macs']:,}")
    return title, "x".join(map(str, case.shape)), *counts, f"{model['right']:.3f} {chance}", f"{model['spread']:.2f}"


def size_cells(row: dict[str, Any]) -> Iterable[str]:
    yield from (row["model"], row["variant"], f"{row['bytes']:,}", f"{row['arena']:,}" if row["arena"] else "-")
    led = f" ({row['margin']:.2g})" if row["margin"] else ""
    yield "-" if row["agreement"] is None else f"{row['agreement']:.3f}{led}"
    yield from (f"{row['largest_error']:.2g}", f"{row['mean_error']:.2g}", f"{row['clipped']:.1%}")
    misfits = [name for name, exceeded in row["fits"].items() if exceeded]
    known = f"{len(DEVICES) - len(misfits)} of {len(DEVICES)}", ", ".join(misfits) or "-"
    yield from known if row["arena"] else ("-", "-")


def equality_cells(row: dict[str, Any], notes: dict[str, int]) -> Iterable[str]:
    yield from (row["model"], row["variant"])
    for answer, instead in ((row["arithmetic"], "TFLM"), (row["litert"], "-"), (row["qemu"], "-")):
        if "refusal" in answer:
            why = re.sub(r" \('[^']*'\)", "", answer["refusal"])  # an operator's name in one file
            yield f"{instead} [{notes.setdefault(why, len(notes) + 1)}]"
        else:
            yield f"{answer['rows']} of {answer['of']}" + (f", by {answer['largest']:.2g}" if answer["rows"] else "")


def speed_cells(row: dict[str, Any]) -> Iterable[str]:
    formats = {"instructions": ",", "per_mac": ".2f", "flash": ",", "ram": ",", "stack": ","}
    known = (format(row["qemu"][key], how) if key in row["qemu"] else "-" for key, how in formats.items())
    return (
        row["model"],
        row["variant"],
        *known,
        " to ".join(f"{end:,.0f}" if end >= 100 else f"{end:.3g}" for end in row["milliseconds"]),
    )


def board_cells(board: str, found: dict[str, dict[str, Any]]) -> Iterable[str]:
    rows = [model["variants"]["int8"] for model in found.values()]
    return board, *(
        "-" if not r["arena"] else "no: " + " and ".join(e) if (e := r["fits"][board]) else "yes" for r in rows
    )


def measured_with() -> str:
    packages = ("torch", "tensorflow-cpu", "tflite-micro", "ai-edge-litert", "bakenn")
    return f"Measured with {', '.join([*(f'{name} {version(name)}' for name in packages), *versions().values()])}."


told = partial(print, file=sys.stderr, flush=True)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--models", default=",".join(case.title for case in CASES), help="some of: %(default)s")
    options.add_argument("--quick", action="store_true", help="few records, little training, no page")
    options.add_argument("--keep", type=Path, help="folder for what is finished, and for going on from there")
    asked = options.parse_args()
    unknown = set(asked.models.split(",")) - {case.title for case in CASES}
    if unknown:
        options.error(f"no such model: {', '.join(sorted(unknown))}")
    torch.set_num_threads(1)
    found = {c.title: kept(c, asked.quick, asked.keep) for c in CASES if c.title in asked.models.split(",")}
    if asked.quick or len(found) < len(CASES):
        print(tables(found))
        return
    before, rest = PAGE.read_text().split(START)
    PAGE.write_text(f"{before}{START}\n\n{tables(found)}\n\n{END}{rest.split(END)[1]}")


def kept(case: Case, quick: bool, folder: Path | None) -> dict[str, Any]:
    """Measured now, or read from `folder` where it was measured before."""
    path = None if folder is None else folder / f"{case.title}{'-quick' if quick else ''}.json"
    if path is not None and path.exists():
        return dict(json.loads(path.read_text()))
    start = time.monotonic()
    found = measured(case, quick)
    told(f"{case.title}: {time.monotonic() - start:.0f} s")
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found, indent=1))
    return found


if __name__ == "__main__":
    main()
