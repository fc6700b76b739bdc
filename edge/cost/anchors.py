"""Published speeds of int8 networks on microcontrollers, and cycles per multiply-accumulate made of them.

MLPerf Tiny's four closed-division models have known multiply-accumulates, so its times give cycles: the autoencoder is
fully connected, the ResNet is convolution, and with these two known the keyword and the person model give depthwise
convolution. Rows are medians of `performance` or `energy` logs in mlcommons/tiny_results_v0.5, v1.0 and v1.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from edge.cost.macs import CONVOLUTION, DENSE, DEPTHWISE

Interval = tuple[float, float]
TINY: Final[Mapping[str, Mapping[str, int]]] = {
    "ad": {DENSE: 264_192},
    "ic": {CONVOLUTION: 12_500_992, DENSE: 640},
    "kws": {CONVOLUTION: 2_368_000, DEPTHWISE: 288_000, DENSE: 768},
    "vww": {CONVOLUTION: 6_690_816, DEPTHWISE: 798_336, DENSE: 512},
}
"""Multiply-accumulates of MLPerf Tiny's models: anomaly detection, images, keywords, visual wake words."""


@dataclass(frozen=True)
class System:
    """A processor with an inference engine, and the milliseconds that it takes for each of `TINY`."""

    name: str
    architecture: str
    clock_mhz: float
    milliseconds: Mapping[str, float]

    def cycles_per_mac(self) -> dict[str, Interval]:
        """Per class of operator; of depthwise convolution the two figures that the two models give."""
        cycles = {model: time * self.clock_mhz * 1000 for model, time in self.milliseconds.items()}
        dense = cycles["ad"] / TINY["ad"][DENSE]
        convolution = (cycles["ic"] - dense * TINY["ic"][DENSE]) / TINY["ic"][CONVOLUTION]
        rest = [
            (cycles[model] - convolution * macs[CONVOLUTION] - dense * macs[DENSE]) / macs[DEPTHWISE]
            for model, macs in TINY.items()
            if DEPTHWISE in macs
        ]
        return {
            CONVOLUTION: (convolution, convolution),
            DEPTHWISE: (min(rest), max(rest)),
            DENSE: (dense, dense),
        }


def _times(ad: float, ic: float, kws: float, vww: float) -> dict[str, float]:
    return {"ad": ad, "ic": ic, "kws": kws, "vww": vww}


def _rates(ad: float, ic: float, kws: float, vww: float) -> dict[str, float]:
    """From inferences per second."""
    return _times(1000 / ad, 1000 / ic, 1000 / kws, 1000 / vww)


SYSTEMS: Final = {
    system.name: system
    for system in (
        System("microTVM with CMSIS-NN on STM32L4R5", "cortex-m4", 120, _times(8.6, 389.6, 99.8, 301.2)),
        System("X-CUBE-AI on STM32L4R5", "cortex-m4", 120, _times(7.6, 226.9, 75.1, 230.5)),
        System("TFLite Micro 2.3.1 on STM32L4R5", "cortex-m4", 120, _rates(96.154, 1.420, 5.539, 1.658)),
        System("microTVM with CMSIS-NN on nRF5340", "cortex-m33", 128, _times(6.3, 316.2, 76.1, 232.0)),
        System("X-CUBE-AI on STM32U575", "cortex-m33", 160, _times(4.8, 139.7, 44.2, 133.4)),
        System("X-CUBE-AI on STM32H7A3", "cortex-m7", 280, _times(1.8, 54.3, 16.8, 50.7)),
        System("Plumerai on STM32F746", "cortex-m7", 216, _times(2.3, 64.8, 19.1, 57.0)),
        System("Bosch HALE on STM32G0B1", "cortex-m0plus", 64, _rates(21.484, 0.599, 1.472, 0.535)),
    )
}


@dataclass(frozen=True)
class Rates:
    """Cycles per multiply-accumulate that were published as such, or per layer, or counted."""

    name: str
    architecture: str
    cycles: Mapping[str, Interval]

    def cycles_per_mac(self) -> Mapping[str, Interval]:
        """Per class of operator, of those that are known."""
        return self.cycles


def _fixed(convolution: float, depthwise: float, dense: float) -> dict[str, Interval]:
    return {CONVOLUTION: (convolution,) * 2, DEPTHWISE: (depthwise,) * 2, DENSE: (dense,) * 2}


# A dense layer with a scale per output runs outside CMSIS-NN 4.0.0: instructions per product, counted in QEMU.
_SCALED: Final = "generated C for a dense layer with a scale per output, 6.1 to 7.6 instructions per product in QEMU"
RATES: Final = (
    Rates(
        "mcufit 0.5.2's measurements of TFLite Micro on nRF52840",
        "cortex-m4",
        _fixed(1 / 0.1899, 1 / 0.0630, 1 / 0.1863),
    ),
    Rates(_SCALED, "cortex-m4", {DENSE: (6.1 * 1.6, 7.6 * 1.6)}),
    Rates(_SCALED, "cortex-m33", {DENSE: (6.1 * 1.31, 7.6 * 1.31)}),
    Rates(_SCALED, "cortex-m7", {DENSE: (6.1 * 0.65, 7.6 * 0.65)}),
    Rates(
        "mcufit 0.5.2's measurements of TFLite Micro with ESP-NN on ESP32",
        "xtensa-lx6",
        _fixed(1 / 0.0732, 1 / 0.0443, 1 / 0.0223),
    ),
    Rates(
        "Espressif's kernel table for ESP-NN on ESP32-S3",
        "xtensa-lx7",
        {
            CONVOLUTION: (461_398 / 409_600, 643_689 / 110_592),  # 64 to 64 channels, 1x1; 3 to 64 channels, 3x3
            DEPTHWISE: (191_931 / 36_864,) * 2,  # 16 channels, 3x3
            DENSE: (4_439 / 795,) * 2,  # 265 to 3
        },
    ),
    Rates(
        "Espressif's person detection with ESP-NN on ESP32-C3, one time for a whole model",
        "riscv32",
        _fixed(*(426 * 160_000 / 7_157_888,) * 3),  # 426 ms at 160 MHz; 89 % of the products are convolution
    ),
)


@dataclass(frozen=True)
class Anchor:
    """Cycles that operators take on one architecture, and what these intervals rest on.

    `macs` is per multiply-accumulate of each class, `element` per element of other operators, `call` per operator.
    """

    macs: Mapping[str, Interval]
    element: float  # at most; at least none
    call: float
    words: str


@dataclass(frozen=True)
class _Basis:
    centre: str  # the name of one of `SYSTEMS` or of `RATES`
    spread: float
    why: str
    element: float
    call: float


# mcufit's ADD and RESHAPE: cycles per element on an operator without a fast kernel, and per call of one.
_ARM: Final = (1 / 0.0083, 18 * 64)
_ESP: Final = (1 / 0.0048, 51 * 240)
_BASES: Final[Mapping[str, _Basis]] = {
    "cortex-m4": _Basis("microTVM with CMSIS-NN on STM32L4R5", 2, "", *_ARM),
    "cortex-m33": _Basis("microTVM with CMSIS-NN on nRF5340", 2, "", *_ARM),
    "cortex-m7": _Basis("X-CUBE-AI on STM32H7A3", 2, "no row has CMSIS-NN on a Cortex-M7", *_ARM),
    "cortex-m0plus": _Basis(
        "Bosch HALE on STM32G0B1", 4, "wide: one engine's hand-made kernels, none of TFLite Micro's", *_ARM
    ),
    "xtensa-lx6": _Basis("mcufit 0.5.2's measurements of TFLite Micro with ESP-NN on ESP32", 2, "", *_ESP),
    "xtensa-lx7": _Basis(
        "Espressif's kernel table for ESP-NN on ESP32-S3",
        2,
        "wide: its vector kernels' speed varies fivefold with a layer's shape",
        *_ESP,
    ),
    "riscv32": _Basis(
        "Espressif's person detection with ESP-NN on ESP32-C3, one time for a whole model",
        4,
        "wide: one model, nine tenths of it convolution",
        *_ESP,
    ),
}
NO_ANCHOR: Final[Mapping[str, str]] = {
    "cortex-m3": "no published time of an int8 network on a Cortex-M3 was found; a Cortex-M4 has other kernels",
    "cortex-m55": "no published time of an int8 network on a Cortex-M55 was found; for its NPU, ask vela",
}
CYCLES_PER_INSTRUCTION: Final[Mapping[str, tuple[Interval, str]]] = {
    "cortex-m4": (
        (1.36, 1.84),
        "1.6 cycles per instruction, +-15 %: TFLite Micro with CMSIS-NN counted in QEMU, against MLPerf Tiny v1.0's "
        "four models with CMSIS-NN on STM32L4R5 (1.52 to 1.77); other code may take other cycles",
    ),
    "cortex-m33": (
        (1.11, 1.51),
        "1.31 cycles per instruction of Cortex-M4 code, +-15 %: the same counts against MLPerf Tiny v1.0's four models "
        "on nRF5340 (1.25 to 1.38)",
    ),
    "cortex-m7": (
        (0.33, 1.3),
        "0.65 cycles per instruction of Cortex-M4 code, within a factor of two: the same counts against another "
        "engine, X-CUBE-AI on STM32H7A3 (0.51 to 0.88)",
    ),
    "cortex-m3": (
        (0.8, 3.2),
        "1.6 cycles per instruction as on a Cortex-M4, within a factor of two: no time was published for a Cortex-M3",
    ),
}
"""What an instruction counted in QEMU takes, and how that is known."""


def _anchor(architecture: str, basis: _Basis) -> Anchor:
    """The centre's rates within a factor of the spread, and as much further as any system of the architecture goes."""
    rows: tuple[System | Rates, ...] = (*SYSTEMS.values(), *RATES)
    known = {row.name: row.cycles_per_mac() for row in rows if row.architecture == architecture}
    macs = {}
    for kind in (CONVOLUTION, DEPTHWISE, DENSE):
        low, high = known[basis.centre][kind]
        middle = (low * high) ** 0.5
        ends = [rates[kind] for rates in known.values() if kind in rates]
        macs[kind] = (
            min([middle / basis.spread, *(end[0] for end in ends)]),
            max([middle * basis.spread, *(end[1] for end in ends)]),
        )
    words = f"{basis.centre}, within a factor of {basis.spread:g}"
    others = [name for name in known if name != basis.centre]
    words += f", and as far as {'; '.join(others)}" if others else ""
    words += f"; {basis.why}" if basis.why else ""
    return Anchor(macs, basis.element * basis.spread, basis.call * basis.spread, words)


ANCHORS: Final[Mapping[str, Anchor]] = {name: _anchor(name, basis) for name, basis in _BASES.items()}
