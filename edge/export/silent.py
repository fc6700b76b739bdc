"""Layers that gave nothing but zeros on the calibration records: a quantised file holds them at zero for good."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float
from torch.export import ExportedProgram
from torch.fx import Node
from torch.fx.node import map_arg

from edge.export.graph import Weights, constants, operation, place, single_input

NOTHING: Final = 1e-6  # of an activation: the converter makes no int8 range narrower than this


def answers(
    program: ExportedProgram, weights: Weights, samples: Float[np.ndarray, "records ..."]
) -> Iterator[Mapping[Node, Any]]:
    """Torch's value of every node of `program` with `weights`, record by record."""
    source, _ = single_input(program)
    fixed = constants(program, weights)
    for row in samples:
        with torch.no_grad():
            yield _walked(program, {**fixed, source: torch.from_numpy(row[None])})


def _walked(program: ExportedProgram, known: dict[Node, Any]) -> dict[Node, Any]:
    for node in program.graph.nodes:
        if node.op == "call_function":
            target: Any = node.target
            args, kwargs = (map_arg(given, lambda each: known[each]) for given in (node.args, node.kwargs))
            known[node] = target(*args, **kwargs)
    return known


def silent_layers(
    program: ExportedProgram, weights: Weights, samples: Float[np.ndarray, "records ..."]
) -> tuple[str, ...]:
    """The layers, by operation and place, that gave next to nothing on all of `samples` and whose inputs did not."""
    source, _ = single_input(program)
    largest = {source: 0.0}
    for node in program.graph.nodes:
        if node.op == "call_function" and any(each in largest for each in node.all_input_nodes):
            largest[node] = 0.0  # an activation: it depends on the input
    for known in answers(program, weights, samples):
        for node in largest:
            if isinstance(known[node], torch.Tensor) and known[node].numel():
                largest[node] = max(largest[node], float(known[node].abs().max()))
    silent = [node for node, most in largest.items() if most <= NOTHING and isinstance(node.meta["val"], torch.Tensor)]
    first = [node for node in silent if not any(each in silent for each in node.all_input_nodes)]
    return tuple("the input" if node is source else f"{operation(node)} at {place(node)}" for node in first)
