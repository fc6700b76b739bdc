"""What is promised about one record and about one client, and against whom: one row for each."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict

from sim.noise import (
    Participation,
    Strengths,
    central_epsilon,
    distributed_epsilon,
    local_epsilon,
    planned,
    record_epsilon,
    strengths,
)
from sim.preflight import preflight
from sim.results import Budget
from sim.scenario import Scenario

Unit = Literal["record", "client"]
UNITS: tuple[Unit, Unit] = ("record", "client")
_OUTSIDE = ("peer", "global-user")  # who sees global models, and neither who took part nor what came in
MALICIOUS = "malicious-server"  # it may query a personal model as well, if it had one made
_PART = "; a record is part of its client"


class Plan(BaseModel):
    """What a scenario's plan would spend, if everybody came."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scenario: str
    record_noise_multiplier: float | None
    client_noise_multiplier: float | None
    budgets: list[Budget]


@dataclass(frozen=True, slots=True)
class _Promise:
    """An epsilon, where it comes from, and between which data sets it holds. `own`: each client has its own."""

    epsilon: float
    adjacency: str
    why: str
    accountant: str = "PLD"
    own: bool = False


def plan(scenario: Scenario) -> Plan:
    """The budgets before anything has run. Raises InputError for a scenario that cannot run, or not be vouched for."""
    preflight(scenario)
    noise: Strengths = strengths(scenario)
    return Plan(
        scenario=scenario.name,
        record_noise_multiplier=noise.record,
        client_noise_multiplier=noise.client,
        budgets=budgets(scenario, planned(scenario)),
    )


def budgets(scenario: Scenario, participation: Participation) -> list[Budget]:
    """One row per unit and vantage; a run without noise has one per unit, with an infinite epsilon."""
    if scenario.privacy.record is None and scenario.privacy.client is None:
        why = "no noise is added"
        if scenario.protected:
            why += "; secure aggregation hides single updates, and promises nothing about what their sum gives away"
        return [_nothing(unit, "every vantage", why) for unit in UNITS]
    aggregating = "server" if scenario.aggregation.protocol == "none" else "aggregator"
    deviating = (MALICIOUS,) if participation.probed or participation.personal > 1 else ()
    return [
        _row(scenario, participation, unit, vantage)
        for unit in UNITS
        for vantage in (aggregating, *deviating, *_OUTSIDE, "query")
    ]


def _row(scenario: Scenario, participation: Participation, unit: Unit, vantage: str) -> Budget:
    """The best of the promises that hold, or why there is none."""
    promises = (
        *_from_record_noise(scenario, participation, unit, vantage),
        *_from_client_noise(scenario, participation, unit, vantage),
    )
    best = min(promises, key=lambda promise: promise.epsilon, default=None)
    if best is None or math.isinf(best.epsilon):
        return _nothing(unit, vantage, _why_not(scenario, participation, unit, vantage))
    source = scenario.privacy.client if best.adjacency != _RECORD else scenario.privacy.record
    assert source is not None
    return Budget(
        unit=unit,
        vantage=vantage,
        epsilon=best.epsilon,
        delta=source.delta,
        accountant=best.accountant,
        adjacency=best.adjacency,
        per_client_max=best.epsilon if best.own else None,
        why=best.why,
    )


_RECORD = "one record of a client added or removed"
_RECORD_REPLACED = "one record of a client replaced by any other"
_CLIENT = "one client added or removed"
_CLIENT_REPLACED = "all records of one client replaced by any others"
_CLIENT_ZERO = "one client's update replaced by zero"


def _from_record_noise(
    scenario: Scenario, participation: Participation, unit: Unit, vantage: str
) -> Iterator[_Promise]:
    config, rounds = scenario.privacy.record, participation.most
    if config is None or unit == "client":
        return
    personal = participation.personal if vantage in ("query", MALICIOUS) else 0
    steps, tuning = config.steps(scenario.training.epochs), config.steps(scenario.personalization.epochs) * personal
    why = f"DP-SGD on the client, {steps * rounds:,} steps in {rounds} rounds"
    why += f" and {tuning:,} of personalisation" if personal else ""
    why += _deviating(participation)
    yield _Promise(record_epsilon(scenario, rounds, personal=personal), _RECORD, why, own=True)
    if vantage in _OUTSIDE and scenario.federation.sampling == "poisson" and config.sampling_rate == 1:
        yield _one_coin(scenario, len(participation.arrived), steps, config.delta)


def _deviating(participation: Participation) -> str:
    probes = len(participation.probed)
    return f"; {probes} of the rounds are those of a server that deviates" if probes else ""


def _one_coin(scenario: Scenario, rounds: int, steps: int, delta: float) -> _Promise:
    """Whoever does not see who took part: a coin per client and round, not one per step. For steps on all records
    only, where the steps of a round compose to one Gaussian.
    """
    from clients.accounting import epsilon, one_coin

    noise = strengths(scenario).record
    assert noise is not None
    found = epsilon(one_coin(scenario.federation.participation, noise, steps, rounds), delta)
    return _Promise(
        found, _RECORD, f"DP-SGD on clients drawn by a coin a round, {steps} steps in each of {rounds} rounds"
    )


def _from_client_noise(
    scenario: Scenario, participation: Participation, unit: Unit, vantage: str
) -> Iterator[_Promise]:
    """For a record, what its whole client is promised: the record may turn the client's update into any other."""
    config, rounds, record = scenario.privacy.client, len(participation.arrived), unit == "record"
    if config is None or vantage == "query" or (vantage == MALICIOUS and participation.personal > 1):
        return
    part = _PART if record else ""
    if config.where == "local":
        why = f"each client adds noise to its own update, in {participation.most} rounds at most{part}"
        why += _deviating(participation)
        yield _Promise(local_epsilon(scenario, participation.most), _CLIENT_REPLACED, why, own=True)
    elif config.where == "distributed":
        sums = participation.arrived + participation.probed
        why = f"noise that the clients add inside secure aggregation, as it arrived in {len(sums)} rounds{part}"
        why += _deviating(participation)
        found = distributed_epsilon(scenario, sums, replaced=record)
        yield _Promise(found, _RECORD_REPLACED if record else _CLIENT_ZERO, why, "RDP of Skellam noise")
    elif vantage in _OUTSIDE:
        why = f"noise that the server adds to the sum of each of {rounds} rounds{part}"
        found = central_epsilon(scenario, rounds, replaced=record)
        yield _Promise(found, _RECORD_REPLACED if record else _CLIENT, why)


def _nothing(unit: Unit, vantage: str, why: str) -> Budget:
    return Budget(
        unit=unit,
        vantage=vantage,
        epsilon="inf",
        delta=None,
        accountant=None,
        adjacency=None,
        per_client_max=None,
        why=why,
    )


def _why_not(scenario: Scenario, participation: Participation, unit: Unit, vantage: str) -> str:
    client = scenario.privacy.client
    if client is None:
        return "noise for single records promises next to nothing about a whole client"
    if vantage == "query" or (vantage == MALICIOUS and participation.personal > 1 and client.where != "central"):
        return "a personal model is trained on its client's own records after the noise, and without any"
    if client.where == "central":
        return "central noise is added by the server, so it is no protection from the server"
    return f"too little noise arrived to protect a {unit}"
