"""Where a plan's layers, member counts and rounds make membership follow from linear algebra, before anything runs.

The rows of a linear layer's weight updates lie in the span of that layer's inputs (`attacks.span`). For the first layer
the inputs are the records: whoever sees enough rows tells every member of a client with fewer members than inputs.
Unit: record; vantages: server, aggregator, device. What is said here is no promise where it finds nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from attacks.layer_inputs import Layer, layers
from clients.training import TrainingConfig
from sim.given import federation_of, fresh_model
from sim.scenario import Scenario

Grade = Literal["exact", "graded", "noisy", "none"]
HEADLINES: dict[Grade, str] = {
    "exact": "EXACT: every member can be named",
    "graded": "graded: members stand out, not all of them",
    "noisy": "under noise",
    "none": "nothing of this kind",
}


class SpanWarning(BaseModel):
    """What the first layer's weight updates give away of membership to one vantage, by their shape alone."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    vantage: Literal["server", "aggregator", "device"]
    grade: Grade = Field(
        description="exact: members are told without an error; graded: they stand out; noisy: a promise's noise covers "
        "them; none: the first layer is not linear, so its inputs are no records"
    )
    layer: str = Field(description="the first layer, and what it is")
    inputs: int = Field(description="its inputs that are not always zero, and one for its bias")
    rows: int = Field(description="rows of weight updates that the vantage is expected to see, of each client or sum")
    members: tuple[int, int] = Field(description="fewest and most members behind one such stack of rows")
    exact_for: int = Field(description="clients, of `clients`, whose members can be named")
    clients: int
    why: str
    changes: list[str] = Field(description="what would change it")


def span_warnings(scenario: Scenario) -> list[SpanWarning]:
    """One for whoever aggregates and one for the holder of a device. Raises as `federation_of` does."""
    federation, model = federation_of(scenario), fresh_model(scenario)
    own = federation.population.x
    found = layers(model, own[:1])
    first = found[0] if found and found[0].raw and not found[0].patches else None
    if first is None:
        return [_nothing(scenario, vantage, found) for vantage in (_aggregating(scenario), "device")]
    inputs = int(own.reshape(len(own), -1).any(axis=0).sum()) + (first.bias is not None)
    members = [int(client.member.sum()) for client in federation.clients]
    seen = members[: federation.participants]
    often = scenario.federation.rounds * scenario.federation.participation
    units = first.units if len(found) > 1 else first.units - 1  # of a softmax the rows sum to zero
    rows = math.floor(units * often)
    if scenario.aggregation.protocol == "none":
        aggregating = _judged(scenario, "server", first, inputs, rows, seen)
    else:
        aggregating = _judged(scenario, "aggregator", first, inputs, units * scenario.federation.rounds, [sum(seen)])
    return [aggregating, _judged(scenario, "device", first, inputs, units, members)]


def sentences(warnings: list[SpanWarning]) -> Iterator[str]:
    """Each warning in words, with what would change it."""
    for each in warnings:
        remedies = f" What would change it: {'; '.join(each.changes)}." if each.changes else ""
        yield f"{each.vantage}, {HEADLINES[each.grade]}. {each.why}{remedies}"


def _judged(
    scenario: Scenario,
    vantage: Literal["server", "aggregator", "device"],
    first: Layer,
    inputs: int,
    rows: int,
    members: list[int],
) -> SpanWarning:
    training = scenario.personalization if vantage == "device" else scenario.training
    exact_for = sum(count < inputs and count <= rows for count in members)
    grade, why = _grade(scenario, vantage, training, exact_for, members)
    spread = f"{min(members):,}" if len(set(members)) == 1 else f"{min(members):,} to {max(members):,}"
    whose = f"all {federation_of(scenario).participants} clients together" if vantage == "aggregator" else "a client"
    shape = (
        f"Layer '{first.name}' takes the records themselves: {inputs:,} inputs that vary, {rows:,} rows of updates, "
        f"and {spread} members of {whose}. {why}"
    )
    return SpanWarning(
        vantage=vantage,
        grade=grade,
        layer=f"{first.name}: linear, {first.units} units",
        inputs=inputs,
        rows=rows,
        members=(min(members), max(members)),
        exact_for=exact_for if grade == "exact" else 0,
        clients=len(members),
        why=shape,
        changes=list(_changes(vantage, grade, inputs, min(members))),
    )


def _grade(
    scenario: Scenario, vantage: str, training: TrainingConfig, exact_for: int, members: list[int]
) -> tuple[Grade, str]:
    client = scenario.privacy.client
    if scenario.privacy.record is not None:
        return "noisy", "DP-SGD adds noise to every step: the budgets say how much is left."
    if client is not None and client.where != "central" and vantage != "device":
        return "noisy", "The clients add noise to what they send: the budgets say how much is left."
    if vantage == "device":
        return "graded", "The step from the global to the personal file shows them, up to the rounding of both files."
    if training.optimizer == "adam":
        return "graded", "Adam scales each weight by itself, which blurs the span and does not close it."
    if exact_for:
        who = (
            "the sums tell all members" if vantage == "aggregator" else f"that of {exact_for} of {len(members)} is told"
        )
        return "exact", f"With fewer members than inputs, and no more than rows, membership needs no guess: {who}."
    return (
        "graded",
        "Members fill the inputs, or are more than the rows: they still stand out by how much they explain.",
    )


def _changes(vantage: str, grade: Grade, inputs: int, fewest: int) -> Iterator[str]:
    if grade in ("noisy", "none"):
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


def _nothing(scenario: Scenario, vantage: Literal["server", "aggregator", "device"], found: list[Layer]) -> SpanWarning:
    federation, patches = federation_of(scenario), found[0] if found and found[0].patches else None
    members = [int(client.member.sum()) for client in federation.clients]
    kind = "a convolution" if patches else "not linear"
    inputs = patches.inputs if patches else 0
    why = f"The first layer is {kind}, so its inputs are no whole records"
    why += f", but patches of {inputs:,} values, which a few records fill." if patches else "."
    return SpanWarning(
        vantage=vantage,
        grade="none",
        layer=f"{patches.name}: convolution" if patches else "no linear layer comes first",
        inputs=inputs,
        rows=0,
        members=(min(members), max(members)),
        exact_for=0,
        clients=len(members),
        why=f"{why} Later linear layers see what the layers before make of records: little is left there.",
        changes=[],
    )


def _aggregating(scenario: Scenario) -> Literal["server", "aggregator"]:
    return "server" if scenario.aggregation.protocol == "none" else "aggregator"
