"""The file under audit: what was found in it, where it runs, and how it can be asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge.artifact import NUMBERS, Port
from edge.cost import Work, latency
from edge.devices import DEVICES, Device, fits
from edge.inspection import Inspection, PortFound, Tried, inspect
from edge.inspection.verdict import drawing, left_behind, remarks, slices, titled, unsound
from edge.sandbox import SANDBOXED, Limits, UnusableFileError
from sim.audit.ask import Asked
from sim.audit.results import Board, ModelFile, RuntimeCheck, Structure
from sim.audit.task import Ends
from sim.errors import InputError, shown

MOST_BYTES: Final = 64 << 20  # of a model file: far more than any microcontroller has
SAMPLE: Final = 16  # records on which the batched arithmetic is held to TFLite Micro


@dataclass(frozen=True, slots=True)
class Subject:
    """A file that was read and run in the sandbox."""

    path: Path
    model: bytes
    found: Inspection

    @property
    def runtimes(self) -> list[str]:
        """The sandboxed runtimes that take the file, and answer each record by itself."""
        return [each.runtime for each in self.found.runtimes if each.sound and each.runtime in SANDBOXED]

    @property
    def runtime(self) -> str:
        """Which one is asked: TFLite Micro where a microcontroller would compute the file, else LiteRT."""
        if self.found.device_model and "tflm" in self.runtimes:
            return "tflm"
        return "litert" if "litert" in self.runtimes else "tflm"

    @property
    def ends(self) -> Ends:
        """What goes in and what comes out. Only for a file that can be asked."""
        source, result = self.found.inputs[0], self.found.outputs[0]
        step = 0.0 if result.numbers == "float32" else float(result.scale or 0.0)
        return Ends(source.shape[1:], result.shape[1:], step, self.found.ends_in)

    @property
    def input(self) -> Port:
        """The input's numbers. Only for a file that can be asked."""
        found = self.found.inputs[0]
        numbers = next(each for each in NUMBERS if each == found.numbers)
        return Port(found.shape, numbers, found.scale or 1.0, found.zero_point or 0)


def read_model(path: Path, option: str = "") -> bytes:
    """A model file's bytes; nothing in them is looked at. Raises InputError."""
    where = f"{option} {path}".strip()
    if not path.is_file():
        raise InputError(f"{where}: there is no such file. Name a TFLite model (.tflite)")
    if path.stat().st_size > MOST_BYTES:
        raise InputError(f"{where}: {path.stat().st_size:,} bytes; model files of up to {MOST_BYTES:,} are read")
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{where}: cannot be read ({error.strerror})") from error


def examine(path: Path, limits: Limits, option: str = "") -> Subject:
    """Read a file and try it in every runtime, in the sandbox. Raises InputError where it is no model at all."""
    model = read_model(path, option)
    try:
        return Subject(path, model, inspect(model, limits))
    except UnusableFileError as error:
        raise InputError(
            f"{f'{option} {path}'.strip()}: not a model that can be audited: {error}. Give a whole .tflite file"
        ) from error


def must_answer(subject: Subject, option: str = "") -> None:
    """Raises InputError where the file cannot be asked about records."""
    where = f"{option} {subject.path}".strip()
    found = subject.found
    if found.kind == "compiled":
        raise InputError(
            f"{where}: compiled for {found.compiled_for}; only that hardware runs it. Audit the file that was given to "
            "the compiler, which holds the same weights; or this one's structure without --members and --nonmembers"
        )
    if not found.askable:
        raise InputError(
            f"{where}: {titled(found)}; only a model that takes one record (int8, int16, uint8 or float32) and "
            f"gives one answer can be asked, this one takes {_ports(found.inputs)} and gives {_ports(found.outputs)}: "
            f"{found.unaskable}. Audit its structure without --members and --nonmembers"
        )
    if why := drawing(found) or left_behind(found) or slices(found):
        raise InputError(f"{where}: {why}. Audit its structure without --members and --nonmembers")
    if not subject.runtimes:
        reasons = "; ".join(f"{each.runtime}: {each.reason or unsound(found, each)}" for each in found.runtimes)
        raise InputError(
            f"{where}: no runtime here takes this file and answers each record by itself ({reasons}). Audit its "
            "structure without --members and --nonmembers"
        )


def asked(subject: Subject, runtime: str | None = None) -> Asked:
    """The file in one runtime, by default the one that says most of it."""
    return Asked(subject.model, runtime or subject.runtime, subject.ends.size)


def fastest(subject: Subject, sample: np.ndarray[Any, np.dtype[np.float32]]) -> Asked:
    """The file, ready to be asked: by the batched device arithmetic where it equals TFLite Micro on the sample."""
    plain = asked(subject).warmed(sample[:SAMPLE])
    if subject.runtime != "tflm" or "device-arithmetic" not in SANDBOXED:
        return plain
    try:
        fast = asked(subject, "device-arithmetic").warmed(sample[:SAMPLE])
    except (UnusableFileError, RuntimeError):
        return plain
    return fast if np.array_equal(fast(sample[:SAMPLE]), plain(sample[:SAMPLE])) else plain


def model_file(subject: Subject) -> ModelFile:
    """Name, size and hash."""
    return ModelFile(name=shown(subject.path.name), bytes=subject.found.size, sha256=subject.found.sha256)


def structure(subject: Subject, answered: str = "") -> Structure:
    """What is in the file, in words and figures; `answered` is a sentence from its answers to records, or nothing."""
    found = subject.found
    return Structure(
        kind=titled(found),
        words=[*([answered] if answered else []), *_words(subject)],
        input=_ports(found.inputs),
        output=_ports(found.outputs),
        operators=found.operators,
        parameters=found.parameters,
        macs=found.macs,
        macs_uncounted=list(found.work.uncounted) if found.work else [],
        arena_bytes=found.arena_bytes,
        device_model=found.device_model,
        inspection=found.model_dump(mode="json"),
    )


def checks(subject: Subject) -> list[RuntimeCheck]:
    """Which runtimes take the file."""
    return [
        RuntimeCheck(runtime=each.runtime, runs=each.outcome == "takes", words=_outcome(subject, each))
        for each in subject.found.runtimes
    ]


def boards(subject: Subject, names: tuple[str, ...]) -> list[Board]:
    """Whether the file fits the boards asked for, or all there are. Raises InputError for a board that is not known."""
    for name in names:
        if name not in DEVICES:
            raise InputError(f"--device {name}: not a board that is known. There are: {', '.join(DEVICES)}")
    return [_board(subject, DEVICES[name]) for name in names or DEVICES]


def _board(subject: Subject, device: Device) -> Board:
    arena, size = subject.found.arena_bytes, subject.found.size
    known = arena is not None and subject.found.device_model
    work = subject.found.work
    time = latency(Work(**work.model_dump()), device) if work and known else None
    fit = fits(device, size, arena, operators=len(subject.found.operators)) if known and arena is not None else None
    return Board(
        device=device.name,
        title=device.title,
        fits=fit.fits if fit else None,
        flash_needed=fit.flash.needed if fit else None,
        flash=fit.flash.available if fit else device.flash_bytes,
        ram_needed=fit.ram.needed if fit else None,
        ram=fit.ram.available if fit else device.usable_sram_bytes,
        exceeded=list(fit.exceeded) if fit else [],
        words=fit.words if fit else "",
        latency_ms=time.interval if time else None,
        latency_from=time.anchor if time else None,
    )


def _words(subject: Subject) -> list[str]:
    found = subject.found
    said = [_sentence(found.verdict)]
    if not found.device_model and "litert" in subject.runtimes:
        said.append("It is audited as a host model, in LiteRT: nothing here says what a microcontroller would do.")
    if found.dynamic_batch and found.kind != "compiled":
        said.append("Its batch is left open (-1): it is asked about one record at a time, as a device would.")
    return [*said, *map(_sentence, remarks(found, found.runtimes))]


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _outcome(subject: Subject, each: Tried) -> str:
    if each.outcome == "takes":
        return f"takes it; {unsound(subject.found, each)}" if not each.sound else "takes it"
    return f"{each.outcome}{f': {each.reason}' if each.reason else ''}"


def _ports(ports: tuple[PortFound, ...]) -> str:
    return ", ".join(f"{port.numbers} {'x'.join(map(str, port.shape)) or 'scalar'}" for port in ports) or "nothing"
