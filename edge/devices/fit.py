"""Whether a model fits a board: flash = model + runtime code, RAM = arena + stack, and what these sums bound.

The application's own code and data, a bootloader and an RTOS's code are in neither sum: what does not fit by this
reckoning does not fit, and what fits leaves the margin that is given for them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final, Literal

from edge.devices.profile import DEVICES, Device

KB: Final = 1024
STACK_BYTES: Final = 4 * KB
"""RAM kept for the stack: the highest use measured under emulation was 1.5 KB."""
MEASURED_OPERATORS: Final = 10
"""How many kinds of operators the measured interpreters had."""

Kernels = Literal["cmsis-nn", "reference", "esp-nn", "ahead-of-time"]
Limit = Literal["flash", "sram"]


@dataclass(frozen=True)
class Code:
    """Flash that a runtime takes, without its C library and application, as measured on one core."""

    kernels: Kernels
    title: str
    code_bytes: int
    measured_on: tuple[str, ...]  # architectures
    source: str


CODE: Final[dict[Kernels, Code]] = {
    code.kernels: code
    for code in (
        Code(
            "cmsis-nn",
            "TFLite Micro with CMSIS-NN kernels",
            112 * KB,
            ("cortex-m4",),
            "built at -O2 for a Cortex-M4 with ten kinds of operators, CMSIS-NN's int4 variants among them; "
            "mcufit measured 84,528 bytes on a Nano 33 BLE",
        ),
        Code(
            "reference",
            "TFLite Micro with reference kernels, some twenty times slower",
            69 * KB,
            ("cortex-m4",),
            "built at -O2 for a Cortex-M4 with ten kinds of operators",
        ),
        Code(
            "esp-nn",
            "TFLite Micro with ESP-NN kernels",
            114_579,
            ("xtensa-lx7",),
            "mcufit 0.5.2: firmware less an empty sketch, on an Arduino Nano ESP32 (ESP32-S3)",
        ),
        Code(
            "ahead-of-time",
            "C code made from the model (bakenn with CMSIS-NN), without an interpreter",
            15 * KB,
            ("cortex-m4", "cortex-m7"),
            "the most of seven models built at -O2, MLPerf Tiny's four among them; dense ones took 2 KB",
        ),
    )
}


@dataclass(frozen=True)
class Need:
    """What is needed of one kind of memory, and what there is, in bytes."""

    needed: int
    available: int

    @property
    def margin(self) -> int:
        """What is left; below 0, what is missing."""
        return self.available - self.needed


@dataclass(frozen=True)
class Fit:
    """Whether a model fits a device, what it needs there, and in words what that rests on."""

    device: str
    flash: Need
    ram: Need
    exceeded: tuple[Limit, ...]  # the limits that are passed; empty where it fits
    words: str

    @property
    def fits(self) -> bool:
        """Whether no limit is passed."""
        return not self.exceeded


def runtime_code(device: Device, kernels: Kernels | None = None, operators: int = MEASURED_OPERATORS) -> int:
    """Bytes of flash for the runtime; `kernels` is by default the fast set for the device, `operators` their kinds.

    The measured sizes are of ten kinds of operators. Fewer take less, how much less was not measured: the full figure
    stands as a bound. More are reckoned in proportion, which counts the interpreter's own share again.
    """
    code = CODE[kernels or _usual(device)]
    if code.kernels == "ahead-of-time" or operators <= MEASURED_OPERATORS:
        return code.code_bytes
    return math.ceil(code.code_bytes * operators / MEASURED_OPERATORS)


def fits(
    device: Device,
    model_bytes: int,
    arena_bytes: int,
    *,
    kernels: Kernels | None = None,
    operators: int = MEASURED_OPERATORS,
) -> Fit:
    """Compare flash = model + runtime code with the board's, and RAM = arena + stack with what is usable there.

    `operators` is how many kinds of operators the model has. Code and data of the application itself are not in these
    sums. The arena measured on the host is an upper bound (`edge.arena`), and so a model that fits by it does.
    """
    code = CODE[kernels or _usual(device)]
    flash = Need(model_bytes + runtime_code(device, code.kernels, operators), device.flash_bytes)
    ram = Need(arena_bytes + STACK_BYTES, device.usable_sram_bytes)
    exceeded: list[Limit] = ["flash"] if flash.margin < 0 else []
    if ram.margin < 0 or arena_bytes > device.largest_block_bytes:
        exceeded.append("sram")
    said = [_said("flash", flash), _said("RAM", ram), *_basis(device, code, arena_bytes, operators)]
    return Fit(device.name, flash, ram, tuple(exceeded), "; ".join(said))


def fits_all(
    model_bytes: int,
    arena_bytes: int,
    *,
    operators: int = MEASURED_OPERATORS,
    compiled: tuple[int, int] | None = None,
    devices: Iterable[Device] = DEVICES.values(),
) -> dict[str, Fit]:
    """The fit on each board, by name.

    `compiled` is the size and the SRAM in bytes of the model as compiled for the boards that have an NPU (`edge.vela`);
    without it the model is taken to run on their processors.
    """
    return {
        device.name: _on_npu(fits(device, *compiled, operators=operators), device.npu)
        if compiled and device.npu
        else fits(device, model_bytes, arena_bytes, operators=operators)
        for device in devices
    }


def _on_npu(fit: Fit, npu: str) -> Fit:
    return replace(fit, words=f"{fit.words}; model and RAM as vela compiled it for {npu}, whose driver is not counted")


def _usual(device: Device) -> Kernels:
    return "cmsis-nn" if device.architecture.startswith("cortex") else "esp-nn"


def _basis(device: Device, code: Code, arena_bytes: int, operators: int) -> Iterator[str]:
    """What the sums rest on, and what is not in them."""
    if device.largest_block_bytes < arena_bytes <= device.usable_sram_bytes:
        yield f"the arena must lie in one piece, and the largest has {device.largest_block_bytes:,} bytes"
    if device.architecture in code.measured_on:
        yield f"runtime code as measured on this architecture ({code.title})"
    else:
        yield f"runtime code carried over from {code.measured_on[0]}: none was measured on {device.architecture}"
    if operators > MEASURED_OPERATORS and code.kernels != "ahead-of-time":
        yield f"and in proportion from {MEASURED_OPERATORS} to {operators} kinds of operators"
    if not device.architecture.startswith("cortex"):
        yield "that the arena is an upper bound was measured on Cortex-M alone"
    if device.external_flash:
        yield "flash is a chip beside the processor, read in place: what a board copies to RAM is not counted"
    if device.psram_bytes:
        yield f"{device.psram_bytes:,} bytes of PSRAM are not counted"


def _said(kind: str, need: Need) -> str:
    left = f"{need.margin:,} to spare" if need.margin >= 0 else f"{-need.margin:,} too many"
    return f"{kind}: {need.needed:,} of {need.available:,} bytes, {left}"
