"""Where a plan's layers, member counts and rounds make membership follow from linear algebra, before anything runs.

The rows of a linear layer's weight updates lie in the span of that layer's inputs (`attacks.span`). For the first layer
the inputs are the records, or for a convolution all their patches: whoever sees enough rows tells every member of a
client with fewer of them than inputs. Later layers are not looked at.
Unit: record; vantages: server, aggregator, device. What is said here is no promise where it finds nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from attacks.layer_inputs import Layer, layer_inputs, layers
from clients.weights import to_vector
from sim.given import federation_of, fresh_model
from sim.scenario import Scenario

Grade = Literal["exact", "graded", "full", "noisy", "none"]
HEADLINES: dict[Grade, str] = {
    "exact": "EXACT: every member can be named",
    "graded": "graded: members stand out, not all of them",
    "full": "full: patches fill all that they could be told by",
    "noisy": "under noise",
    "none": "nothing of this kind",
}
_LATER = "Later linear layers, which are not looked at here, can still tell members of small clients."
_LOOKED_AT = 64  # records, to see which values of a patch vary


class SpanWarning(BaseModel):
    """What the first layer's weight updates give away of membership to one vantage, by their shape alone."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    vantage: Literal["server", "aggregator", "device"]
    grade: Grade = Field(
        description="exact: members are told without an error; graded: they stand out; noisy: a promise's noise covers "
        "them; full: patches of a first convolution are more than their values; none: the first layer is neither"
    )
    layer: str = Field(description="the first layer, and what it is")
    inputs: int = Field(description="its inputs that are not always zero, and one for its bias")
    positions: int = Field(description="patches of a record that a first convolution sees; 1 where it sees it whole")
    rows: int = Field(description="rows of weight updates that the vantage is expected to see, of each client or sum")
    members: tuple[int, int] = Field(description="fewest and most members behind one such stack of rows")
    exact_for: int = Field(description="clients, of `clients`, whose members can be named")
    clients: int
    why: str
    changes: list[str] = Field(description="what would change it")


def span_warnings(scenario: Scenario) -> list[SpanWarning]:
    """One for whoever aggregates and one for the holder of a device. Raises as `federation_of` does."""
    federation, first = federation_of(scenario), _first(scenario)
    if first is None:
        return [_nothing(scenario, vantage) for vantage in (_aggregating(scenario), "device")]
    members = [int(client.member.sum()) for client in federation.clients]
    seen = members[: federation.participants]
    often = scenario.federation.rounds * scenario.federation.participation
    if _aggregating(scenario) == "server":
        aggregating = _judged(scenario, "server", first, math.floor(first.rows * often), seen)
    else:
        aggregating = _judged(scenario, "aggregator", first, first.rows * scenario.federation.rounds, [sum(seen)])
    return [aggregating, _judged(scenario, "device", first, first.rows, members)]


@dataclass(frozen=True, slots=True)
class _First:
    """The first layer: what it takes of each record, and how many rows one update has that are not others' sum."""

    layer: Layer
    inputs: int
    positions: int
    rows: int


def _first(scenario: Scenario) -> _First | None:
    """The layer that takes the records themselves or patches of them; None where that is neither linear nor one."""
    model, own = fresh_model(scenario), federation_of(scenario).population.x
    found = layers(model, own[:1])
    if not found or not found[0].raw:
        return None
    layer = found[0]
    rows = layer.units if len(found) > 1 else layer.units - 1  # of a softmax the rows sum to zero
    inputs = next(layer_inputs(model, to_vector(model), layer, own[:_LOOKED_AT]))
    if inputs.shape[1] == 1 and not layer.patches:
        return _First(layer, int(own.reshape(len(own), -1).any(axis=0).sum()) + (layer.bias is not None), 1, rows)
    return _First(layer, int(inputs.any(axis=(0, 1)).sum()), inputs.shape[1], rows)


def sentences(warnings: list[SpanWarning]) -> Iterator[str]:
    """Each warning in words, with what would change it."""
    for each in warnings:
        remedies = f" What would change it: {'; '.join(each.changes)}." if each.changes else ""
        yield f"{each.vantage}, {HEADLINES[each.grade]}. {each.why}{remedies}"


def _judged(
    scenario: Scenario,
    vantage: Literal["server", "aggregator", "device"],
    first: _First,
    rows: int,
    members: list[int],
) -> SpanWarning:
    patches = [count * first.positions for count in members]
    exact_for = sum(count < first.inputs and count <= rows for count in patches)
    grade, why = _grade(
        scenario, vantage, exact_for, patches, full=first.positions > 1 and min(patches) >= first.inputs
    )
    spread = f"{min(members):,}" if len(set(members)) == 1 else f"{min(members):,} to {max(members):,}"
    whose = f"all {federation_of(scenario).participants} clients together" if vantage == "aggregator" else "a client"
    takes = f"patches of the records, {first.positions:,} of each" if first.positions > 1 else "the records themselves"
    shape = (
        f"Layer '{first.layer.name}' takes {takes}: {first.inputs:,} inputs that vary, {rows:,} rows of updates, "
        f"and {spread} members of {whose}. {why}"
    )
    return SpanWarning(
        vantage=vantage,
        grade=grade,
        layer=f"{first.layer.name}: {'convolution' if first.layer.patches else 'linear'}, {first.layer.units} units",
        inputs=first.inputs,
        positions=first.positions,
        rows=rows,
        members=(min(members), max(members)),
        exact_for=exact_for if grade == "exact" else 0,
        clients=len(members),
        why=shape,
        changes=list(_changes(vantage, grade, first.inputs, min(patches))),
    )


def _noisy(scenario: Scenario, vantage: str) -> str | None:
    """Whose noise covers what this vantage sees, if anybody's."""
    client = scenario.privacy.client
    if scenario.privacy.record is not None:
        return "DP-SGD adds noise to every step: the budgets say how much is left."
    if client is not None and client.where != "central" and vantage != "device":
        return "The clients add noise to what they send: the budgets say how much is left."
    return None


def _grade(scenario: Scenario, vantage: str, exact_for: int, patches: list[int], *, full: bool) -> tuple[Grade, str]:
    if noise := _noisy(scenario, vantage):
        return "noisy", noise
    if full:
        return "full", f"That is {min(patches):,} patches or more: they fill all inputs, and tell little. {_LATER}"
    if vantage == "device":
        return "graded", "The step from the global to the personal file shows them, up to the rounding of both files."
    if scenario.training.optimizer == "adam":
        return "graded", "Adam scales each weight by itself, which blurs the span and does not close it."
    if exact_for:
        who = (
            "the sums tell all members" if vantage == "aggregator" else f"that of {exact_for} of {len(patches)} is told"
        )
        return "exact", f"With fewer than inputs of them, and no more than rows, membership needs no guess: {who}."
    return (
        "graded",
        "They fill the inputs, or are more than the rows: members still stand out by how much they explain.",
    )


def _changes(vantage: str, grade: Grade, inputs: int, fewest: int) -> Iterator[str]:
    if grade in ("noisy", "none", "full"):
        return
    yield "[privacy.record], whose noise covers it"
    if vantage == "server":
        yield 'aggregation.protocol = "secagg": then it sees sums, over the members of all clients'
    if vantage == "aggregator":
        yield 'noise inside the sum, [privacy.client] with where = "distributed"'
    if vantage == "device":
        yield "[edge.head]: a device that trains its last layer alone ships a first layer that did not move"
    if grade == "exact":
        yield f"{inputs:,} members or more behind each stack of rows, by more records or fewer input features"
        yield f"fewer than {fewest:,} rows, by fewer units or rounds"
        yield "larger batches, more local steps, momentum and clipping change nothing"


def _nothing(scenario: Scenario, vantage: Literal["server", "aggregator", "device"]) -> SpanWarning:
    members = [int(client.member.sum()) for client in federation_of(scenario).clients]
    return SpanWarning(
        vantage=vantage,
        grade="none",
        layer="neither a linear layer nor a plain convolution comes first",
        inputs=0,
        positions=0,
        rows=0,
        members=(min(members), max(members)),
        exact_for=0,
        clients=len(members),
        why=f"The first layer is neither linear nor a plain convolution, so its inputs are not looked at. {_LATER}",
        changes=[],
    )


def _aggregating(scenario: Scenario) -> Literal["server", "aggregator"]:
    return "server" if scenario.aggregation.protocol == "none" else "aggregator"
