"""What each vantage is handed: the one place where a part of the run becomes an attacker's Observation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from attacks.malicious.making import Kind
from attacks.observation import Observation, Oracle, Output, Predictor, Recipe, Records, Reference, Vantage
from attacks.registry import ATTACKS
from clients.training import TrainingConfig, logits
from sim.data.federation import ClientData, Federation
from sim.export import calibration_card
from sim.federate import GLOBAL
from sim.folder import RunFolder, personal_name
from sim.given import federation_of, fresh_model, stored_model
from sim.holder import opened
from sim.prepare import Prepared, stranger_side
from sim.probe import kinds, observation, probes
from sim.references import (
    Masks,
    Vectors,
    device_references,
    float_predictor,
    float_references,
    float_will_do,
    population,
    quantised_references,
)
from sim.results import Precision
from sim.scenario import Scenario
from sim.shipped import HEAD, answers, artifact, of_devices
from sim.tampering import scored
from sim.transcript import ServerRounds, trained


@dataclass(frozen=True, slots=True)
class Target:
    """One row of the results before any attack: who attacks which model. One observation per attacked model.

    The observations' candidates, one after the other, are all records of the first `clients` clients, in their order.
    `trained` are the clients that trained what is attacked; records of all others are no members of it.
    """

    vantage: Vantage
    target: Literal["global", "personal"]
    precision: Precision
    output: Output | None
    clients: int
    trained: tuple[int, ...]
    observations: tuple[Observation, ...]


def observe(scenario: Scenario, folder: RunFolder, prepared: Prepared) -> list[Target]:
    """Every vantage's observations of a finished federation.

    Newcomers had no part in the global model, so there is nothing of theirs to find in it: it is attacked for
    participants' records alone. Models that only name labels are there for attacks that make do with that.
    """
    federation, view = federation_of(scenario), _View(scenario, folder, prepared)
    shared = Oracle(_stored_predictor(scenario, folder.models / GLOBAL))
    soft: Output = scenario.edge.output
    exported: dict[Precision, Oracle] = {variant: view.device("global", variant) for variant in scenario.edge.variants}
    shipped = scenario.edge.variants[0]
    vantages: list[tuple[Vantage, Precision, Output | None, tuple[Observation, ...]]] = [
        (view.aggregating, "float32", None, (view.aggregator(),)),
        ("global-user", "float32", "logits", (view.global_user(shared, view.float_references()),)),
        *(("global-user", v, soft, (view.global_user_of_device(exported[v], v),)) for v in exported),
        ("query", "float32", "logits", view.personal_float(shared)),
        *(
            ("query", p, soft, view.personal_device(exported.get(p, exported[shipped]), p))
            for p in of_devices(scenario)
        ),
    ]
    everybody, took_part = tuple(client.client for client in federation.clients), trained(folder.transcript)
    targets = []
    for vantage, precision, output, observations in vantages:
        if vantage == "query":
            target = Target(vantage, "personal", precision, output, len(everybody), everybody, observations)
        else:
            target = Target(vantage, "global", precision, output, federation.participants, took_part, observations)
        targets.append(target)
    if any("file of the model" in ATTACKS[name].needs for name in scenario.attacks.names if name in ATTACKS):
        targets.append(view.holder(next(t for t in targets if (t.vantage, t.precision) == ("query", shipped))))
    targets += [_malicious(scenario, folder, kind) for kind in kinds(scenario)]
    return [*targets, *(_labels(view.alike(target)) for target in targets if _worth_labels(scenario, target))]


def _malicious(scenario: Scenario, folder: RunFolder, kind: Kind) -> Target:
    """A server that deviates: what it knew before, and its probes of this kind."""
    seen = replace(observation(scenario, kind), probes=probes(scenario, folder, kind))
    assert seen.client is not None
    clients = int(seen.client.max()) + 1
    attacked: Literal["global", "personal"] = "personal" if kind == "personalize" else "global"
    answered = {client for probe in seen.probes for client in probe.clients}
    took_part = tuple(sorted({*trained(folder.transcript), *answered}))
    return Target("malicious-server", attacked, "float32", None, clients, took_part, (seen,))


def _worth_labels(scenario: Scenario, target: Target) -> bool:
    """Whether some attack of the scenario asks a model and makes do with labels."""
    needs = [ATTACKS[name].needs for name in scenario.attacks.names if name in ATTACKS]
    return (
        target.output is not None
        and target.vantage != "device"
        and any("model to query" in n and "confidences" not in n for n in needs)
    )


def _labels(target: Target) -> Target:
    """The same models, naming labels and nothing else: so do the references, and what was there before."""
    return replace(
        target,
        output="label",
        observations=tuple(
            replace(
                each,
                oracle=named(each.oracle),
                before=named(each.before),
                references=tuple(replace(r, predict=_one_hot(r.predict)) for r in each.references),
                tuned=tuple(replace(r, predict=_one_hot(r.predict)) for r in each.tuned),
            )
            for each in target.observations
        ),
    )


def named(oracle: Oracle | None) -> Oracle | None:
    """The same model, naming labels and nothing else."""
    return oracle and replace(oracle, answer=_one_hot(oracle), output="label", resolution=1.0, queries=0, _notes={})


def _one_hot(answer: Predictor) -> Predictor:
    """The first of the largest, as on the device."""

    def label(x: Float[np.ndarray, "records ..."]) -> Float[np.ndarray, "records classes"]:
        answers = answer(x)
        return np.asarray(np.eye(answers.shape[1], dtype=np.float32)[answers.argmax(axis=1)])

    return label


def stranger(scenario: Scenario, prepared: Prepared) -> tuple[Observation, ...]:
    """The control: each client's candidates against a personal model of somebody else, from other people's data."""
    clients = scored(scenario).clients
    oracles = [Oracle(float_predictor(scenario, weights)) for weights in prepared.strangers]
    references = float_references(scenario, prepared.trained_on, prepared.personal)
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


@dataclass(frozen=True, slots=True)
class _View:
    scenario: Scenario
    folder: RunFolder
    prepared: Prepared

    @property
    def federation(self) -> Federation:
        return scored(self.scenario)

    @property
    def participants(self) -> tuple[ClientData, ...]:
        return tuple(client for client in self.federation.clients if client.client < self.federation.participants)

    @property
    def aggregating(self) -> Literal["server", "aggregator"]:
        """Who adds the updates up: a server that sees each, or under secure aggregation one that sees their sum."""
        return "server" if self.scenario.aggregation.protocol == "none" else "aggregator"

    def aggregator(self) -> Observation:
        """Whoever aggregates, and is curious: every broadcast model, and the updates or their sum."""
        return replace(
            self._of(self.aggregating, self.participants),
            rounds=ServerRounds(self.folder.transcript),
            client=np.repeat([client.client for client in self.participants], [len(c) for c in self.participants]),
            recipe=_recipe(self.scenario.training),
        )

    def global_user_of_device(self, oracle: Oracle, variant: Precision) -> Observation:
        trained_on, weights = self.prepared.trained_on, self.prepared.global_
        return self.global_user(oracle, device_references(self.scenario, trained_on, weights, variant))

    def global_user(self, oracle: Oracle, references: tuple[Reference, ...]) -> Observation:
        return replace(self._of("global-user", self.participants), oracle=oracle, references=references)

    def personal_float(self, shared: Oracle) -> tuple[Observation, ...]:
        """Somebody who may query a personal model, and like every user the global one."""
        references = float_references(self.scenario, self.prepared.trained_on, self.prepared.personal)
        tuned = self._tuned(float_references)
        return tuple(
            replace(
                self._of("query", [client]),
                oracle=Oracle(_stored_predictor(self.scenario, self.folder.personal_model(client.client))),
                references=references,
                before=shared,
                tuned=tuned,
            )
            for client in self.federation.clients
        )

    def personal_device(self, shared: Oracle, precision: Precision) -> tuple[Observation, ...]:
        references = device_references(self.scenario, self.prepared.trained_on, self.prepared.personal, precision)
        tuned = self._tuned(partial(device_references, precision=precision))
        return tuple(
            replace(
                self._of("query", [client]),
                oracle=self.device(personal_name(client.client), precision),
                references=references,
                before=shared,
                tuned=tuned,
            )
            for client in self.federation.clients
        )

    def holder(self, querier: Target) -> Target:
        """Somebody who has a personal model's file, and can ask it what whoever may query it can.

        And the global model's, which every device had before.
        """
        records, folder = calibration_card(self.scenario).records, self.folder
        files = [folder.artifact(personal_name(client.client)).read_bytes() for client in self.federation.clients]
        before = opened(self.scenario, folder.artifact("global").read_bytes(), records)
        recipe = _recipe(self.scenario.personalization)
        observations = tuple(
            replace(
                each,
                vantage="device",
                file=opened(self.scenario, file, records),
                file_before=before,
                recipe=recipe,
            )
            for each, file in zip(querier.observations, files, strict=True)
        )
        return replace(querier, vantage="device", observations=observations)

    def float_references(self) -> tuple[Reference, ...]:
        return float_references(self.scenario, self.prepared.trained_on, self.prepared.global_)

    def device(self, name: str, precision: Precision) -> Oracle:
        """A model on its device, answering in the device's own arithmetic."""
        answer, output = answers(self.scenario, self.folder, name, precision), self.scenario.edge.output
        variant = self.scenario.edge.variants[0] if precision == HEAD else precision
        return Oracle(answer, output, artifact(self.scenario, self.folder, "global", variant).resolution)

    def alike(self, target: Target) -> Target:
        """The same target for an attacker whose references are quantised as the target is.

        Who asks for labels asks about records that it changed: a device clips them to its calibrated range, a float
        model does not. Against int8 models float references make such attacks weaker (measured: AUC .63, not .66).
        """
        if target.precision == "float32" or not float_will_do(self.scenario, target.precision):
            return target
        made = partial(quantised_references, precision=target.precision)
        weights = self.prepared.global_ if target.target == "global" else self.prepared.personal
        references = made(self.scenario, self.prepared.trained_on, weights)
        tuned = self._tuned(made) if target.target == "personal" else ()
        seen = tuple(replace(each, references=references, tuned=tuned) for each in target.observations)
        return replace(target, observations=seen)

    def _tuned(self, references: Callable[[Scenario, Masks, Vectors], tuple[Reference, ...]]) -> tuple[Reference, ...]:
        tuned = self.prepared.tuned
        return references(self.scenario, tuned.trained_on, tuned.personal) if tuned else ()

    def _of(self, vantage: Vantage, clients: Sequence[ClientData]) -> Observation:
        """What everybody has, of whose records it is about."""
        return Observation(
            vantage=vantage,
            candidates=candidates(clients),
            population=population(self.scenario),
            architecture=fresh_model(self.scenario),
        )


def _stored_predictor(scenario: Scenario, file: Path) -> Predictor:
    model = stored_model(scenario, file)
    return lambda x: logits(model, x)


def _recipe(training: TrainingConfig) -> Recipe:
    """What attackers know of how clients train: it is public."""
    return Recipe(training.optimizer, training.weight_decay)
