"""What a malicious server sends: for each of its attacks the weights of every client, round by round."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float
from torch import nn

from attacks.malicious import ascent, backdoor, detector, suppression
from attacks.malicious.config import ProbeConfig
from attacks.malicious.layers import detecting, last_hidden
from attacks.malicious.targets import owners, score_each
from attacks.observation import Observation, Records

Vector = Float[np.ndarray, " params"]
Kind = Literal["train", "personalize"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """One round beside the protocol: client -> the weights that it is sent."""

    weights: Mapping[int, Vector]
    kind: Kind = "train"
    part: int = 0  # which of the attack's rounds this is


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What weights are made from: nothing that a server does not have before it deviates."""

    observation: Observation  # candidates, whose they are, the attacker's own records and the architecture
    weights: Vector  # the model that the protocol would have it send
    clients: tuple[int, ...]  # whom it can reach
    summed: bool  # whether it gets to see the sum of the updates only
    config: ProbeConfig

    @property
    def model(self) -> nn.Module:
        """The architecture."""
        assert self.observation.architecture is not None
        return self.observation.architecture

    def targets(self) -> dict[int, Records]:
        """Whom to probe with which records: each with its own, or where only the sum comes back everybody with all."""
        seen, clients = self.observation, self.clients
        assert seen.client is not None
        both = seen.candidates.joined(seen.population)
        if self.summed:
            return dict.fromkeys(clients, both)
        owner = owners(seen.client, seen.population, clients)
        return {client: both[owner == client] for client in clients}


@dataclass(frozen=True, slots=True)
class Maker:
    """How one attack makes its rounds, and how many it makes at most with so many clients."""

    make: Callable[[Means], Iterator[Sending]]
    rounds: Callable[[ProbeConfig, nn.Module, int], int]
    kind: Kind = "train"


def _each(means: Means, craft: Callable[[Records], Vector]) -> dict[int, Vector]:
    """Weights for each client from its targets, or the honest ones for who has none; all alike are made once."""
    if means.summed:
        return dict.fromkeys(means.clients, craft(means.targets()[means.clients[0]]))
    return {client: craft(records) if len(records) else means.weights for client, records in means.targets().items()}


def _ascend(means: Means) -> Iterator[Sending]:
    step = means.config.ascent
    yield Sending(weights=_each(means, lambda r: ascent.craft(means.model, means.weights, r, step)))


def _backdoor(means: Means) -> Iterator[Sending]:
    """Personal models stay apart, whatever is summed: each client gets its own."""
    own, config = means.observation.population, means.config
    alone = replace(means, summed=False).targets()
    sent = dict.fromkeys(means.clients, means.weights)
    for client, targets in alone.items():
        left = own[~_among(own, targets)]
        if len(targets) and len(left):
            sent[client] = backdoor.craft(
                means.model,
                means.weights,
                targets,
                left,
                alpha=config.backdoor_alpha,
                steps=config.backdoor_steps,
                rate=config.backdoor_rate,
            )
    yield Sending(weights=sent, kind="personalize")


def _among(own: Records, targets: Records) -> Bool[np.ndarray, " own"]:
    """Which of the attacker's own records are targets."""
    there = {x.tobytes() for x in np.ascontiguousarray(targets.x)}
    return np.array([x.tobytes() in there for x in np.ascontiguousarray(own.x)], dtype=bool)


def _suppress(means: Means) -> Iterator[Sending]:
    dead = suppression.craft(means.model, means.weights)
    for part, victim in enumerate(suppression.victims(list(means.clients), means.config.isolated)):
        yield Sending(weights={c: means.weights if c == victim else dead for c in means.clients}, part=part)


def _detect(means: Means) -> Iterator[Sending]:
    count, own = detector.units(means.model), means.observation.population
    most, strength = max(map(len, means.targets().values())), means.config.detector_strength
    for part in range(min(means.config.detector_rounds, -(-most // count))):
        craft = _detector(means, own, part, strength)
        yield Sending(weights=_each(means, craft), part=part)


def _detector(means: Means, own: Records, part: int, strength: float) -> Callable[[Records], Vector]:
    return lambda records: detector.craft(means.model, means.weights, records, own, part, strength)


MAKERS: dict[str, Maker] = {
    ascent.NAME: Maker(_ascend, lambda config, model, clients: 1),  # noqa: ARG005  # all are asked alike
    backdoor.NAME: Maker(_backdoor, lambda config, model, clients: 1, "personalize"),  # noqa: ARG005
    suppression.NAME: Maker(
        _suppress, lambda config, model, clients: min(config.isolated, clients) if last_hidden(model) else 0
    ),
    detector.NAME: Maker(
        _detect,
        lambda config, model, clients: config.detector_rounds if detecting(model) else 0,  # noqa: ARG005
    ),
}


def covered(name: str, observation: Observation) -> Bool[np.ndarray, " candidates"]:
    """Which candidates the probes of an attack tell anything about; it scores the others alike."""
    if name == detector.NAME:
        return detector.covered(observation)
    if name == suppression.NAME:
        return suppression.covered(observation)
    told = score_each(name, observation, lambda probe, client, records: np.ones(len(records)), neutral=0.0)  # noqa: ARG005
    return told.scores > 0


def planned(name: str, kind: Kind, config: ProbeConfig, model: nn.Module, clients: int) -> int:
    """Rounds of this kind that an attack makes at most; 0 for one that keeps to the protocol."""
    maker = MAKERS.get(name)
    return maker.rounds(config, model, clients) if maker and maker.kind == kind else 0
