"""Whether a file is a model for a microcontroller, in words for the person who has it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from edge.inspection.found import FlawFound, Structure, Tried
from edge.inspection.kinds import Kind

_EXPORT: Final = "export it as full int8 (`edge.export`, or the converter with a representative data set)"
_NAMED: Final = 4  # states, operators or signatures that are named; of more, how many
TITLES: Final[dict[Kind, str]] = {
    "full-int8": "full int8",
    "int8-float-io": "whole numbers inside, floating point at its ends",
    "int8-uint8-io": "whole numbers inside, uint8 at its ends",
    "int16x8": "int16 activations, int8 weights",
    "int4": "int4 weights, int8 activations",
    "float32": "float32",
    "float16": "float16 weights, float32 arithmetic",
    "dynamic-range": "dynamic range (hybrid): int8 weights, float32 activations",
    "weight-only": "weight-only: small weights that are turned into float32 before each use",
    "uint8": "uint8, TensorFlow Lite's format before int8",
    "mixed": "partly quantised: some layers in whole numbers, some in floating point",
    "compiled": "compiled for an NPU",
    "training": "variables and signatures, as for training on a phone",
    "with-memory": "with a memory (a state kept between inferences, as in streaming)",
    "several-ports": "several inputs or outputs",
    "control-flow-or-custom": "control flow or custom operators",
    "other": "numbers of a kind that is not known here",
}
_TAKEN: Final[dict[Kind, str]] = {
    "full-int8": "a device model",
    "int8-float-io": "a device model that quantises its input and dequantises its output itself: whoever asks it hands"
    " in and gets floating point, in steps of the int8 or int16 inside",
    "int8-uint8-io": "a device model that turns uint8 into its own numbers, or these into uint8, itself",
    "with-memory": "a device model",
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
    "compiled": "only that hardware runs it; audit the file that was given to the compiler",
    "training": "TFLite Micro may crash on such a file, which is for LiteRT; export the inference part by itself",
    "control-flow-or-custom": "export the plain graph, or audit it with the runtime it was made for",
}


def titled(structure: Structure) -> str:
    """What kind of file it is, in a few words, with what the kind alone does not say."""
    title = TITLES[structure.kind]
    if structure.kind == "compiled":
        return f"compiled for {structure.compiled_for}"
    if structure.kind == "with-memory":
        numbers = TITLES["full-int8" if structure.format == "int8" else structure.format]
        return f"{numbers}, {title}"
    if structure.kind == "control-flow-or-custom":
        return f"{title} ({', '.join(_stopping(structure))})"
    return title


def judge(structure: Structure, tried: Sequence[Tried]) -> tuple[bool, str]:
    """Whether a microcontroller computes what the file says, and why or why not."""
    device = next(each for each in tried if each.runtime == "tflm")
    title = titled(structure)
    if structure.misread_constants and device.outcome == "takes":
        return False, f"{title}: {_misread(structure, tried)}"
    if device.outcome == "not tried":
        return False, f"{title}: whether a microcontroller computes it is not known: {device.reason}"
    if device.outcome != "takes":
        advice = _advice(structure)
        return False, f"{title}: no device model: {device.reason}" + (f". {_sentence(advice)}" if advice else "")
    if structure.unset:
        return False, f"{title}: no device model: variables that it reads are not in the file"
    if not device.sound:
        return False, f"{title}: no device model: {unsound(structure, device)}"
    return True, f"{title}: {_taken(structure)}"


def unsound(structure: Structure, tried: Tried) -> str:
    """Why a runtime's answers are no answers to single records; nothing where they are."""
    where = {"tflm": "TFLite Micro", "litert": "LiteRT"}.get(tried.runtime, tried.runtime)
    if tried.repeats is False:
        return f"in {where} the same record gets another answer when it is asked again"
    if tried.alone is False:
        return (
            f"in {where} the answer to a record depends on the others in its batch of {structure.batch}, as where "
            "something is normalised over the batch, or the first axis is time and no batch"
        )
    return ""


def remarks(structure: Structure, tried: Sequence[Tried]) -> list[str]:
    """What else whoever has the file should know, one sentence each."""
    return [
        *_memory(structure),
        *(f"{_sentence(why)}" for why in (drawing(structure), left_behind(structure)) if why),
        *(_bias(each) for each in structure.biases),
        *(_dead(each) for each in structure.dead),
        *_constant(structure, tried),
        *_axes(structure),
        *_signatures(structure),
    ]


def _memory(structure: Structure) -> Iterator[str]:
    if not structure.states:
        return
    shown, more = structure.states[:_NAMED], len(structure.states) - _NAMED
    named = ", ".join(shown) + (f" and {more} more" if more > 0 else "")
    yield (
        f"It keeps a state from one inference to the next: {named}. Each record is asked from a fresh state, as just "
        "after switching on, so no answer depends on the records before it; a device that goes on without a reset may "
        "answer otherwise, and what that gives away is not measured here"
    )


def drawing(structure: Structure) -> str:
    """Why a file that draws random numbers cannot be asked; nothing for one that does not."""
    if not structure.random:
        return ""
    return (
        f"it draws random numbers ({', '.join(structure.random)}), so the same record gets another answer each time; "
        "convert the graph as it is for inference, with dropout and noise off"
    )


def slices(structure: Structure) -> str:
    """Why a file whose operators gather a stream cannot be asked; nothing for one that has no such operators."""
    gathering = [words.removeprefix("operator ") for words in structure.states if words.startswith("operator ")]
    if not gathering:
        return ""
    return (
        f"it gathers a stream slice by slice ({', '.join(gathering[:_NAMED])}), and may answer only after several: one "
        "record from a fresh state gets no answer of the model. Convert it without streaming, to take a whole record"
    )


def left_behind(structure: Structure) -> str:
    """Why a file without its variables' values cannot be asked; nothing for one that has them."""
    if not structure.unset:
        return ""
    return (
        f"it reads variables that nothing in the file sets ({', '.join(structure.unset[:_NAMED])}): their values were "
        "left behind when it was converted, so whatever it answers is not the model; convert it again with the object "
        "that holds the variables (`from_keras_model`, `from_saved_model`, or `trackable_obj`)"
    )


def _bias(flaw: FlawFound) -> str:
    at = f"The bias '{flaw.tensor}' of {flaw.kind}, operator {flaw.operator}{_in_graph(flaw)},"
    if not (flaw.value and flaw.wanted):
        return f"{at} has a scale that is no positive number: what it adds is lost. Export the model anew"
    return (
        f"{at} was written in steps of {flaw.value:.3g} and is read in steps of {flaw.wanted:.3g} (the input's times "
        f"the weights'): it adds up to {flaw.steps:,.0f} steps of the layer's output wrongly. A converter that gives "
        "two layers one bias does this; export the model anew with a bias for each"
    )


def _dead(flaw: FlawFound) -> str:
    return (
        f"'{flaw.tensor}', made by {flaw.kind}, operator {flaw.operator}{_in_graph(flaw)}, has a range of "
        f"{flaw.value:.3g} in all, less than one step ({flaw.wanted:.3g}) of what it is made of: the layer was dead on "
        "the records that the file was calibrated with, and passes on a constant whatever goes in. Calibrate with "
        "records that use it, or export without it"
    )


def _in_graph(flaw: FlawFound) -> str:
    return f" of graph {flaw.graph}" if flaw.graph else ""


def _constant(structure: Structure, tried: Sequence[Tried]) -> Iterator[str]:
    """Of probabilities nothing is said: random records saturate a softmax."""
    where = " and ".join(each.runtime for each in tried if each.constant)
    if where and not structure.probabilities:
        yield f"All random records got the same answer ({where}), as from a model with a dead layer"


def _axes(structure: Structure) -> Iterator[str]:
    for axis in structure.open_axes if len(structure.inputs) == 1 else ():
        length = structure.inputs[0].shape[axis] if axis < len(structure.inputs[0].shape) else 1
        yield (
            f"Axis {axis} of its input is left open (-1) and is taken as {length} long, as the file is stored; for "
            "records of another length convert it with that length"
        )


def _signatures(structure: Structure) -> Iterator[str]:
    if len(structure.signatures) > 1:
        named = ", ".join(structure.signatures[:_NAMED])
        yield (
            f"It has {len(structure.signatures)} signatures ({named}); what is run is the first graph, as TFLite Micro "
            "does"
        )


def _stopping(structure: Structure) -> list[str]:
    """Control flow and operators of somebody's own, by name."""
    wanted = ("IF", "WHILE", "CALL", "DELEGATE", "CUSTOM", "STABLEHLO")
    return [name for name in structure.operators if name.startswith(wanted)][:_NAMED]


def _advice(structure: Structure) -> str | None:
    if structure.flex:
        return (
            f"{', '.join(structure.flex[:_NAMED])} are TensorFlow's own operators, which only its Flex delegate runs; "
            "convert with TFLITE_BUILTINS alone"
        )
    return _REFUSED.get(structure.kind)


def _taken(structure: Structure) -> str:
    words = _TAKEN.get(structure.kind, "TFLite Micro takes it")
    if structure.unaskable:
        words += f". It cannot be asked one record at a time: {structure.unaskable}"
    elif structure.batch > 1:
        words += (
            f". It takes {structure.batch} records at once: each is asked in a batch filled with copies of itself, so "
            "that no other has a part in its answer"
        )
    return words


def _misread(structure: Structure, tried: Sequence[Tried]) -> str:
    host = next((each for each in tried if each.runtime == "litert"), None)
    seen = "" if host is None or not host.largest_difference else f" (by up to {host.largest_difference:.3g} here)"
    return (
        f"TFLite Micro loads it and computes WRONG numbers{seen}, because its DEQUANTIZE takes the first scale of "
        f"{structure.misread_constants} constants that have one per channel. Refused as a device model; {_EXPORT}"
    )


def _sentence(words: str) -> str:
    return words[0].upper() + words[1:]
