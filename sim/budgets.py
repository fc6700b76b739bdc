"""What is promised about one record and about one client, and against whom: one row for each."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from sim.guard import large_deltas
from sim.noise import (
    Participation,
    Strengths,
    central_epsilon,
    distributed_epsilon,
    known_to_a_peer,
    local_epsilon,
    peers_are_told,
    planned,
    record_epsilon,
    strengths,
)
from sim.preflight import preflight
from sim.releases import HOLDERS, uncovered
from sim.results import Budget
from sim.scenario import Scenario
from sim.structure import SpanWarning, span_warnings
from sim.sums import stretch

Unit = Literal["record", "client"]
UNITS: tuple[Unit, Unit] = ("record", "client")
_OUTSIDE = ("peer", "global-user")  # who sees global models, and neither who took part nor what came in
MALICIOUS = "malicious-server"  # it may query a personal model as well, if it had one made
_PART = "; a record is part of its client"
SEEDED = "the noise follows from the printed seed"
OWN_FIGURES = (
    "No promise covers what the study itself writes: learning curve, scores, report and the figures of a model card "
    "are computed from the clients' records without noise."
)


class Plan(BaseModel):
    """What a scenario's plan would spend, if everybody came."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scenario: str
    record_noise_multiplier: float | None
    client_noise_multiplier: float | None
    budgets: list[Budget]
    caveats: list[str]
    structure: list[SpanWarning] = Field(description="what weight updates tell by their shape, whatever is promised")


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
        caveats=caveats(scenario),
        structure=span_warnings(scenario),
    )


def budgets(scenario: Scenario, participation: Participation) -> list[Budget]:
    """One row per unit and vantage; a run without noise has one per unit, with an infinite epsilon."""
    if not scenario.noised:
        why = "no noise is added"
        if scenario.protected:
            why += "; secure aggregation hides single updates, and promises nothing about what their sum gives away"
        return [_nothing(unit, "every vantage", why) for unit in UNITS]
    aggregating = "server" if scenario.aggregation.protocol == "none" else "aggregator"
    deviating = (MALICIOUS,) if participation.probed or participation.personal > 1 else ()
    return [
        _row(scenario, participation, unit, vantage)
        for unit in UNITS
        for vantage in (aggregating, *deviating, *_OUTSIDE, *HOLDERS)
    ]


def _row(scenario: Scenario, participation: Participation, unit: Unit, vantage: str) -> Budget:
    """The best of the promises that hold, or why there is none: one release that nothing covers undoes all of them."""
    if why := next(uncovered(scenario, vantage), None):
        return _nothing(unit, vantage, why)
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
        noise=scenario.privacy.noise,
        why=best.why + ("" if scenario.privacy.noise == "system" else f"; {SEEDED}"),
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
    personal = participation.personal if vantage in (*HOLDERS, MALICIOUS) else 0
    steps, tuning = config.steps(scenario.training.epochs), config.steps(scenario.personalization.epochs) * personal
    why = f"DP-SGD on the client, {steps * rounds:,} steps in {rounds} rounds"
    why += f" and {tuning:,} of personalisation" if personal else ""
    why += _deviating(participation) + _drawn(scenario)
    yield _Promise(record_epsilon(scenario, participation, personal=personal), _RECORD, why, own=True)


def _deviating(participation: Participation) -> str:
    probes = len(participation.probed)
    return f"; {probes} of the rounds are those of a server that deviates" if probes else ""


def _drawn(scenario: Scenario) -> str:
    plan = scenario.federation
    if plan.participation == 1:
        return ""
    return f"; being drawn with {plan.participation:g} a round amplifies nothing, for a client's own noise shows it"


def _from_client_noise(
    scenario: Scenario, participation: Participation, unit: Unit, vantage: str
) -> Iterator[_Promise]:
    """For a record, what its whole client is promised: the record may turn the client's update into any other."""
    config, record = scenario.privacy.client, unit == "record"
    if config is None or vantage in HOLDERS or (vantage == MALICIOUS and participation.personal > 1):
        return
    part = _PART if record else ""
    if config.where == "local":
        why = f"each client adds noise to its own update, in {participation.most} rounds at most{part}"
        why += _deviating(participation) + _drawn(scenario)
        yield _Promise(local_epsilon(scenario, participation), _CLIENT_REPLACED, why, own=True)
    elif config.where == "distributed" and vantage != MALICIOUS:
        yield _distributed(scenario, participation, vantage, replaced=record)
    elif config.where == "central" and vantage in (
        _OUTSIDE[1:] if scenario.aggregation.protocol == "ckks" else _OUTSIDE
    ):
        yield _central(scenario, participation.tossed, vantage, replaced=record)


def _distributed(scenario: Scenario, participation: Participation, vantage: str, *, replaced: bool) -> _Promise:
    sums = participation.arrived + participation.probed
    known = {"peer": known_to_a_peer(scenario), "global-user": 0}.get(vantage, scenario.aggregation.colluding)
    why = f"noise that the clients add inside secure aggregation, as it arrived in {len(sums)} rounds"
    if known:
        why += f", less {f'{known} shares that are' if known > 1 else 'one share that is'} known there"
    why += (_PART if replaced else "") + _deviating(participation)
    found = distributed_epsilon(scenario, sums, replaced=replaced, known=known)
    return _Promise(found, _RECORD_REPLACED if replaced else _CLIENT_ZERO, why, "RDP of Skellam noise")


def _central(scenario: Scenario, rounds: int, vantage: str, *, replaced: bool) -> _Promise:
    told = vantage == "peer" and peers_are_told(scenario)
    why = f"noise that the server adds to the sum of each of {rounds} rounds{_PART if replaced else ''}"
    if told and scenario.federation.participation < 1:
        why += f"; {scenario.aggregation.protocol} tells a client who else takes part, so coins amplify nothing"
    if (longer := stretch(scenario)) > 1.0005:
        why += f"; rounding in {scenario.aggregation.protocol} may lengthen a clipped update {longer:.3g} times"
    found = central_epsilon(scenario, rounds, replaced=replaced, told=told)
    return _Promise(found, _RECORD_REPLACED if replaced else _CLIENT, why)


def _nothing(unit: Unit, vantage: str, why: str) -> Budget:
    return Budget(
        unit=unit,
        vantage=vantage,
        epsilon="inf",
        delta=None,
        accountant=None,
        adjacency=None,
        per_client_max=None,
        noise=None,
        why=why,
    )


def _why_not(scenario: Scenario, participation: Participation, unit: Unit, vantage: str) -> str:
    client = scenario.privacy.client
    if client is None:
        return "noise for single records promises next to nothing about a whole client"
    if vantage in HOLDERS or (vantage == MALICIOUS and participation.personal > 1 and client.where != "central"):
        return "a personal model is trained on its client's own records, and nothing is promised to a whole client"
    if client.where == "central":
        return "central noise is added by the server, so it is no protection from whoever sees the sum before"
    if client.where == "distributed" and vantage == MALICIOUS:
        return "a server that deviates can keep the other clients' noise out of a sum"
    return f"too little noise arrived to protect a {unit}"


def caveats(scenario: Scenario) -> list[str]:
    """What must be said wherever an epsilon is: where the noise comes from, a delta that is large, and what no promise
    covers. Empty where nothing is promised.
    """
    if not scenario.noised:
        return []
    return [_source_of_noise(scenario), *large_deltas(scenario), OWN_FIGURES]


def _source_of_noise(scenario: Scenario) -> str:
    if scenario.privacy.noise == "system":
        return (
            "The noise, and where they must stay hidden the coins, come from the operating system's randomness "
            '(privacy.noise = "system"): this run cannot be repeated number for number.'
        )
    return (
        f"The noise follows from seed {scenario.seed}, which stands beside the epsilons: whoever has it can take the "
        "noise off, so they hold for a deployment that draws its noise from the operating system, and not for the "
        'models of this run. With privacy.noise = "system" they hold for these, and the run cannot be repeated.'
    )
