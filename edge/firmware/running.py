"""Firmware run by QEMU, on a board that has no access to this machine: memory in, serial port out, no semihosting."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Int8

from edge.firmware.building import Firmware
from edge.firmware.cores import CORES, RECORDS_SPACE
from edge.firmware.toolchain import QEMU, FirmwareError, call

TICK: Final = 40  # instructions: the timer runs at 25 MHz, and one instruction takes one nanosecond
PATIENCE: Final = 600.0  # seconds of CPU time for one start of QEMU
_DONE, _FAULT, _TRAILER = 0x53454550, 0x544C4146, struct.Struct("<8I")
_HEADER: Final = 16  # bytes before the records


@dataclass(frozen=True)
class Run:
    """What firmware did with some records.

    `instructions` is the mean of one inference and `most_instructions` the largest, both to within 40; on other
    hardware the same instructions take more than one cycle each. `stack_bytes` is the deepest stack below the bench's
    own, measured by painting it first.
    """

    outputs: Int8[np.ndarray, "records classes"] = field(repr=False)
    instructions: int
    most_instructions: int
    stack_bytes: int


def run(firmware: Firmware, levels: Int8[np.ndarray, "records ..."], seconds: float = PATIENCE) -> Run:
    """The firmware's answers to quantised records, channels last; QEMU is started once for some megabytes of them.

    Raises `ValueError` for no records or such of another size, `ToolMissingError` without QEMU, and `FirmwareError` if
    the program faults, or is not done after `seconds` of CPU time per start.
    """
    rows = np.ascontiguousarray(levels, dtype=np.int8).reshape(len(levels), prod(levels.shape[1:]))
    if len(rows) == 0 or rows.shape[1] != firmware.input_bytes:
        raise ValueError(f"{len(rows)} records of {rows.shape[1]} bytes; firmware takes {firmware.input_bytes} each")
    parts = [_start(firmware, part, seconds) for part in _parts(rows)]
    ticks = sum(words[3] + (words[4] << 32) for _, words in parts)
    return Run(
        outputs=np.concatenate([outputs for outputs, _ in parts]),
        instructions=round(ticks * TICK / len(rows)),
        most_instructions=max(words[5] for _, words in parts) * TICK,
        stack_bytes=max(words[2] for _, words in parts),
    )


def _parts(rows: Int8[np.ndarray, "records bytes"]) -> Iterator[Int8[np.ndarray, "part bytes"]]:
    most = max(1, (RECORDS_SPACE - _HEADER) // rows.shape[1])
    for start in range(0, len(rows), most):
        yield rows[start : start + most]


def _start(
    firmware: Firmware, rows: Int8[np.ndarray, "records bytes"], seconds: float
) -> tuple[Int8[np.ndarray, "records classes"], tuple[int, ...]]:
    core = CORES[firmware.core]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "records.bin").write_bytes(struct.pack("<4I", len(rows), 0, 0, 0) + rows.tobytes())
        (folder / "firmware.elf").write_bytes(firmware.elf.read_bytes())
        call(command(core.machine, core.records), folder, seconds)
        answers = (folder / "answers.bin").read_bytes()
    expected = len(rows) * firmware.output_bytes
    words = _TRAILER.unpack(answers[-_TRAILER.size :]) if len(answers) >= _TRAILER.size else (0,) * 8
    if len(answers) != expected + _TRAILER.size or words[:2] != (_DONE, len(rows)):
        done = max(0, len(answers) - _TRAILER.size) // firmware.output_bytes
        why = "faulted" if words[0] == _FAULT else "stopped"
        raise FirmwareError(f"the firmware {why} after {done} of {len(rows)} records")
    return np.frombuffer(answers[:expected], np.int8).reshape(len(rows), -1), words


def command(machine: str, records: int) -> tuple[str, ...]:
    """QEMU with one instruction per nanosecond, the records in the board's memory, and answers from its serial port."""
    return (
        QEMU,
        *("-machine", machine, "-nodefaults", "-display", "none", "-monitor", "none", "-no-reboot"),
        *("-icount", "shift=0", "-serial", "file:answers.bin", "-kernel", "firmware.elf"),
        *("-device", f"loader,file=records.bin,addr=0x{records:08X},force-raw=on"),
    )
