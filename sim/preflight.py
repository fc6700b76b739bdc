"""What shows only when a scenario meets its data, and stands in the way of any run. Looked for before any work."""

from __future__ import annotations

import math
from collections.abc import Iterator

from clients.models import ModelShapeError
from server.strategy import ROUNDING
from sim.data.federation import Federation
from sim.errors import InputError
from sim.given import federation_of, fresh_model
from sim.guard import protection_faults
from sim.scenario import Scenario
from sim.tampering import tampering_faults
from sim.vantage_needs import untriable

FEWEST_PEOPLE = 2
FEWEST_RECORDS = 2  # of the attacker's: one for each half of them that a reference model trains on


def preflight(scenario: Scenario) -> None:
    """Raises InputError with everything that makes this scenario impossible with its data."""
    faults = [*_faults(scenario, federation_of(scenario)), *_model_faults(scenario), *untriable(scenario)]
    if scenario.edge.head and scenario.privacy.record:
        faults.append(
            "edge.head: devices train their last layer without noise, so [privacy.record] would promise what does not "
            "hold. Leave one of the two tables out"
        )
    for table, training in (("training", scenario.training), ("personalization", scenario.personalization)):
        if training.quantization_aware and scenario.privacy.record:
            faults.append(
                f"{table}.quantization_aware: DP-SGD needs gradients of single records, which training with rounding "
                "does not give. Leave it or [privacy.record] out"
            )
    faults += [] if faults else [*tampering_faults(scenario), *protection_faults(scenario)]
    if faults:
        raise InputError("\n".join(faults))


def _faults(scenario: Scenario, federation: Federation) -> Iterator[str]:
    clients, share = federation.participants, scenario.federation.participation
    if clients * share < 1 - ROUNDING and scenario.federation.sampling == "fixed":
        yield (
            f"federation.participation = {share}: of {clients} clients that is less than one, so every round would be "
            f"empty. Set it to {math.ceil(1e4 / clients) / 1e4} or more"
        )
    if len(federation.people) < FEWEST_PEOPLE:
        yield (
            f"{federation.source}: all {clients} clients belong to one person, {federation.people[0]}; at least 2 "
            "people are needed, so that somebody's model never saw somebody else. Lower `population.people`, or supply "
            "more people's data"
        )
    elif len({client.person for client in federation.clients[:clients] if client.two_sided}) < FEWEST_PEOPLE:
        yield (
            f"{federation.source}: of {clients} clients too few can be scored: those of {FEWEST_PEOPLE} people at "
            f"least must have members and held-out records both. {'; '.join(federation.notes)}. Supply more records a "
            "client, move `member_share` towards 0.5, or change the seed"
        )
    if len(federation.population) < FEWEST_RECORDS:
        yield (
            f"population: the attacker holds {len(federation.population)} record; at least {FEWEST_RECORDS} are needed "
            "to train reference models. Raise `population.records`, `population.people` or `population.share`"
        )


def _model_faults(scenario: Scenario) -> Iterator[str]:
    try:
        fresh_model(scenario)
    except ModelShapeError as error:
        yield f"model.name = {scenario.model.name}: {error}"
