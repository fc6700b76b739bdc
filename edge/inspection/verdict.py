"""Whether a file is a model for a microcontroller, in words for the person who has it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from edge.inspection.found import Structure, Tried
from edge.inspection.kinds import Kind

_EXPORT: Final = "export it as full int8 (`edge.export`, or the converter with a representative data set)"
TITLES: Final[dict[Kind, str]] = {
    "full-int8": "full int8",
    "int8-float-io": "whole numbers inside, floating point at its ends",
    "int16x8": "int16 activations, int8 weights",
    "int4": "int4 weights, int8 activations",
    "float32": "float32",
    "float16": "float16 weights, float32 arithmetic",
    "dynamic-range": "dynamic range (hybrid): int8 weights, float32 activations",
    "weight-only": "weight-only: small weights that are turned into float32 before each use",
    "uint8": "uint8, TensorFlow Lite's format before int8",
    "mixed": "partly quantised: some layers in whole numbers, some in floating point",
    "training": "variables and signatures, as for training on a phone",
    "several-ports": "several inputs or outputs",
    "control-flow-or-custom": "control flow or custom operators",
    "other": "numbers of a kind that is not known here",
}
_TAKEN: Final[dict[Kind, str]] = {
    "full-int8": "a device model",
    "int8-float-io": "a device model that quantises its input and dequantises its output itself: whoever asks it hands"
    " in and gets floating point, in steps of the int8 or int16 inside",
    "int16x8": "a device model; its activations need twice the memory of int8",
    "int4": "a device model; the kernels unpack the weights into the arena",
    "float32": "a device model for boards with a floating-point unit; other boards compute it slowly",
    "weight-only": "it runs on a device in floating point, each constant with one scale for all, which is read rightly",
    "mixed": "it runs on a device, partly in floating point",
}
_REFUSED: Final[dict[Kind, str]] = {
    "float16": f"TFLite Micro does not turn float16 constants into float32; {_EXPORT}",
    "dynamic-range": f"TFLite Micro does not support hybrid models; {_EXPORT}",
    "weight-only": _EXPORT,
    "uint8": f"TFLite Micro's kernels no longer take uint8; {_EXPORT}",
    "training": "TFLite Micro may crash on such a file, which is for LiteRT; export the inference part by itself",
    "control-flow-or-custom": "export the plain graph, or audit it with the runtime it was made for",
}


def judge(structure: Structure, tried: Sequence[Tried]) -> tuple[bool, str]:
    """Whether a microcontroller computes what the file says, and why or why not."""
    device = next(each for each in tried if each.runtime == "tflm")
    title = TITLES[structure.kind]
    if structure.misread_constants and device.outcome == "takes":
        return False, f"{title}: {_misread(structure, tried)}"
    if device.outcome != "takes":
        advice = _REFUSED.get(structure.kind)
        return False, f"{title}: no device model: {device.reason}" + (f". {_sentence(advice)}" if advice else "")
    return True, f"{title}: {_taken(structure)}"


def _taken(structure: Structure) -> str:
    words = _TAKEN.get(structure.kind, "TFLite Micro takes it")
    if not structure.askable:
        words += f". It cannot be asked one record at a time: {_unaskable(structure)}"
    return words


def _unaskable(structure: Structure) -> str:
    if (len(structure.inputs), len(structure.outputs)) != (1, 1):
        return f"it has {len(structure.inputs)} inputs and {len(structure.outputs)} outputs"
    for port in (*structure.inputs, *structure.outputs):
        if not port.shape or port.shape[0] != 1:
            return f"'{port.name}' has shape {port.shape}, not a batch of 1"
    return "its ends are " + " and ".join(port.numbers for port in (*structure.inputs, *structure.outputs))


def _misread(structure: Structure, tried: Sequence[Tried]) -> str:
    host = next((each for each in tried if each.runtime == "litert"), None)
    seen = "" if host is None or not host.largest_difference else f" (by up to {host.largest_difference:.3g} here)"
    return (
        f"TFLite Micro loads it and computes WRONG numbers{seen}, because its DEQUANTIZE takes the first scale of "
        f"{structure.misread_constants} constants that have one per channel. Refused as a device model; {_EXPORT}"
    )


def _sentence(words: str) -> str:
    return words[0].upper() + words[1:]
