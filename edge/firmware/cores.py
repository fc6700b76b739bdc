"""The processors that firmware is built for, and the boards on which QEMU runs it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Kernels = Literal["cmsis-nn", "portable"]
FLASH: Final = 4 << 20  # bytes, of every board below; source/link.ld says the same
RAM: Final = 4 << 20
RECORDS_SPACE: Final = 16 << 20  # bytes at `records`: the board's third memory, which the program does not use
KERNELS: Final[dict[Kernels, str]] = {
    "cmsis-nn": "Arm's CMSIS-NN 4.0.0, and bakenn's own kernels for these cores where CMSIS-NN has none",
    "portable": "plain C11 that bakenn writes, for any core",
}


@dataclass(frozen=True)
class Core:
    """A processor. `records` is where in the board's memory the bench finds its inputs."""

    title: str
    machine: str  # as QEMU calls the board
    flags: tuple[str, ...]  # for gcc
    kernels: tuple[Kernels, ...]  # what can be built for it, the usual first
    records: int


def _flags(core: str) -> tuple[str, ...]:
    """Integers only: the models compute without a floating-point unit, and so do the smallest of these cores."""
    return (f"-mcpu={core}", "-mthumb", "-mfloat-abi=soft")


CORES: Final[dict[str, Core]] = {
    "cortex-m4": Core(
        "Arm Cortex-M4, with its DSP instructions, on an MPS2 board (AN386)",
        "mps2-an386",
        _flags("cortex-m4"),
        ("cmsis-nn", "portable"),
        0x21000000,
    ),
    "cortex-m7": Core(
        "Arm Cortex-M7 on an MPS2 board (AN500): the M4's instructions, so the same number of them",
        "mps2-an500",
        _flags("cortex-m7"),
        ("cmsis-nn", "portable"),
        0x60000000,
    ),
    "cortex-m3": Core(
        "Arm Cortex-M3, without DSP instructions, on an MPS2 board (AN385)",
        "mps2-an385",
        _flags("cortex-m3"),
        ("portable",),
        0x21000000,
    ),
}
