"""What a server that deviates paid for it: which of its clients could have noticed, and what its models are worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from attacks.malicious.making import MAKERS, covered
from attacks.observation import Probe
from clients.randomness import generator
from clients.training import logits
from clients.vigilance import MEASURES, Look, alarms, digests_differ, false_alarms, look
from clients.weights import load_vector
from sim.data.federation import ClientData
from sim.folder import RunFolder
from sim.given import fresh_model, stored_model
from sim.judge import Judged
from sim.probe import named, observation, probes
from sim.results import Detection, ProbeResult
from sim.scenario import Scenario
from sim.score import score
from sim.tampering import scored
from sim.transcript import ServerRounds

FEWEST = 10  # covered members, and non-members, from which on an area under their curve means anything
DIGESTS = "digests compared"  # the one check that clients can only make together
Vector = Float[np.ndarray, " params"]
Looks = dict[int, list[Look]]  # client -> the protocol's broadcasts, as they reached it


def watch(scenario: Scenario, folder: RunFolder, judged: Sequence[Judged]) -> list[ProbeResult]:
    """One entry per attack that needs a server which deviates, and that clients answered and the attacker scored."""
    own = {each.result.attack: each for each in judged}
    found = []
    looks: Looks = {}
    for name in named(scenario):
        sent = [probe for probe in probes(scenario, folder, MAKERS[name].kind) if probe.attack == name]
        answered = [probe for probe in sent if not probe.refused]
        if answered and name in own:
            looks = looks or _honest(scenario, folder, answered[0].weights)
            found.append(_result(scenario, folder, own[name], answered, looks))
    return found


def _result(scenario: Scenario, folder: RunFolder, judged: Judged, sent: list[Probe], looks: Looks) -> ProbeResult:
    name = judged.result.attack
    told = covered(name, replace(observation(scenario, MAKERS[name].kind), probes=tuple(sent)))
    tunes = MAKERS[name].kind == "personalize"
    clients = [c for c in scored(scenario).clients if c.client in sent[0].sent]
    return ProbeResult(
        attack=name,
        rounds=len(sent),
        clients=len(clients),
        accuracy=_mean([_accuracy(scenario, sent[0].weights, client) for client in clients]),
        accuracy_sent=_mean([_accuracy(scenario, p.sent[c.client], c) for p in sent for c in clients]),
        personal=_mean([_personal(scenario, folder, c) for c in clients]) if tunes else None,
        personal_made=_mean([_made(sent[0], c) for c in clients if c.client in sent[0].clients]) if tunes else None,
        covered=int(told.sum()),
        **_of_covered(scenario, judged, told),
        detections=_detections(scenario, sent, clients, looks),
    )


def _of_covered(scenario: Scenario, judged: Judged, told: Bool[np.ndarray, " records"]) -> dict[str, Any]:
    truth = judged.truth.of(told)
    if min(truth.member.sum(), (~truth.member).sum()) < FEWEST:
        return {"covered_auc": None, "covered_auc_ci": None}
    rng = generator(scenario.seed, "covered", judged.result.attack)
    found = score(judged.scores[told], truth.member, truth.person, truth.client, rng)
    return {"covered_auc": found.auc, "covered_auc_ci": found.auc_ci}


def _detections(scenario: Scenario, sent: list[Probe], clients: Sequence[ClientData], looks: Looks) -> list[Detection]:
    """Check by check: who would have noticed one of the attack's broadcasts at least."""
    seen = {c.client: [_look(scenario, vector, c) for vector in _distinct(sent, c.client)] for c in clients}
    able = [c.client for c in clients if len(looks[c.client]) > 1]
    found = []
    for check, measure in MEASURES.items():
        noticed = [any(alarms(measure, looks[c], odd) for odd in seen[c]) for c in able]
        rates = [false_alarms(measure, looks[c]) for c in able]
        found.append(Detection(check=check, clients=len(able), noticed=sum(noticed), false_alarms=_mean(rates)))
    caught = any(digests_differ(list(probe.sent.values())) for probe in sent)
    return [
        *found,
        Detection(check=DIGESTS, clients=len(clients), noticed=len(clients) if caught else 0, false_alarms=0.0),
    ]


def _honest(scenario: Scenario, folder: RunFolder, last: Vector) -> Looks:
    """What each client saw of the protocol: the broadcasts of the rounds it was in, and the model it personalised."""
    clients = {client.client: client for client in scored(scenario).clients}
    looks: Looks = {number: [] for number in clients}
    for seen in ServerRounds(folder.transcript):
        for number in clients.keys() & set(seen.clients):
            looks[number].append(_look(scenario, seen.weights, clients[number]))
    for client in clients.values():
        looks[client.client].append(_look(scenario, last, client))
    return looks


def _look(scenario: Scenario, weights: Vector, client: ClientData) -> Look:
    """With the client's held-out records in the place of some that it would set aside for this."""
    return look(fresh_model(scenario), weights, client.members, client.held_out)


def _distinct(sent: list[Probe], client: int) -> list[Vector]:
    """What a client got that is not what the protocol would have sent it."""
    odd = [p.sent[client] for p in sent if not np.array_equal(p.sent[client], p.weights)]
    return list({vector.tobytes(): vector for vector in odd}.values())


def _accuracy(scenario: Scenario, weights: Vector, client: ClientData) -> float:
    x, y = client.held_out
    return float((logits(load_vector(fresh_model(scenario), weights), x).argmax(1) == y).mean())


def _personal(scenario: Scenario, folder: RunFolder, client: ClientData) -> float:
    x, y = client.held_out
    model = stored_model(scenario, folder.personal_model(client.client))
    return float((logits(model, x).argmax(1) == y).mean())


def _made(probe: Probe, client: ClientData) -> float:
    x, y = client.held_out
    return float((probe.personal[client.client](x).argmax(1) == y).mean())


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
