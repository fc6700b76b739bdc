"""Walk a torch.export graph and lower it, node by node, to a function on channels-last TensorFlow tensors."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from torch.fx import Node
from torch.fx.node import map_arg

from edge.export.layout import Shape, Tensor, Value


class UnsupportedLayerError(ValueError):
    """The model has a layer that cannot be exported faithfully. The message names the operation and its module."""


@dataclass(frozen=True)
class Call:
    """One operation of the graph, with its arguments by name (activations as `Value`, weights as torch tensors)."""

    node: Node
    arguments: Mapping[str, Any]

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - an ATen argument: number, list, text or None
        return self.arguments[name]

    @property
    def value(self) -> Value:
        """The activation the operation works on."""
        value = self.arguments.get("input", self.arguments.get("self"))  # one of two names, by the operation's schema
        if not isinstance(value, Value):
            raise self.refusal("its first operand is a constant, not an activation")
        return value

    @property
    def shape(self) -> Shape:
        """Torch's shape of the result, of several the first."""
        value = self.node.meta["val"]
        return tuple(int(side) for side in (value[0] if isinstance(value, tuple | list) else value).shape)

    def weights(self, name: str) -> Float[np.ndarray, " *shape"] | None:
        """A weight as a NumPy array, or None where the layer has none."""
        tensor = self.arguments[name]
        if tensor is None:
            return None
        if not isinstance(tensor, torch.Tensor):
            raise self.refusal(f"its {name} is computed from the input; only fixed weights can be exported")
        return tensor.detach().cpu().numpy().astype(np.float32)

    def refusal(self, why: str) -> UnsupportedLayerError:
        """An error that says which operation, where in the model, and why it cannot be exported."""
        return UnsupportedLayerError(f"{operation(self.node)} at {place(self.node)} cannot be exported: {why}")


Op = Callable[[Call], Value | list[Value]]
Weights = Mapping[str, torch.Tensor]
_CHANGES_NOTHING = ("dropout", "feature_dropout", "clone", "contiguous", "alias")


def operation(node: Node) -> str:
    """The ATen name of a node, without its overload: `conv1d`, `group_norm`."""
    target = node.target
    return target._schema.name.removeprefix("aten::") if isinstance(target, torch._ops.OpOverload) else str(target)


def place(node: Node) -> str:
    """Where in the model a node is: the path and class of the innermost module."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    if not stack:
        return "the model"
    path, kind = stack[-1]
    name = (kind if isinstance(kind, str) else kind.__name__).rsplit(".", 1)[-1]
    return f"'{path}' ({name})" if path else f"the forward method of {name}"


def channels_last(program: ExportedProgram, weights: Weights, ops: Mapping[Any, Op]) -> Callable[[Tensor], Tensor]:
    """A function that computes `program` with `weights` on channels-last tensors.

    Raises `UnsupportedLayerError` (when called) for an operation that is not in `ops`, or that its function refuses.
    """
    source, shape = single_input(program)

    def forward(tensor: Tensor) -> Tensor:
        known: dict[Node, Any] = {**constants(program, weights), source: Value.of(tensor, shape)}
        for node in program.graph.nodes:
            if node.op == "call_function":
                known[node] = _lower(node, known, ops)
        return _result(program, known)

    return forward


def single_input(program: ExportedProgram) -> tuple[Node, Shape]:
    """The input node and its torch shape, batch of 1 included."""
    names = program.graph_signature.user_inputs
    if len(names) != 1:
        raise UnsupportedLayerError(f"the model takes {len(names)} inputs; a model with one tensor can be exported")
    node = next(node for node in program.graph.nodes if node.name == names[0])
    return node, tuple(int(side) for side in node.meta["val"].shape)


def constants(program: ExportedProgram, weights: Weights) -> dict[Node, torch.Tensor]:
    """Parameters, buffers and literal tensors, by the placeholder that stands for them."""
    tensors = {**program.state_dict, **weights, **program.constants}
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    inputs = (spec for spec in program.graph_signature.input_specs if spec.kind != InputKind.USER_INPUT)
    return {nodes[spec.arg.name]: tensors[spec.target] for spec in inputs if spec.target in tensors}


def _lower(node: Node, known: Mapping[Node, Any], ops: Mapping[Any, Op]) -> Any:  # noqa: ANN401 - Value or weights
    args = map_arg(node.args, lambda argument: known[argument])
    kwargs = map_arg(node.kwargs, lambda argument: known[argument])
    target: Any = node.target
    if target is operator.getitem:
        return _one_of(node, args)
    if node.all_input_nodes and not any(isinstance(known[source], Value) for source in node.all_input_nodes):
        return target(*args, **kwargs)  # weights made from weights: computed once, here
    if target not in ops:
        raise UnsupportedLayerError(
            f"{operation(node)} at {place(node)} cannot be exported. Supported: {supported(ops)}."
        )
    schema = target._schema.arguments
    defaults = {argument.name: argument.default_value for argument in schema}
    given = {argument.name: value for argument, value in zip(schema, args, strict=False)}
    return ops[target](Call(node, {**defaults, **given, **kwargs}))


def _one_of(node: Node, args: tuple[Any, ...]) -> Any:  # noqa: ANN401 - Value or weights
    """One result of a layer that has several: any part of a split, only the first of a pool or a normalisation."""
    value, index = args
    if isinstance(value, Value) and index != 0:
        raise UnsupportedLayerError(f"{place(node)} uses a second result of a layer, which has no int8 counterpart")
    return value if isinstance(value, Value) else value[index]


def last_operation(program: ExportedProgram) -> str:
    """What makes the output: the ATen name of the last operation that changes a number."""
    node = program.graph.output_node().args[0]
    node = node[0] if isinstance(node, tuple | list) else node
    while isinstance(node, Node) and node.op == "call_function" and operation(node) in _CHANGES_NOTHING:
        node = node.args[0]
    return operation(node).lstrip("_") if isinstance(node, Node) and node.op == "call_function" else ""


def _result(program: ExportedProgram, known: Mapping[Node, Any]) -> Tensor:
    outputs = program.graph.output_node().args[0]
    if not isinstance(outputs, tuple | list) or len(outputs) != 1 or not isinstance(outputs[0], Node):
        raise UnsupportedLayerError("the model must return one tensor: (records, classes), or a map")
    value = known[outputs[0]]
    if not isinstance(value, Value):
        raise UnsupportedLayerError("the model must return something computed from its input")
    if len(value.shape) == 2 and not np.array_equal(value.order, np.arange(value.channels)):
        raise UnsupportedLayerError("the model returns a flattened map; end it with a Linear or a global mean")
    return value.tensor


def supported(ops: Iterable[Any]) -> str:
    """The names of the operations that can be exported, each once."""
    return ", ".join(sorted({op._schema.name.removeprefix("aten::").lstrip("_") for op in ops}))
