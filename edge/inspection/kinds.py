"""What kind of model a file is: which numbers it computes in, and what it holds beside one graph from in to out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

from edge.tflite.parser import File, Graph, Operator
from edge.tflite.state import assigned, states, variables

Format = Literal[
    "int8", "int4", "int16x8", "uint8", "float32", "float16", "dynamic-range", "weight-only", "mixed", "other"
]
Kind = Literal[
    "full-int8",
    "int8-float-io",
    "int8-uint8-io",
    "int16x8",
    "int4",
    "float32",
    "float16",
    "dynamic-range",
    "weight-only",
    "uint8",
    "mixed",
    "compiled",
    "training",
    "with-memory",
    "several-ports",
    "control-flow-or-custom",
    "other",
]
# Where the weights are among the inputs of operators that have them, and where the activations are.
_WEIGHTED: Final = {
    **dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "CONV_3D", "BATCH_MATMUL", "SVDF"), (1, 0)),
    **dict.fromkeys(("UNIDIRECTIONAL_SEQUENCE_LSTM", "LSTM", "UNIDIRECTIONAL_SEQUENCE_RNN", "RNN"), (2, 0)),
    "TRANSPOSE_CONV": (1, 2),
}
COMPILERS: Final = {
    "ethos-u": "an Arm Ethos-U NPU, by Arm's compiler Vela",
    "edgetpu-custom-op": "a Coral Edge TPU, by edgetpu_compiler",
    "NeutronGraph": "an NXP eIQ Neutron NPU, by NXP's neutron-converter",
    "DISPATCH_OP": "the NPU of a phone, by LiteRT's ahead-of-time compiler",
}
"""What a custom operator's name says of the hardware that a file was compiled for, and of who compiled it."""
_TRAINING: Final = ("train", "training", "fit", "learn")  # how the name of a signature that trains begins
FLEX: Final = "Flex"  # begins the names of TensorFlow's own operators
_CONTROL: Final = {"IF", "WHILE", "CALL", "CUSTOM", "DELEGATE"}
_UNCHANGED: Final = {"RESHAPE", "SQUEEZE", "EXPAND_DIMS", "TRANSPOSE"}
_SMALL: Final = {"INT8", "UINT8", "INT4", "UINT4", "INT2"}
_DIRECT: Final[dict[tuple[str, str], Format]] = {
    ("INT8", "INT8"): "int8",
    ("INT8", "INT4"): "int4",
    ("INT16", "INT8"): "int16x8",
    ("INT16", "INT16"): "int16x8",
    ("UINT8", "UINT8"): "uint8",
    ("FLOAT32", "FLOAT32"): "float32",
}
_OF_INPUT: Final[dict[str, Format]] = {"INT8": "int8", "INT16": "int16x8", "UINT8": "uint8", "FLOAT32": "float32"}
_QUANTISED: Final = ("int8", "int4", "int16x8")


def format_of(file: File) -> Format:
    """The numbers of the operators that have weights, over all graphs."""
    found = {_format(graph, operator) for graph in file.graphs for operator in graph.operators} - {None}
    formats: set[Format] = {each for each in found if each is not None}
    for decisive in ("weight-only", "dynamic-range", "float16"):
        if decisive in formats:
            return decisive
    if formats == {"int8", "int4"}:
        return "int4"
    if len(formats) > 1:
        return "mixed"
    return formats.pop() if formats else _OF_INPUT.get(_port_types(file.graphs[0])[0], "other")


def kind_of(file: File, numbers: Format) -> Kind:
    """What stands in the way of one record in and one answer out comes first, then the numbers."""
    first, operators = file.graphs[0], {op.kind for graph in file.graphs for op in graph.operators}
    if compiled_for(file):
        return "compiled"
    if _trains(file):
        return "training"
    if (len(first.inputs), len(first.outputs)) != (1, 1):
        return "several-ports"
    if states(file):
        return "with-memory"
    if operators & _CONTROL or any(name.startswith("STABLEHLO") for name in operators):
        return "control-flow-or-custom"
    if numbers in _QUANTISED and "UINT8" in _port_types(first):
        return "int8-uint8-io"
    if numbers in _QUANTISED and "FLOAT32" in _port_types(first):
        return "int8-float-io"
    return "full-int8" if numbers == "int8" else numbers


def compiled_for(file: File) -> str:
    """The hardware that a file was compiled for, and by what; nothing for a file that any runtime may take."""
    customs = [op.custom for graph in file.graphs for op in graph.operators if op.kind == "CUSTOM"]
    found = (made for custom in customs for name, made in COMPILERS.items() if custom.startswith(name))
    return next(found, "")


def flex_operators(file: File) -> tuple[str, ...]:
    """TensorFlow's own operators in a file: only its Flex delegate runs them."""
    customs = {op.custom for graph in file.graphs for op in graph.operators if op.kind == "CUSTOM"}
    return tuple(sorted(custom for custom in customs if custom.startswith(FLEX)))


def _trains(file: File) -> bool:
    """Whether a file learns: it assigns variables, and has a signature for that, or several graphs to be called of
    which one assigns a layer's weights.
    """
    changed = set(assigned(file))
    if changed and any(key.lower().split("_")[0] in _TRAINING for key, _ in file.signatures):
        return True
    handles = variables(file)
    pairs = zip(file.graphs, handles, strict=True)
    weights = {name for graph, own in pairs for name in _weight_variables(graph, own)}
    return len({graph for _, graph in file.signatures}) > 1 and bool(changed & weights)


def _weight_variables(graph: Graph, handles: dict[int, str]) -> Iterator[str]:
    """Resource variables that operators take as their weights."""
    for operator in graph.operators:
        place = _WEIGHTED.get(operator.kind, (0, 0))[0]
        if operator.kind in _WEIGHTED and place < len(operator.inputs):
            maker = _maker(graph, operator.inputs[place], _UNCHANGED)
            if maker is not None and maker.kind == "READ_VARIABLE" and maker.inputs:
                yield handles.get(maker.inputs[0], "?")


def misread_constants(file: File) -> int:
    """How many constants have a scale per channel and pass through DEQUANTIZE, whose kernel in TFLite Micro takes the
    first scale for all of them.
    """
    return sum(
        1
        for graph in file.graphs
        for operator in graph.operators
        if operator.kind == "DEQUANTIZE" and operator.inputs and operator.inputs[0] >= 0
        if len(graph.tensors[operator.inputs[0]].scales) > 1
    )


def ends_in(file: File) -> str:
    """SOFTMAX, LOGISTIC, ... or whichever operator makes the output, but for changes of shape and of numbers."""
    graph = file.graphs[0]
    maker = _maker(graph, graph.outputs[0], _UNCHANGED | {"QUANTIZE", "DEQUANTIZE"}) if graph.outputs else None
    return maker.kind if maker is not None else ""


def _port_types(graph: Graph) -> list[str]:
    return [graph.tensors[index].type for index in (*graph.inputs, *graph.outputs)] or [""]


def _format(graph: Graph, operator: Operator) -> Format | None:
    if operator.kind not in _WEIGHTED:
        return None
    weights, activations = _WEIGHTED[operator.kind]
    if max(weights, activations) >= len(operator.inputs):
        return "other"
    index, taken = operator.inputs[weights], operator.inputs[activations]
    if index < 0 or taken < 0:
        return "other"
    stored, dequantised = _stored(graph, index)
    computed = graph.tensors[taken].type
    if dequantised:
        return "float16" if stored == "FLOAT16" else "weight-only"
    if computed == "FLOAT32" and stored in _SMALL:
        return "dynamic-range"
    return _DIRECT.get((computed, stored), "other")


def _stored(graph: Graph, index: int) -> tuple[str, bool]:
    """The type in which weights are stored, and whether they are turned into others before they are used."""
    maker = _maker(graph, index, _UNCHANGED)
    if maker is None or maker.kind != "DEQUANTIZE" or maker.inputs[:1] in ((), (-1,)):
        return graph.tensors[index].type, False
    source = graph.tensors[maker.inputs[0]]
    return (source.type, True) if source.data else (graph.tensors[index].type, False)


def _maker(graph: Graph, index: int, through: set[str]) -> Operator | None:
    """The operator that makes a tensor, seen through operators of the kinds given; None for an input or constant."""
    makers = {output: operator for operator in graph.operators for output in operator.outputs}
    maker = makers.get(index)
    while maker is not None and maker.kind in through and maker.inputs and maker.inputs[0] in makers:
        maker = makers[maker.inputs[0]]  # an earlier one: the file has been checked for that
    return maker
