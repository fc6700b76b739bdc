"""What each vantage is handed: the one place where a part of the run becomes an attacker's Observation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from attacks.observation import Observation, Oracle, Output, Predictor, Records, Reference, Vantage
from clients.training import logits
from clients.weights import load_vector
from edge.artifact import Artifact
from edge.runtimes import predict
from sim.data.federation import ClientData
from sim.export import drawn, export_bytes
from sim.federate import GLOBAL
from sim.folder import RunFolder, personal_name
from sim.given import federation_of, fresh_model, stored_model
from sim.prepare import Prepared, stranger_side
from sim.results import Precision
from sim.scenario import Scenario
from sim.transcript import ServerRounds

Vectors = Float[np.ndarray, "references params"]


@dataclass(frozen=True, slots=True)
class Target:
    """One row of the results before any attack: who attacks which model. One observation per attacked model.

    The observations' candidates, one after the other, are all clients' records in client order.
    """

    vantage: Vantage
    target: Literal["global", "personal"]
    precision: Precision
    output: Output | None
    observations: tuple[Observation, ...]


def observe(scenario: Scenario, folder: RunFolder, prepared: Prepared) -> list[Target]:
    """Every vantage's observations of a finished federation."""
    view = _View(scenario, folder, prepared)
    edge_output = scenario.edge.output
    return [
        Target(view.aggregating, "global", "float32", None, view.aggregator()),
        Target("global-user", "global", "float32", "logits", view.global_float()),
        Target("global-user", "global", "int8", edge_output, view.global_device()),
        Target("query", "personal", "float32", "logits", view.personal_float()),
        Target("query", "personal", "int8", edge_output, view.personal_device()),
    ]


def stranger(scenario: Scenario, prepared: Prepared) -> tuple[Observation, ...]:
    """The control: each client's candidates against a personal model of somebody else, from other people's data."""
    clients = federation_of(scenario).clients
    oracles = [Oracle(_float_predictor(scenario, weights)) for weights in prepared.strangers]
    references = _float_references(scenario, prepared, prepared.personal)
    return tuple(
        Observation(
            vantage="query",
            candidates=candidates([client]),
            population=population(scenario),
            oracle=oracles[0 if first else 1],
            references=references,
        )
        for client, first in zip(clients, stranger_side(scenario, clients), strict=True)
    )


def candidates(clients: Sequence[ClientData]) -> Records:
    """All records of these clients, members and held-out alike, in their own order."""
    return Records(np.concatenate([c.x for c in clients]), np.concatenate([c.y for c in clients]))


def population(scenario: Scenario) -> Records:
    """The attacker's own records."""
    own = federation_of(scenario).population
    return Records(own.x, own.y)


@dataclass(frozen=True, slots=True)
class _View:
    scenario: Scenario
    folder: RunFolder
    prepared: Prepared

    @property
    def clients(self) -> tuple[ClientData, ...]:
        return federation_of(self.scenario).clients

    @property
    def aggregating(self) -> Literal["server", "aggregator"]:
        """Who adds the updates up: a server that sees each, or under secure aggregation one that sees their sum."""
        return "server" if self.scenario.aggregation.protocol == "none" else "aggregator"

    def aggregator(self) -> tuple[Observation, ...]:
        """Whoever aggregates, and is curious: every broadcast model, and the updates or their sum."""
        return (
            Observation(
                vantage=self.aggregating,
                candidates=candidates(self.clients),
                population=population(self.scenario),
                rounds=ServerRounds(self.folder.transcript),
                architecture=fresh_model(self.scenario),
                client=np.repeat([client.client for client in self.clients], [len(c) for c in self.clients]),
            ),
        )

    def global_float(self) -> tuple[Observation, ...]:
        model = stored_model(self.scenario, self.folder.models / GLOBAL)
        references = _float_references(self.scenario, self.prepared, self.prepared.global_)
        return (self._asked("global-user", self.clients, Oracle(lambda x: logits(model, x)), references),)

    def global_device(self) -> tuple[Observation, ...]:
        references = self._device_references(self.prepared.global_)
        return (self._asked("global-user", self.clients, self._device("global"), references),)

    def personal_float(self) -> tuple[Observation, ...]:
        references = _float_references(self.scenario, self.prepared, self.prepared.personal)
        return tuple(
            self._asked("query", [client], Oracle(self._personal_predictor(client.client)), references)
            for client in self.clients
        )

    def personal_device(self) -> tuple[Observation, ...]:
        references = self._device_references(self.prepared.personal)
        return tuple(
            self._asked("query", [client], self._device(personal_name(client.client)), references)
            for client in self.clients
        )

    def _asked(
        self, vantage: Vantage, clients: Sequence[ClientData], oracle: Oracle, references: tuple[Reference, ...]
    ) -> Observation:
        return Observation(
            vantage=vantage,
            candidates=candidates(clients),
            population=population(self.scenario),
            oracle=oracle,
            references=references,
        )

    def _personal_predictor(self, client: int) -> Predictor:
        model = stored_model(self.scenario, self.folder.personal_model(client))
        return lambda x: logits(model, x)

    def _device(self, name: str) -> Oracle:
        """An exported model, answering as the device does: TFLite Micro's arithmetic."""
        return _device_oracle(Artifact.from_bytes(self.folder.artifact(name).read_bytes(), self.scenario.edge.output))

    def _device_references(self, vectors: Vectors) -> tuple[Reference, ...]:
        """Float references serve for int8 logits (measured); where the device answers with a softmax whose steps are
        1/256, the references are quantised by the same pipeline, calibrated on the attacker's own records.
        """
        if self.scenario.edge.output == "logits":
            return _float_references(self.scenario, self.prepared, vectors)
        own = drawn(self.scenario, population(self.scenario).x)
        oracles = [
            _device_oracle(
                Artifact.from_bytes(
                    export_bytes(self.scenario, load_vector(fresh_model(self.scenario), weights), own), "probabilities"
                )
            )
            for weights in vectors
        ]
        return tuple(Reference(o, mask) for o, mask in zip(oracles, self.prepared.trained_on, strict=True))


def _device_oracle(artifact: Artifact) -> Oracle:
    return Oracle(lambda x: predict(artifact, x, "tflm"), artifact.output, artifact.resolution)


def _float_predictor(scenario: Scenario, weights: Float[np.ndarray, " params"]) -> Predictor:
    model = load_vector(fresh_model(scenario), weights)
    return lambda x: logits(model, x)


def _float_references(scenario: Scenario, prepared: Prepared, vectors: Vectors) -> tuple[Reference, ...]:
    # Oracles only for their notes: three attacks ask each reference about the same records.
    return tuple(
        Reference(Oracle(_float_predictor(scenario, weights)), mask)
        for weights, mask in zip(vectors, prepared.trained_on, strict=True)
    )
