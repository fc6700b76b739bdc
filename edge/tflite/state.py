"""What a TFLite file keeps from one inference to the next, and what it draws at random.

An answer of such a file depends on the records before it, unless each record is asked from a fresh state.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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
    found = [state for graph in file.graphs for state in _in_operators(graph)]
    found += [State("resource variable", name, "ASSIGN_VARIABLE") for name in assigned(file)]
    return tuple(dict.fromkeys(found))


def unset(file: File) -> tuple[str, ...]:
    """Resource variables that are used and that nothing sets, by name: their values were left behind at export."""
    handles = variables(file)
    given = set(_assigned(file, handles, range(len(file.graphs))))
    named = [name for graph in handles for name in graph.values()]
    return () if "?" in given else tuple(dict.fromkeys(name for name in named if name not in given))


def random_operators(file: File) -> tuple[str, ...]:
    """Kinds of operators that draw random numbers."""
    kinds = {operator.kind for graph in file.graphs for operator in graph.operators}
    return tuple(kind for kind in RANDOM if kind in kinds)


def assigned(file: File) -> tuple[str, ...]:
    """Names of the resource variables that are assigned, other than by what is called once at the start."""
    once = {called for graph in file.graphs for op in graph.operators if op.kind == "CALL_ONCE" for called in op.graphs}
    handles = variables(file)
    return tuple(dict.fromkeys(_assigned(file, handles, (i for i in range(len(file.graphs)) if i not in once))))


def variables(file: File) -> tuple[dict[int, str], ...]:
    """By graph, the names of resource variables by the tensor that stands for them, also where a caller handed it on.

    "?" is one that is found nowhere.
    """
    handles: tuple[dict[int, str], ...] = tuple({} for _ in file.graphs)
    for number, graph in enumerate(file.graphs):
        made = (op for op in graph.operators if op.kind == "VAR_HANDLE")
        handles[number].update({index: op.variable or "?" for op in made for index in op.outputs})
    callers = [(number, op) for number, graph in enumerate(file.graphs) for op in graph.operators if op.graphs]
    for _ in file.graphs:  # once for each depth that calls can have
        for number, operator in callers:
            _hand_on(file, handles, handles[number], operator)
    return handles


def _hand_on(file: File, handles: tuple[dict[int, str], ...], own: dict[int, str], operator: Operator) -> None:
    given = operator.inputs[1:] if operator.kind == "IF" else operator.inputs  # the condition stays behind
    for called in (each for each in operator.graphs if 0 <= each < len(file.graphs)):
        for inside, outside in zip(file.graphs[called].inputs, given, strict=False):
            if outside in own:
                handles[called].setdefault(inside, own[outside])


def _assigned(file: File, handles: tuple[dict[int, str], ...], numbers: Iterable[int]) -> Iterator[str]:
    for number in numbers:
        for operator in file.graphs[number].operators:
            if operator.kind == "ASSIGN_VARIABLE" and operator.inputs:
                yield handles[number].get(operator.inputs[0], "?")


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
