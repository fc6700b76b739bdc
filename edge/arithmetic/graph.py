"""A whole model on batches of records, with the numbers that TFLite Micro gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from math import prod
from typing import Final

import numpy as np
import torch

from edge.arithmetic import elementwise, moves, pools, products, softmax, tables
from edge.arithmetic.kernel import Builder, Kernel
from edge.arithmetic.network import Network, Node, Slot, network
from edge.artifact import Levels
from edge.runtimes.runtime import CannotRunError

KERNELS: Final[dict[str, Builder]] = {
    "CONV_2D": products.convolution,
    "DEPTHWISE_CONV_2D": products.depthwise,
    "FULLY_CONNECTED": products.dense,
    "ADD": elementwise.addition,
    "MUL": elementwise.product,
    **dict.fromkeys(("SUB", "SQUARED_DIFFERENCE", "MAXIMUM", "MINIMUM"), tables.binary),
    **dict.fromkeys(("RELU", "RELU6", "LEAKY_RELU", "LOGISTIC", "TANH", "HARD_SWISH", "RSQRT"), tables.unary),
    "QUANTIZE": elementwise.quantize,
    "DEQUANTIZE": tables.unary,
    "MAX_POOL_2D": pools.largest,
    "AVERAGE_POOL_2D": pools.average,
    "MEAN": pools.mean,
    "SUM": pools.total,
    "SOFTMAX": softmax.softmax,
    **dict.fromkeys(("RESHAPE", "SQUEEZE", "EXPAND_DIMS"), moves.reshape),
    "TRANSPOSE": moves.transpose,
    **dict.fromkeys(("PAD", "PADV2"), moves.pad),
    "CONCATENATION": moves.concatenation,
    "STRIDED_SLICE": moves.strided_slice,
}
# What computes the shape that a RESHAPE is to have, where a batch was left open; tensors say their shapes themselves.
_SHAPES: Final = ("SHAPE", "STRIDED_SLICE", "PACK")
# Numbers in the largest activation of a batch, 4 megabytes of float32: in larger batches convolutions gain nothing.
_BATCH_NUMBERS: Final = 1 << 20
_MOST_RECORDS: Final = 1024


@dataclass(frozen=True)
class _Step:
    run: Kernel
    inputs: tuple[int, ...]  # activations
    output: int
    spent: tuple[int, ...]  # activations that nobody uses after this


@dataclass(frozen=True)
class Compiled:
    """A model, ready to answer; call it with levels (records, *input shape), get (records, outputs).

    Both are in the file's own number formats. One thread is enough: set `torch.set_num_threads(1)` in a process that
    shares its processors with others. The numbers do not depend on threads or batches.
    """

    steps: tuple[_Step, ...]
    source: Slot
    result: Slot
    records: int = field(default=1)  # in a batch

    def __call__(self, levels: Levels) -> Levels:
        """The answers, as the device gives them."""
        outputs = np.empty((len(levels), prod(self.result.shape)), dtype=self.result.numbers)
        # NNPACK, which torch may take for single small records, multiplies by Winograd's method: that is not exact.
        with torch.inference_mode(), torch.backends.nnpack.flags(enabled=False):
            for start in range(0, len(levels), self.records):
                rows = slice(start, start + self.records)
                outputs[rows] = self._batch(levels[rows])
        return outputs

    def _batch(self, levels: Levels) -> Levels:
        rows = torch.from_numpy(np.ascontiguousarray(levels)).reshape(len(levels), *self.source.shape)
        live = {self.source.index: rows.float() - self.source.zero_point}
        for step in self.steps:
            live[step.output] = step.run([live[index] for index in step.inputs])
            for index in step.spent:
                del live[index]
        answers = live[self.result.index] + self.result.zero_point
        return answers.reshape(len(levels), -1).numpy().astype(self.result.numbers)


@lru_cache(maxsize=8)
def compiled(model: bytes) -> Compiled:
    """A TFLite file's bytes as a function on batches, not yet compared with TFLite Micro.

    Raises `CannotRunError` naming the operator that is not supported, or not in this form.
    """
    read = network(model)
    nodes = [node for node in read.nodes if not (node.kind in _SHAPES and node.output.numbers == "int32")]
    computed = {read.source.index} | {node.output.index for node in nodes}
    uses = [tuple(slot.index for slot in node.inputs if slot and slot.index in computed) for node in nodes]
    last = {index: position for position, inputs in enumerate(uses) for index in inputs}
    last[read.result.index] = len(uses)
    steps = [
        _Step(_kernel(node), inputs, node.output.index, tuple(i for i in set(inputs) if last[i] == position))
        for position, (node, inputs) in enumerate(zip(nodes, uses, strict=True))
    ]
    return Compiled(tuple(steps), read.source, read.result, _records(read))


def _kernel(node: Node) -> Kernel:
    if node.kind not in KERNELS:
        raise node.refusal(f"is not supported; supported are {', '.join(sorted(KERNELS))}")
    try:
        return KERNELS[node.kind](node)
    except CannotRunError:
        raise
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise node.refusal(f"does not fit together: {error}") from error


def _records(read: Network) -> int:
    """How many records go through the network together."""
    largest = max(prod(slot.shape) for slot in (read.source, *(node.output for node in read.nodes)))
    return max(1, min(_MOST_RECORDS, _BATCH_NUMBERS // max(largest, 1)))
