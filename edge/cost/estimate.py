"""Latency and energy of one inference, as intervals that name what they rest on; none where nothing was published."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edge.cost.anchors import ANCHORS, CYCLES_PER_INSTRUCTION, NO_ANCHOR, Interval
from edge.cost.macs import PUBLISHED, Work
from edge.devices import Device


@dataclass(frozen=True)
class Estimate:
    """Between which two figures something lies. `anchor` says what that rests on, or why there is no interval."""

    interval: Interval | None
    unit: Literal["ms", "uJ"]
    anchor: str

    @property
    def words(self) -> str:
        """The interval with its anchor, for people."""
        if self.interval is None:
            return f"not known: {self.anchor}"
        low, high = (f"{end:.3g}" if end < 1000 else f"{end:,.0f}" for end in self.interval)
        return f"{low} to {high} {self.unit}: {self.anchor}"


def latency(work: Work, device: Device, instructions: int | None = None) -> Estimate:
    """Milliseconds for one inference on the device's processor, without its NPU (for that see `edge.vela`).

    `instructions` is what an emulator counted for the model's Cortex-M code (for a Cortex-M33 or M7, Cortex-M4 code);
    it gives a far narrower interval, and the only one for other numbers than int8. Without it, published cycles per
    multiply-accumulate of the architecture are used.
    """
    known = CYCLES_PER_INSTRUCTION.get(device.architecture)
    if instructions is not None and known:
        per_instruction, words = known
        if work.numbers != "int8":
            per_instruction = (per_instruction[0] / 2, per_instruction[1] * 2)
            words += f"; twice that either way, as this file computes in {work.numbers} and the rows in int8"
        return Estimate(_milliseconds(device, _times(per_instruction, instructions)), "ms", words)
    why = _why_not(work, device)
    if why:
        return Estimate(None, "ms", why)
    anchor = ANCHORS[device.architecture]
    words = f"cycles per multiply-accumulate of {anchor.words}"
    if device.external_flash:
        words += "; the rows' weights lay in flash on the chip or in RAM, this board's flash is a slower chip beside it"
    return Estimate(_milliseconds(device, cycles(work, device.architecture)), "ms", words)


def cycles(work: Work, architecture: str) -> Interval:
    """By the rates of `ANCHORS`; other operators take from nothing to what slow ones took, per element and per call."""
    anchor = ANCHORS[architecture]
    low = sum(macs * anchor.macs[kind][0] for kind, macs in work.macs.items())
    high = sum(macs * anchor.macs[kind][1] for kind, macs in work.macs.items())
    return low, high + anchor.element * sum(work.elements.values()) + anchor.call * work.operators


def energy(time: Estimate, device: Device) -> Estimate:
    """Microjoules for one inference: the latency times what the chip draws while its processor works."""
    if time.interval is None:
        return Estimate(None, "uJ", f"the latency is not known: {time.anchor}")
    if device.power is None:
        return Estimate(None, "uJ", device.no_power)
    interval = (time.interval[0] * device.power.low, time.interval[1] * device.power.high)
    ends = dict.fromkeys((device.power.low, device.power.high))  # one figure where both are the same
    drawn = " to ".join(f"{end:g}" for end in ends)
    return Estimate(interval, "uJ", f"{drawn} mW, times the latency; {device.power.source}")


def _why_not(work: Work, device: Device) -> str:
    """Why there is no estimate from rates, or nothing."""
    if device.architecture in NO_ANCHOR:
        return NO_ANCHOR[device.architecture]
    if device.architecture not in ANCHORS:
        return f"nothing is known of {device.architecture}"
    if work.numbers != "int8":
        return f"published times are of int8 networks, and this file computes in {work.numbers}"
    other = sorted({*work.uncounted, *(kind for kind in work.macs if kind not in PUBLISHED)})
    if other:
        return f"nothing was published on {', '.join(other)}"
    return ""


def _times(interval: Interval, factor: float) -> Interval:
    return interval[0] * factor, interval[1] * factor


def _milliseconds(device: Device, counted: Interval) -> Interval:
    return _times(counted, 1 / (device.clock_mhz * 1000))
