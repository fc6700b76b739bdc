"""A model compiled for an Arm Ethos-U NPU by Arm's own compiler, vela: memory, cycles, and what stays on the processor.

All figures are the compiler's estimates. Nothing is measured, and Arm states no error for them.
"""

from __future__ import annotations

import csv
import importlib.util
import re
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

from edge.cost import Estimate

ACCELERATORS: Final = ("ethos-u55-32", "ethos-u55-64", "ethos-u55-128", "ethos-u55-256")
SYSTEMS: Final = ("Ethos_U55_High_End_Embedded", "Ethos_U55_Deep_Embedded")
"""Arm's two reference systems, at 500 and 200 MHz with faster and slower memory: a chip lies anywhere about them."""
MEMORY_MODE: Final = "Shared_Sram"  # weights in flash, activations in SRAM
_KIB: Final = 1024
# Compiling a model of a microcontroller takes some 200 MB; a file made to take more than this ends its process.
_CHILD: Final = """
import resource, signal, sys
signal.setitimer(signal.ITIMER_PROF, float(sys.argv.pop(1)))
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
resource.setrlimit(resource.RLIMIT_FSIZE, (256 << 20, 256 << 20))
from ethosu.vela.vela import main
main()
"""
_COUNTED: Final = re.compile(r"^(CPU|NPU) operators = (\d+)", re.MULTILINE)
_LEFT: Final = re.compile(r"operator: (\w+), ofm: '([^']*)'\s*\n\s*Reason: ([^\n]*)")


class VelaMissingError(RuntimeError):
    """vela is not installed; the message says how to get it."""


class VelaError(RuntimeError):
    """vela did not compile the model; the message says what it said."""


@dataclass(frozen=True)
class Left:
    """An operator that the NPU does not run, and why: the processor runs it with TFLite Micro's kernels."""

    operator: str
    output: str
    reason: str


@dataclass(frozen=True)
class Compiled:
    """A model for one accelerator.

    `cycles` and `milliseconds` are those of `SYSTEMS`, in that order, and of the NPU alone: operators left to the
    processor are in neither. `sram_bytes` holds activations while the NPU works, `flash_bytes` what it reads there,
    `model_bytes` is the whole compiled file with the command stream, which is what is flashed.
    """

    accelerator: str
    cycles: tuple[int, ...]
    milliseconds: tuple[float, ...]
    sram_bytes: int
    flash_bytes: int
    model_bytes: int
    npu_operators: int
    cpu_operators: int
    left: tuple[Left, ...]
    vela: str  # its version

    @property
    def share(self) -> float:
        """Of the compiled operators, how many run on the NPU; 0.0 where there are none."""
        operators = self.npu_operators + self.cpu_operators
        return self.npu_operators / operators if operators else 0.0

    def sizes(self, arena_bytes: int) -> tuple[int, int]:
        """Flash and RAM for `edge.devices.fits_all`; with operators on the processor, the whole arena is added."""
        return self.model_bytes, self.sram_bytes + (arena_bytes if self.cpu_operators else 0)

    @property
    def latency(self) -> Estimate:
        """Milliseconds between Arm's two reference systems."""
        anchor = (
            f"estimated, not measured, by Arm's compiler vela {self.vela} for {self.accelerator}, between its "
            f"reference systems {SYSTEMS[0]} and {SYSTEMS[1]}; its error is not known"
        )
        if self.cpu_operators:
            return Estimate(
                None,
                "ms",
                f"{self.cpu_operators} operators stay on the processor, whose speed is not known; the rest is {anchor}",
            )
        return Estimate((min(self.milliseconds), max(self.milliseconds)), "ms", anchor)


def missing() -> str:
    """How to get vela where it is not installed, in one line; empty where it is."""
    if importlib.util.find_spec("ethosu") is not None:
        return ""
    return "vela is not installed: pip install ethos-u-vela"


def compile_for_npu(model: bytes, accelerator: str = "ethos-u55-128", seconds: float = 60.0) -> Compiled:
    """Compile a TFLite file in a child process and a folder of its own, once for each of `SYSTEMS`.

    Raises `VelaMissingError`, or `VelaError` where vela refuses the model, crashes, or is not done in `seconds`
    of CPU time.
    """
    if accelerator not in ACCELERATORS:
        raise ValueError(f"accelerator '{accelerator}' is not known; choose one of {', '.join(ACCELERATORS)}")
    if why := missing():
        raise VelaMissingError(why)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "model.tflite")
        source.write_bytes(model)
        runs = [_run(source, accelerator, system, seconds) for system in SYSTEMS]
        rows = [_summary(source.parent, system) for system in SYSTEMS]
        size = _output(source.parent, SYSTEMS[0]).joinpath("model_vela.tflite").stat().st_size
    counted = {kind: int(number) for kind, number in _COUNTED.findall(runs[0])}
    return Compiled(
        accelerator=accelerator,
        cycles=tuple(int(row["cycles_total"]) for row in rows),
        milliseconds=tuple(float(row["inference_time"]) * 1000 for row in rows),
        sram_bytes=round(float(rows[0]["sram_memory_used"]) * _KIB),
        flash_bytes=round(float(rows[0]["off_chip_flash_memory_used"]) * _KIB),
        model_bytes=size,
        npu_operators=counted.get("NPU", 0),
        cpu_operators=counted.get("CPU", 0),
        left=tuple(Left(*found) for found in _LEFT.findall(runs[0])),
        vela=version("ethos-u-vela"),
    )


def _run(source: Path, accelerator: str, system: str, seconds: float) -> str:
    """What vela said."""
    command = [sys.executable, "-P", "-c", _CHILD, str(seconds), source.name]
    command += ["--accelerator-config", accelerator, "--system-config", system, "--memory-mode", MEMORY_MODE]
    command += ["--config", "Arm/vela.ini", "--output-dir", _output(source.parent, system).name]
    try:
        done = subprocess.run(  # noqa: S603 - our own script, and a file that we wrote
            command,
            cwd=source.parent,
            capture_output=True,
            timeout=60 + 20 * seconds,
            check=False,
            text=True,
            errors="replace",
        )
    except subprocess.TimeoutExpired as expired:
        raise VelaError(f"vela hangs: {expired.timeout:g} seconds have passed") from expired
    if done.returncode == -signal.SIGPROF:
        raise VelaError(f"vela was not done within {seconds:g} seconds of CPU time")
    if done.returncode:
        raise VelaError(_reason(done.returncode, done.stderr))
    return f"{done.stdout}\n{done.stderr}"


def _reason(code: int, stderr: str) -> str:
    if code < 0:
        return f"vela crashed on this model (signal {-code})"
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return f"vela refused this model: {lines[-1] if lines else 'without a message'}"


def _output(folder: Path, system: str) -> Path:
    return folder / f"out-{system}"


def _summary(folder: Path, system: str) -> dict[str, str]:
    with _output(folder, system).joinpath(f"model_summary_{system}.csv").open(newline="") as file:
        return next(csv.DictReader(file))
