"""Membership of a person: did somebody take part in training at all?

Newcomers did not, nor did clients that were in no round that released anything.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from attacks.observation import NotFiniteError, Records, VantageLacksError
from attacks.person import participation
from clients.randomness import generator
from sim.data.federation import Federation
from sim.observe import Target
from sim.results import ParticipationResult
from sim.scenario import Scenario
from sim.score import score

PARTICIPATION = "participation"
FEWEST = 5  # people on either side, for an interval over people to mean anything


def who_took_part(scenario: Scenario, targets: list[Target], federation: Federation) -> Iterator[ParticipationResult]:
    """What came of it on the global model in each number format.

    Raises VantageLacksError with too few people on either side.
    """
    for target in targets:
        if target.vantage == "global-user" and target.output != "label":
            yield _ask(scenario, target, federation)


def _ask(scenario: Scenario, target: Target, federation: Federation) -> ParticipationResult:
    """About records that nobody trained on, of people who took part and of newcomers alike."""
    people = {person: number for number, person in enumerate(federation.people)}
    took_part = {people[client.person] for client in federation.clients if client.client in target.trained}
    _refuse_few(len(took_part), len(people) - len(took_part))
    fresh = [client.held_out for client in federation.clients]
    owner = np.repeat([people[client.person] for client in federation.clients], [len(y) for _, y in fresh])
    candidates = Records(np.concatenate([x for x, _ in fresh]), np.concatenate([y for _, y in fresh]))
    started = time.process_time()
    who, scores = participation(replace(target.observations[0], candidates=candidates, client=owner))
    seconds = time.process_time() - started
    if not np.isfinite(scores).all():
        raise NotFiniteError(f"attack '{PARTICIPATION}': the model's answers are beyond all numbers")
    rng = generator(scenario.seed, "bootstrap", PARTICIPATION, target.precision)
    found = score(scores, np.isin(who, list(took_part)), who, who, rng)
    return ParticipationResult(
        attack=PARTICIPATION,
        vantage=target.vantage,
        precision=target.precision,
        participants=found.members,
        newcomers=found.nonmembers,
        records_per_person=len(owner) / len(who),
        auc=found.auc,
        auc_ci=found.auc_ci,
        cpu_seconds=round(seconds, 3),
    )


def _refuse_few(participants: int, newcomers: int) -> None:
    if min(participants, newcomers) < FEWEST:
        need = f"{FEWEST} people who took part and {FEWEST} who did not"
        raise VantageLacksError(
            f"attack '{PARTICIPATION}' needs {need}, there are {participants} and {newcomers}: an interval over fewer "
            "means nothing. Set data.newcomers",
            need,
        )
