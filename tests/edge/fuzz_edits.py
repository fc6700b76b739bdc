"""Faults in what a TFLite file says: each changes an unpacked file, one of its graphs, with a generator."""

from __future__ import annotations

from collections.abc import Callable

import flatbuffers
import numpy as np

from edge.tensors import unpacked

CANARY = "seepage-canary"
NAMES = (
    f"../../{CANARY}",
    f"/tmp/{CANARY}",
    f"~/{CANARY}",
    f"..\\..\\{CANARY}.exe",
    f"file:///{CANARY}",
    f"\x1b]0;{CANARY}\x07\x1b[2J",
    "\u202e\u0000\u200b\ufeff",
    "%s%n%x" * 20,
    "$(touch " + CANARY + ")",
    "`touch " + CANARY + "`; rm -rf",
    "<script>alert(1)</script>",
    "A" * 100_000,
    "",
)
HUGE = (2**31 - 1, 2**30, -1, 0, -(2**31), 65536, 2**16 + 1, 10**6)
SCALES = (float("nan"), 0.0, float("inf"), -1.0, 1e-45, 3.4e38, -float("inf"))


def edited(fault: Callable) -> Callable:
    """A fault as a change of the unpacked file, one of its graphs, and the generator."""

    def apply(blob, rng, seeds):
        whole = unpacked(blob)
        fault(whole, whole.subgraphs[rng.integers(len(whole.subgraphs))], rng)
        builder = flatbuffers.Builder(1 << 16)
        builder.Finish(whole.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    return apply


def one(things, rng):
    return things[rng.integers(len(things))]


def shapes(whole, graph, rng):
    tensor = one(graph.tensors, rng)
    sides = [int(side) for side in tensor.shape] or [1]
    sides[rng.integers(len(sides))] = int(one(HUGE, rng))
    tensor.shape = sides


def ranks(whole, graph, rng):
    one(graph.tensors, rng).shape = [1] * int(one((0, 5, 9, 100, 10_000), rng))


def signatures(whole, graph, rng):
    tensor = one(graph.tensors, rng)
    tensor.shapeSignature = [int(one(HUGE, rng)) for _ in range(rng.integers(0, 9))]


def references(whole, graph, rng):
    """Of an operator to tensors: its own output, later ones, missing ones."""
    operator, count = one(graph.operators, rng), len(graph.tensors)
    wrong = [*operator.outputs, int(rng.integers(count)), count, 2**31 - 1, -1, -2, -(2**31)]
    side = "inputs" if rng.random() < 0.7 else "outputs"
    listed = [int(index) for index in getattr(operator, side)]
    if listed:
        listed[rng.integers(len(listed))] = int(one(wrong, rng))
    setattr(operator, side, listed)


def cycles(whole, graph, rng):
    """Two operators wait for each other."""
    first, second = one(graph.operators, rng), one(graph.operators, rng)
    first.inputs = [int(second.outputs[0]), *(int(index) for index in first.inputs[1:])]
    second.inputs = [int(first.outputs[0]), *(int(index) for index in second.inputs[1:])]


def order(whole, graph, rng):
    graph.operators = [graph.operators[i] for i in rng.permutation(len(graph.operators))]


def arity(whole, graph, rng):
    operator = one(graph.operators, rng)
    listed = [int(index) for index in operator.inputs]
    operator.inputs = one(([], listed[:1], listed * 2, listed * 1000, None), rng)


def ends(whole, graph, rng):
    count = len(graph.tensors)
    wrong = one(([], [count], [-1], [0] * 100, list(range(count)), [2**31 - 1], None), rng)
    setattr(graph, one(("inputs", "outputs"), rng), wrong)


def buffers(whole, graph, rng):
    one(graph.tensors, rng).buffer = int(
        one((0, 1, len(whole.buffers), 2**32 - 1, rng.integers(len(whole.buffers))), rng)
    )


def missing_buffers(whole, graph, rng):
    whole.buffers = one(([], whole.buffers[: len(whole.buffers) // 2], None), rng)


def data(whole, graph, rng):
    """A constant's bytes: none, too few, too many, or others (shapes, axes, weights)."""
    buffer = whole.buffers[one(graph.tensors, rng).buffer]
    length = 0 if buffer.data is None else len(buffer.data)
    wanted = int(one((0, 1, max(0, length - 1), length, length, length, length * 2 + 4), rng))
    buffer.data = np.frombuffer(rng.bytes(wanted), np.uint8)


def outside_data(whole, graph, rng):
    buffer = one(whole.buffers, rng)
    buffer.offset, buffer.size = int(one((2, 100, 2**40, 2**63), rng)), int(one((1, 10**6, 2**40, 2**64 - 1), rng))


def opcodes(whole, graph, rng):
    code = one(whole.operatorCodes, rng)
    number = int(one((*range(0, 160, 7), 32, 51, 118, 119, 129, 130, 207, 10**6, -1), rng))
    code.builtinCode, code.deprecatedBuiltinCode = number, min(127, max(-128, number))


def opcode_indices(whole, graph, rng):
    one(graph.operators, rng).opcodeIndex = int(one((len(whole.operatorCodes), 2**32 - 1, 0), rng))


def versions(whole, graph, rng):
    one(whole.operatorCodes, rng).version = int(one((0, -1, 2**31 - 1, 99), rng))
    whole.version = int(one((3, 3, 3, 0, 2, 4, 2**32 - 1), rng))


def options(whole, graph, rng):
    """Strides, sizes, factors, activations, subgraphs: whatever numbers an operator's options have."""
    chosen = one(graph.operators, rng).builtinOptions
    for name, value in vars(chosen).items():
        if isinstance(value, bool) or not isinstance(value, int | float) or rng.random() < 0.4:
            continue
        setattr(chosen, name, float(one(SCALES, rng)) if isinstance(value, float) else int(one(HUGE, rng)))


def no_options(whole, graph, rng):
    operator = one(graph.operators, rng)
    operator.builtinOptions, operator.builtinOptionsType = None, int(one((0, operator.builtinOptionsType), rng))


def other_options(whole, graph, rng):
    first, second = one(graph.operators, rng), one(graph.operators, rng)
    first.builtinOptions, first.builtinOptionsType = second.builtinOptions, second.builtinOptionsType


def scales(whole, graph, rng):
    quantization = quantised(graph, rng).quantization
    values = [float(scale) for scale in quantization.scale]
    values[rng.integers(len(values))] = float(one(SCALES, rng))
    quantization.scale = values


def scale_counts(whole, graph, rng):
    quantization = quantised(graph, rng).quantization
    quantization.scale = [0.1] * int(one((0, 2, 7, 5000), rng))
    quantization.zeroPoint = [int(one((0, 2**62, -(2**63)), rng))] * int(one((0, 1, 3), rng))


def zero_points(whole, graph, rng):
    quantization = quantised(graph, rng).quantization
    quantization.zeroPoint = [int(one((2**63 - 1, -(2**63), 200, -1000, 2**31), rng))]


def axes(whole, graph, rng):
    quantised(graph, rng).quantization.quantizedDimension = int(one((-1, 7, 2**31 - 1, -(2**31)), rng))


def quantised(graph, rng):
    tensors = [each for each in graph.tensors if each.quantization is not None and each.quantization.scale is not None]
    return one(tensors, rng)


def types(whole, graph, rng):
    one(graph.tensors, rng).type = int(one((*range(23), 100, -1), rng))


def variables(whole, graph, rng):
    one(graph.tensors, rng).isVariable = True


def recursion(whole, graph, rng):
    """An operator that calls its own graph, or one that does not exist."""
    from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

    kind = one(("IF", "WHILE", "CALL_ONCE"), rng)
    code, operator, target = schema.OperatorCodeT(), one(graph.operators, rng), int(one((0, 0, 1, 2**31 - 1, -1), rng))
    code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, kind)
    if code.builtinCode > 127:
        code.deprecatedBuiltinCode = 127
    made = {"IF": schema.IfOptionsT, "WHILE": schema.WhileOptionsT, "CALL_ONCE": schema.CallOnceOptionsT}[kind]()
    for name in vars(made):
        setattr(made, name, target)
    whole.operatorCodes.append(code)
    operator.opcodeIndex, operator.builtinOptions = len(whole.operatorCodes) - 1, made
    operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(made).__name__[:-1])


def graphs(whole, graph, rng):
    whole.subgraphs = one(([], [graph] * 2, [graph] * 100, None), rng)


def names(whole, graph, rng):
    name = one(NAMES, rng)
    for tensor in graph.tensors:
        tensor.name = name.encode()
    graph.name = whole.description = name.encode()
    for code in whole.operatorCodes:
        code.customCode = name.encode()


def custom(whole, graph, rng):
    code = one(whole.operatorCodes, rng)
    code.builtinCode = code.deprecatedBuiltinCode = 32
    code.customCode = one((*NAMES, "ethos-u", "TFLite_Detection_PostProcess", "FlexConv2D"), rng).encode()


def raw_names(whole, graph, rng):
    one(graph.tensors, rng).name = rng.bytes(rng.integers(1, 300))


def metadata(whole, graph, rng):
    from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

    whole.metadata = []
    for _ in range(int(one((1, 100, 3000), rng))):
        each = schema.MetadataT()
        each.name, each.buffer = one(NAMES[:-2], rng).encode(), int(one((0, 2**32 - 1, len(whole.buffers)), rng))
        whole.metadata.append(each)


def signature_graphs(whole, graph, rng):
    for each in whole.signatureDefs or ():
        each.subgraphIndex, each.signatureKey = int(one((5, 2**32 - 1), rng)), one(NAMES, rng).encode()


def sparsity(whole, graph, rng):
    from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

    made = schema.SparsityParametersT()
    made.traversalOrder, made.blockMap = [int(one(HUGE, rng))] * 3, [7, -1]
    dimension = schema.DimensionMetadataT()
    dimension.format, dimension.denseSize = int(one((0, 1), rng)), int(one(HUGE, rng))
    made.dimMetadata = [dimension] * 3
    one(graph.tensors, rng).sparsity = made


EDITS = (
    *(shapes, ranks, signatures, references, cycles, order, arity, ends, buffers, missing_buffers, data, outside_data),
    *(opcodes, opcode_indices, versions, options, options, options, no_options, other_options, scales, scale_counts),
    *(zero_points, axes, types, variables, recursion, graphs, names, custom, raw_names, metadata, signature_graphs),
    sparsity,
)
