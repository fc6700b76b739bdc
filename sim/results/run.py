"""One run, whole."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sim.results.beyond import (
    CountResult,
    LabelResult,
    PropertyResult,
    ReconstructionResult,
    RecoveryResult,
    SourceResult,
)
from sim.results.deviating import ProbeResult, TamperingResult
from sim.results.edge import Calibration, CalibrationLeak, EdgeResult, LitertVerdict
from sim.results.membership import AttackResult, AttackRow, Comparison, Controls, ParticipationResult, Refusal
from sim.results.part import Part, Verdict
from sim.results.people import ClientResult, DataCard, PersonResult, PopulationCard, RoundResult, Utilities
from sim.results.protection import Budget, Protection


class Results(Part):
    """One run, whole."""

    schema_: Literal["seepage/results/1"] = Field(alias="schema", default="seepage/results/1")
    scenario: str
    title: str
    seed: int
    verdict: Verdict = Field(description="graded by the figures that hold for all attacks at once")
    summary: str = Field(description="the verdict in a sentence or two")
    versions: dict[str, str]
    made_of: dict[str, str] = Field(
        {},
        description="SHA-256 of what the run was made of: its settings (scenario), the records as loaded and dealt out "
        "with their coins (data), modules of the user's own, and the files in transcript, models and edge; empty in "
        "documents of earlier versions",
    )
    timing: dict[str, float] = Field(description="seconds of each stage")
    data: DataCard
    population: PopulationCard
    model: dict[str, str | int]
    rounds: list[RoundResult]
    utility: Utilities
    budgets: list[Budget]
    protection: Protection | None = Field(description="null where nothing protects")
    attacks: list[AttackResult]
    refused: list[Refusal] = Field(description="attacks that a vantage lacks something for")
    comparisons: list[Comparison]
    recoveries: list[RecoveryResult] = Field([])
    reconstructions: list[ReconstructionResult] = Field([])
    labels: list[LabelResult] = Field([])
    sources: list[SourceResult] = Field([])
    counts: list[CountResult] = Field([])
    properties: list[PropertyResult] = Field([])
    calibration_leak: list[CalibrationLeak] = Field([], description="empty where public records set the ranges")
    probes: list[ProbeResult] = Field([], description="what deviating from the protocol cost the server")
    participations: list[ParticipationResult] = Field([])
    tampering: TamperingResult | None = Field(None, description="null where no client tampers")
    audits: list[dict[str, str]] = Field([])
    controls: Controls
    exposure_attack: AttackRow = Field(description="the attack that the clients' exposure comes from")
    clients: list[ClientResult]
    people: list[PersonResult]
    calibration: Calibration
    edge: list[EdgeResult]
    remedies: list[str] = Field([], description="what would make a global model fit that does not, as measured")
    litert: LitertVerdict | None = Field(None, description="null where LiteRT refuses the models")
    findings: list[str] = Field(description="what the figures say, in plain words")
