"""The study of calibration sets: do the ranges in the shipped files tell whose records set them?

Its candidates are the records that calibration was drawn from: all trained on, or all held out. A draw by chance
decides which of them set the ranges, so neither training nor the records themselves can tell, and the control, the
same attack on the same models calibrated on public records, must be at chance.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Shaped

from attacks.attack import carry_out
from attacks.calibration_set import CALIBRATION_RANGES, SURE
from attacks.observation import Guess, Observation, Records
from clients.randomness import generator
from sim.data.federation import ClientData
from sim.diverged import whose
from sim.export import calibration_pools, drawn, drawn_rows, export_bytes
from sim.federate import GLOBAL
from sim.folder import RunFolder, personal_name
from sim.given import federation_of, stored_model
from sim.holder import opened
from sim.references import population
from sim.results import CalibrationLeak, Called
from sim.scenario import Scenario
from sim.score import Score, clopper_pearson, score
from sim.tampering import scored

Kind = Literal["global", "personal"]
Scores = Float[np.ndarray, " records"]


@dataclass(frozen=True, slots=True)
class _Case:
    """One exported model, the records that its calibration was drawn from, and which of them were drawn."""

    name: str
    records: Records
    inside: Bool[np.ndarray, " records"]
    person: Shaped[np.ndarray, " records"]
    client: int


def calibration_leak(scenario: Scenario, folder: RunFolder) -> list[CalibrationLeak]:
    """What the files of a run say of who calibrated them; nothing where the attacker's own records did."""
    if scenario.edge.calibration == "population":
        return []
    everybody, clients = federation_of(scenario).clients, scored(scenario).clients
    cases: dict[Kind, list[_Case]] = {
        "global": [_case(scenario, "global", everybody)],
        "personal": [_case(scenario, personal_name(client.client), (client,)) for client in clients],
    }
    measurable = {kind: [case for case in some if not case.inside.all()] for kind, some in cases.items()}
    return [_leak(scenario, folder, kind, some) for kind, some in measurable.items() if some]


def _case(scenario: Scenario, name: str, owners: tuple[ClientData, ...]) -> _Case:
    pools = calibration_pools(scenario, owners)
    records = Records(np.concatenate([x for x, _ in pools]), np.concatenate([y for _, y in pools]))
    inside = np.zeros(len(records), dtype=bool)
    inside[drawn_rows(scenario, len(records))] = True
    person = np.repeat([owner.person for owner in owners], [len(y) for _, y in pools])
    return _Case(name, records, inside, person, owners[0].client)


def _leak(scenario: Scenario, folder: RunFolder, kind: Kind, cases: list[_Case]) -> CalibrationLeak:
    guesses = [_attack(scenario, folder.artifact(case.name).read_bytes(), case) for case in cases]
    control = [_attack(scenario, public, case) for case, public in _calibrated_in_public(scenario, folder, cases)]
    scores, inside = np.concatenate([guess.scores for guess in guesses]), np.concatenate([c.inside for c in cases])
    found, chance = _scored(scenario, guesses, cases, kind), _scored(scenario, control, cases, f"{kind} control")
    return CalibrationLeak(
        attack=CALIBRATION_RANGES.name,
        vantage="device",
        target=kind,
        calibration_records=min(int(case.inside.sum()) for case in cases),
        models=len(cases),
        candidates=len(scores),
        inside=int(inside.sum()),
        compared=int(_compared(scenario, cases).sum()),
        auc=found.auc,
        auc_ci=found.auc_ci,
        tpr_at_fpr=found.tpr_at_fpr,
        found=_called(scores > SURE, inside),
        excluded=_called(scores < -SURE, ~inside),
        public_auc=chance.auc,
        public_auc_ci=chance.auc_ci,
        cpu_seconds=round(sum(guess.cpu_seconds for guess in guesses), 3),
    )


def _attack(scenario: Scenario, model: bytes, case: _Case) -> Guess:
    seen = Observation(
        vantage="device",
        candidates=case.records,
        population=population(scenario),
        file=opened(scenario, model, int(case.inside.sum())),
    )
    rng = generator(scenario.seed, "attack", CALIBRATION_RANGES.name, case.name)
    with whose(scenario, f"the calibrated file '{case.name}'"):
        return carry_out(CALIBRATION_RANGES, seen, rng)


def _calibrated_in_public(scenario: Scenario, folder: RunFolder, cases: list[_Case]) -> Iterator[tuple[_Case, bytes]]:
    """The same models, with ranges that none of the candidates had a part in."""
    own = drawn(scenario, population(scenario).x)
    for case in cases:
        file = folder.models / (GLOBAL if case.name == "global" else f"{case.name}.safetensors")
        yield case, export_bytes(scenario, stored_model(scenario, file), own)


def _scored(scenario: Scenario, guesses: list[Guess], cases: list[_Case], purpose: str) -> Score:
    kept = _compared(scenario, cases)
    return score(
        np.concatenate([guess.scores for guess in guesses])[kept],
        np.concatenate([case.inside for case in cases])[kept],
        np.concatenate([case.person for case in cases])[kept],
        np.repeat([case.client for case in cases], [len(case.records) for case in cases])[kept],
        generator(scenario.seed, "bootstrap", "calibration set", purpose),
    )


def _compared(scenario: Scenario, cases: list[_Case]) -> Bool[np.ndarray, " records"]:
    """Of several models, as many records from inside as from outside each, drawn by chance.

    Models calibrated with the same number of fewer records would have more of them inside; then whatever tells models
    apart would tell inside from outside, and the control would not be at chance.
    """
    if len(cases) == 1:
        return np.ones(len(cases[0].records), dtype=bool)
    rng, kept = generator(scenario.seed, "calibration set", "compared"), []
    for case in cases:
        rows = np.zeros(len(case.records), dtype=bool)
        for side in (np.flatnonzero(case.inside), np.flatnonzero(~case.inside)):
            rows[rng.choice(side, min(int(case.inside.sum()), int((~case.inside).sum())), replace=False)] = True
        kept.append(rows)
    return np.concatenate(kept)


def _called(called: Bool[np.ndarray, " records"], right: Bool[np.ndarray, " records"]) -> Called:
    hits, calls, everyone = int((called & right).sum()), int(called.sum()), int(right.sum())
    return Called(
        called=calls,
        right=hits,
        right_ci=clopper_pearson(hits, calls, 0.95) if calls else None,
        of=everyone,
        share_ci=clopper_pearson(hits, everyone, 0.95),
    )
