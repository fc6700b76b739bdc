"""Real firmware: a model compiled by bakenn with CMSIS-NN and gcc, and run by QEMU on an emulated Cortex-M."""

from __future__ import annotations

from edge.firmware.building import Firmware, Sizes, build
from edge.firmware.cores import CORES, KERNELS, Core, Kernels
from edge.firmware.package import facts, pack
from edge.firmware.running import Run, run
from edge.firmware.toolchain import FirmwareError, ToolMissingError, missing
from edge.firmware.trial import tried

__all__ = [
    "CORES",
    "KERNELS",
    "Core",
    "Firmware",
    "FirmwareError",
    "Kernels",
    "Run",
    "Sizes",
    "ToolMissingError",
    "build",
    "facts",
    "missing",
    "pack",
    "run",
    "tried",
]
