"""What a TFLite file keeps from one inference to the next, and what it draws at random.

An answer of such a file depends on the records before it, unless each record is asked from a fresh state.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

from edge.tflite.parser import File, Graph, Operator, parse

What = Literal["variable tensor", "resource variable", "operator"]
# TFLite Micro's own operators that keep samples or sums of earlier calls.
_KEEPING: Final = {
    "CIRCULAR_BUFFER",
    "SignalDelay",
    "SignalFilterBankSpectralSubtraction",
    "SignalFramer",
    "SignalOverlapAdd",
    "SignalStacker",
}
RANDOM: Final = ("RANDOM_UNIFORM", "RANDOM_STANDARD_NORMAL", "MULTINOMIAL")


@dataclass(frozen=True)
class State:
    """A state, by what holds it: a variable tensor of `operator`, a resource variable that is assigned, an operator."""

    what: What
    name: str
    operator: str

    @property
    def words(self) -> str:
        """Its name, for people; of what the file calls it, nothing is escaped."""
        if self.what == "variable tensor":
            return f"variable tensor '{self.name}' of {self.operator}"
        if self.what == "resource variable":
            return f"resource variable '{self.name}'"
        return f"operator {self.name}"


def states(file: File) -> tuple[State, ...]:
    """All states of a file. A variable that only its CALL_ONCE sets is a constant, and none of them."""
    once = {called for graph in file.graphs for op in graph.operators if op.kind == "CALL_ONCE" for called in op.graphs}
    found = [state for graph in file.graphs for state in _in_operators(graph)]
    for number, graph in enumerate(file.graphs):
        if number not in once:
            found += [State("resource variable", name, "ASSIGN_VARIABLE") for name in assigned(graph)]
    return tuple(dict.fromkeys(found))


def unset(file: File) -> tuple[str, ...]:
    """Resource variables that are used and that nothing sets, by name: their values were left behind at export."""
    given = {name for graph in file.graphs for name in assigned(graph)}
    named = [name for graph in file.graphs for name in handles_of(graph).values()]
    # One that was handed to another graph may be any of them.
    return () if "?" in given else tuple(dict.fromkeys(name for name in named if name not in given))


def random_operators(file: File) -> tuple[str, ...]:
    """Kinds of operators that draw random numbers."""
    kinds = {operator.kind for graph in file.graphs for operator in graph.operators}
    return tuple(kind for kind in RANDOM if kind in kinds)


def assigned(graph: Graph) -> tuple[str, ...]:
    """Names of the resource variables that a graph assigns; one that it was handed by its caller is called "?"."""
    handles = handles_of(graph)
    kinds = ("ASSIGN_VARIABLE",)
    targets = [op.inputs[0] for op in graph.operators if op.kind in kinds and op.inputs]
    return tuple(dict.fromkeys(handles.get(index, "?") for index in targets))


def handles_of(graph: Graph) -> dict[int, str]:
    """Names of resource variables by the tensor that stands for them."""
    return {
        index: operator.variable
        for operator in graph.operators
        if operator.kind == "VAR_HANDLE"
        for index in operator.outputs
    }


@lru_cache(maxsize=16)
def needs_fresh_start(model: bytes) -> bool:
    """Whether each record has to be asked in an interpreter of its own: states, random numbers, custom operators.

    Raises `DamagedError` for bytes that are no whole TFLite file.
    """
    file = parse(model)
    custom = any(operator.kind == "CUSTOM" for graph in file.graphs for operator in graph.operators)
    return custom or bool(states(file)) or bool(random_operators(file))


@lru_cache(maxsize=16)
def states_of(model: bytes) -> tuple[State, ...]:
    """`states` of a file's bytes. Raises `DamagedError` for bytes that are no whole TFLite file."""
    return states(parse(model))


def listed(found: tuple[State, ...], most: int = 4) -> str:
    """States in a line: the first few by name, and how many more."""
    words = ", ".join(state.words for state in found[:most])
    return words + (f" and {len(found) - most} more" if len(found) > most else "")


def _in_operators(graph: Graph) -> Iterator[State]:
    for operator in graph.operators:
        if _own(operator) in _KEEPING:
            yield State("operator", _own(operator), _own(operator))
        for index in operator.inputs:
            if index >= 0 and graph.tensors[index].variable:
                yield State("variable tensor", graph.tensors[index].name or str(index), operator.kind)


def _own(operator: Operator) -> str:
    return operator.custom if operator.kind == "CUSTOM" else operator.kind
