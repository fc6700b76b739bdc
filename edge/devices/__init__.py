"""Microcontroller boards, and whether a model fits one: `DEVICES`, `fits` and `fits_all`."""

from edge.devices.fit import (
    CODE,
    STACK_BYTES,
    Code,
    Fit,
    Kernels,
    Need,
    fits,
    fits_all,
    runtime_code,
)
from edge.devices.profile import DEVICES, Device, Power

__all__ = [
    "CODE",
    "DEVICES",
    "STACK_BYTES",
    "Code",
    "Device",
    "Fit",
    "Kernels",
    "Need",
    "Power",
    "fits",
    "fits_all",
    "runtime_code",
]
