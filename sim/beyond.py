"""The attacks on something other than membership: records, labels, classes, whose a record is, kinds of clients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

from attacks.observation import Observation, VantageLacksError
from attacks.reconstruction.update import ATTEMPTS
from sim import inference, participation, reconstruct
from sim.data.federation import Federation
from sim.folder import RunFolder
from sim.observe import Target
from sim.progress import Progress
from sim.results import (
    CountResult,
    LabelResult,
    ParticipationResult,
    PropertyResult,
    ReconstructionResult,
    Refusal,
    SourceResult,
)
from sim.scenario import Scenario


@dataclass(frozen=True, slots=True)
class Beyond:
    """What came of these attacks, and those that could not be tried."""

    reconstructions: list[ReconstructionResult] = field(default_factory=list)
    labels: list[LabelResult] = field(default_factory=list)
    sources: list[SourceResult] = field(default_factory=list)
    counts: list[CountResult] = field(default_factory=list)
    properties: list[PropertyResult] = field(default_factory=list)
    participations: list[ParticipationResult] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)


def beyond_membership(
    scenario: Scenario, folder: RunFolder, federation: Federation, targets: list[Target], progress: Progress
) -> Beyond:
    """Those of these attacks that the scenario names, by whoever aggregates, on the clients of `federation`."""
    target = next(target for target in targets if target.vantage in ("server", "aggregator"))
    observation, found = target.observations[0], Beyond()
    took_part = replace(federation, clients=tuple(c for c in federation.clients if c.client in target.trained))
    attempts = _attempts(scenario, folder, took_part, observation, found)
    attempts[participation.PARTICIPATION] = lambda: found.participations.extend(
        participation.who_took_part(scenario, targets, federation)
    )
    named = [name for name in scenario.attacks.names if name in attempts]
    if not named:
        return found
    with progress.stage("attacking more than membership", len(named)):
        for name in named:
            try:
                if not took_part.clients:
                    raise VantageLacksError(f"attack '{name}': no round released anything of a client that is scored")
                attempts[name]()
            except VantageLacksError as lack:
                found.refused.append(_refusal(name, observation, lack))
            progress.step(name)
    return found


def _attempts(
    scenario: Scenario, folder: RunFolder, federation: Federation, observation: Observation, found: Beyond
) -> dict[str, Callable[[], None]]:
    """For each attack the call that adds its rows to `found`. `federation`: the clients whose updates there are."""
    given = scenario, observation, federation
    return {
        **{name: partial(_records, name, scenario, observation, federation, found) for name in ATTEMPTS},
        reconstruct.LABELS: lambda: found.labels.extend(reconstruct.recover_labels(*given)),
        reconstruct.CLASSES: lambda: found.reconstructions.append(
            reconstruct.invert_classes(scenario, folder, observation, federation)
        ),
        inference.SOURCE: lambda: found.sources.append(inference.name_sources(observation, federation)),
        inference.COUNT: lambda: found.counts.append(inference.count(observation, federation)),
        inference.PROPERTY: lambda: found.properties.append(inference.find_property(*given)),
    }


def _records(name: str, scenario: Scenario, observation: Observation, federation: Federation, found: Beyond) -> None:
    found.reconstructions.extend(reconstruct.reconstruct(scenario, name, observation, federation))


def _refusal(attack: str, observation: Observation, lack: VantageLacksError) -> Refusal:
    return Refusal(
        attack=attack,
        vantage=observation.vantage,
        target="global",
        precision="float32",
        output=None,
        lacks=lack.need,
        reason=str(lack),
    )
