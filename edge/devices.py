"""Microcontroller boards, and whether a model fits one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

KB: Final = 1024
RUNTIME_CODE_BYTES: Final = 112 * KB
"""Flash for TFLite Micro with CMSIS-NN and ten operators, built at -O2 for a Cortex-M4: measured, without the C
library's console. With reference kernels it is 69 KB; an application of your own comes on top of either."""
STACK_BYTES: Final = 4 * KB
"""RAM kept for the stack: the highest use measured under emulation was 1.5 KB."""


@dataclass(frozen=True)
class Device:
    """A board: memory in bytes, clock in MHz. `usable_sram_bytes` is what an RTOS and a radio stack usually leave."""

    name: str
    title: str
    core: str
    clock_mhz: int
    flash_bytes: int
    sram_bytes: int
    usable_sram_bytes: int
    source: str


@dataclass(frozen=True)
class Fit:
    """Whether a model fits a device, and what it needs there, in bytes."""

    fits: bool
    flash_needed: int
    ram_needed: int
    exceeded: tuple[Literal["flash", "sram"], ...]  # the limits that are passed; empty where it fits


def fits(device: Device, model_bytes: int, arena_bytes: int) -> Fit:
    """Compare flash = model + runtime code with the board's, and RAM = arena + stack with what is usable there.

    Code and data of the application itself are not in these sums. The arena measured on the host is an upper bound
    (`edge.arena`), so a model that fits by this reckoning does fit.
    """
    flash, ram = model_bytes + RUNTIME_CODE_BYTES, arena_bytes + STACK_BYTES
    needs: tuple[tuple[Literal["flash", "sram"], int, int], ...] = (
        ("flash", flash, device.flash_bytes),
        ("sram", ram, device.usable_sram_bytes),
    )
    exceeded = tuple(name for name, needed, available in needs if needed > available)
    return Fit(not exceeded, flash, ram, exceeded)


_BOARDS = (
    Device(
        "nano-33-ble-sense",
        "Arduino Nano 33 BLE Sense (nRF52840)",
        "Cortex-M4F",
        64,
        1024 * KB,
        256 * KB,
        208 * KB,
        "Arduino data sheet; mcufit 0.5.2 boards.yaml",
    ),
    Device(
        "pico-rp2040",
        "Raspberry Pi Pico (RP2040)",
        "2x Cortex-M0+",
        133,
        2048 * KB,
        264 * KB,
        232 * KB,
        "mcufit 0.5.2 boards.yaml; the flash is a separate chip",
    ),
    Device(
        "stm32f411",
        "STM32F411 (Black Pill, Nucleo)",
        "Cortex-M4F",
        100,
        512 * KB,
        128 * KB,
        112 * KB,
        "mcufit 0.5.2 boards.yaml",
    ),
    Device(
        "stm32f746",
        "STM32F746 Discovery",
        "Cortex-M7",
        216,
        1024 * KB,
        320 * KB,
        288 * KB,
        "mcufit 0.5.2 boards.yaml; the target of MCUNet (320 KB SRAM, 1 MB flash)",
    ),
    Device(
        "stm32l4r5",
        "STM32L4R5 Nucleo, MLPerf Tiny's reference board",
        "Cortex-M4F",
        120,
        2048 * KB,
        640 * KB,
        640 * KB,
        "MLPerf Tiny v1.0 system description; nothing set aside for an RTOS or a radio",
    ),
    Device(
        "esp32-s3",
        "ESP32-S3 (without its PSRAM)",
        "2x Xtensa LX7",
        240,
        8192 * KB,
        512 * KB,
        362 * KB,
        "mcufit 0.5.2 boards.yaml",
    ),
    Device(
        "stm32f103",
        "STM32F103 Blue Pill",
        "Cortex-M3",
        72,
        64 * KB,
        20 * KB,
        16 * KB,
        "mcufit 0.5.2 boards.yaml; too small for TFLite Micro with ten operators",
    ),
)
DEVICES: Final[dict[str, Device]] = {board.name: board for board in _BOARDS}
