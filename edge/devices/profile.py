"""What a board has: memory, processor, clock, power, each figure with its source. Read from `boards.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, Final

FIGURES: Final = ("flash", "sram", "usable_sram", "clock")
"""What every board names a source for."""


@dataclass(frozen=True)
class Power:
    """What the chip draws while its processor works, in milliwatts: radio off, nothing else on the board counted."""

    low: float
    high: float
    source: str


@dataclass(frozen=True)
class Device:
    """A board: memory in bytes, clock in MHz.

    `usable_sram_bytes` is what an RTOS and a radio stack usually leave. `largest_block_bytes` is the largest piece of
    SRAM: an arena lies in one. `psram_bytes` is beside all of these. `architecture` is the processor's, as compilers
    name it ("cortex-m4"), and what speeds are known by; one core runs a model, however many there are.
    """

    name: str
    title: str
    core: str
    architecture: str
    clock_mhz: int
    flash_bytes: int
    sram_bytes: int
    usable_sram_bytes: int
    largest_block_bytes: int
    sources: Mapping[str, str] = field(repr=False, hash=False)
    power: Power | None
    no_power: str  # why there is no power figure, if there is none
    cores: int = 1
    fpu: bool = False
    dsp: bool = False  # several 8- or 16-bit products at a time
    npu: str | None = None  # accelerator, as vela names it
    external_flash: bool = False  # read in place over a serial bus
    psram_bytes: int = 0

    @property
    def source(self) -> str:
        """Where its figures come from, those of one source together."""
        figures: dict[str, list[str]] = {}
        for figure, source in self.sources.items():
            figures.setdefault(source, []).append(figure.replace("_", " "))
        return ". ".join(f"{', '.join(names)}: {source}" for source, names in figures.items())


def _device(name: str, board: dict[str, Any]) -> Device:
    return Device(
        name=name,
        title=board["title"],
        core=board["core"],
        architecture=board["architecture"],
        clock_mhz=board["clock_mhz"],
        flash_bytes=board["flash"],
        sram_bytes=board["sram"],
        usable_sram_bytes=board["usable_sram"],
        largest_block_bytes=board.get("largest_block", board["sram"]),
        sources=board["sources"],
        power=_power(board["power"]) if "power" in board else None,
        no_power=board.get("no_power", ""),
        psram_bytes=board.get("psram", 0),
        **{key: board[key] for key in ("cores", "fpu", "dsp", "npu", "external_flash") if key in board},
    )


def _power(figures: dict[str, Any]) -> Power:
    """Measured in milliwatts, or a current in milliamps at a voltage."""
    if "milliwatts" in figures:
        low, high = figures["milliwatts"]
    else:
        low, high = (round(current * figures["volts"], 3) for current in figures["milliamps"])
    return Power(low, high, figures["source"])


def _read() -> dict[str, Device]:
    boards = tomllib.loads(files("edge.devices").joinpath("boards.toml").read_text(encoding="utf-8"))
    return {name: _device(name, board) for name, board in boards.items()}


DEVICES: Final[dict[str, Device]] = _read()
