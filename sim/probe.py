"""A server that deviates, when the honest run is over: it sends what its attacks ask for, and keeps what comes back.

What it sends are ordinary messages, answered by the clients' ordinary code, with the noise and the secure aggregation
of the scenario in force. The rounds count against every budget. Nothing of the honest run is touched.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from flwr.app import ArrayRecord
from jaxtyping import Float
from safetensors.numpy import load_file

from attacks.malicious.making import MAKERS, Kind, Means, Sending
from attacks.observation import Observation, Oracle, Probe, Records, VantageLacksError
from clients.privacy import BudgetSpentError
from clients.training import logits
from clients.weights import flatten, unflatten
from server.aggregation import RoundRefusedError
from server.probing import Line
from server.received import Received
from sim import transcript
from sim.data.federation import ClientData
from sim.files import save_arrays
from sim.folder import RunFolder
from sim.given import federation_of, fresh_model, stored_model
from sim.progress import Progress
from sim.scenario import Scenario
from sim.tampering import scored

LINES = "probes.jsonl"
SPENT = "the clients refused: their privacy budgets have no room for rounds beside the plan's. Raise max_epsilon"
Vector = Float[np.ndarray, " params"]


@dataclass(frozen=True, slots=True)
class _Answer:
    """What one probe brought back. `refused` says why, if it brought nothing."""

    clients: tuple[int, ...] = ()
    mean: Vector | None = None
    updates: dict[int, Vector] | None = None
    refused: str = ""


def named(scenario: Scenario) -> list[str]:
    """The attacks of the scenario that need a server which deviates."""
    return [name for name in scenario.attacks.names if name in MAKERS]


def kinds(scenario: Scenario) -> list[Kind]:
    """What the server has clients do for them: train, personalise, or both."""
    return sorted({MAKERS[name].kind for name in named(scenario)}, reverse=True)


def probing(scenario: Scenario, folder: RunFolder, progress: Progress) -> Callable[[Line, ArrayRecord], None] | None:
    """What the server does after the honest run, for `federate`; None if the scenario names no such attack."""
    if not named(scenario):
        return None

    def afterwards(line: Line, arrays: ArrayRecord) -> None:
        number = scenario.federation.rounds + 2  # after the rounds and the personalisation
        for name in named(scenario):
            for kept in _probe(scenario, folder, line, arrays, name, number):
                progress.say(f"{name}: {kept.refused or f'{len(kept.clients)} clients answered'}")
                number += 1
        _account(folder)

    return afterwards


def observation(scenario: Scenario, kind: Kind) -> Observation:
    """What a malicious server knows before it deviates. In a model to personalise it can look for newcomers as well."""
    federation, model = scored(scenario), fresh_model(scenario)
    own = federation.population
    clients = [c for c in federation.clients if kind == "personalize" or c.client < federation.participants]
    return Observation(
        vantage="malicious-server",
        candidates=_records(clients),
        population=Records(own.x, own.y),
        architecture=model,
        client=np.repeat([c.client for c in clients], [len(c) for c in clients]),
    )


def probes(scenario: Scenario, folder: RunFolder, kind: Kind) -> list[Probe]:
    """Every probe of a finished run of this kind, as the attacks see it."""
    lines = (transcript.probes(folder.transcript) / LINES).read_text(encoding="utf-8").splitlines()
    found = [json.loads(line) for line in lines]
    return [_read(scenario, folder, line) for line in found if line["kind"] == kind]


def _probe(
    scenario: Scenario, folder: RunFolder, line: Line, arrays: ArrayRecord, name: str, number: int
) -> Iterator[_Answer]:
    """All rounds of one attack, as far as they are answered."""
    kind = MAKERS[name].kind
    try:
        for sending in MAKERS[name].make(_means(scenario, arrays, kind)):
            answer = _send(line, arrays, sending, number)
            _keep(folder, arrays, name, number, sending, answer)
            yield answer
            number += 1
            if answer.refused:
                return
    except VantageLacksError as lack:
        answer = _Answer(refused=str(lack))
        _keep(folder, arrays, name, number, Sending(weights={}, kind=kind), answer)
        yield answer


def _means(scenario: Scenario, arrays: ArrayRecord, kind: Kind) -> Means:
    federation = federation_of(scenario)
    reached = len(federation.clients) if kind == "personalize" else federation.participants
    return Means(
        observation=observation(scenario, kind),
        weights=flatten(arrays),
        clients=tuple(range(reached)),
        summed=scenario.aggregation.protocol != "none",
        config=scenario.attacks.probes,
    )


def _send(line: Line, arrays: ArrayRecord, sending: Sending, number: int) -> _Answer:
    weights = {client: unflatten(vector, arrays) for client, vector in sending.weights.items()}
    if sending.kind == "personalize":
        answers = line.personalize(weights, number)
        done = tuple(client for client, why in sorted(answers.items()) if not why)
        return _Answer(clients=done, refused="" if done else _why(answers))
    try:
        received = line.train(weights, number)
    except BudgetSpentError as spent:
        return _Answer(refused=f"{SPENT} ({spent})")
    except RoundRefusedError as refused:
        lost = {str(node): why for node, why in refused.dropped.items()}
        return _Answer(refused=_why(lost) if len(lost) == len(weights) else str(refused))
    return _answered(received)


def _answered(received: Received) -> _Answer:
    if not received.clients:
        return _Answer(refused=_why(received.dropped))
    return _Answer(received.clients, received.mean.astype(np.float32), received.updates)


def _why(reasons: dict[int, str] | dict[str, str]) -> str:
    """Why nobody answered."""
    if all(BudgetSpentError.__name__ in why for why in reasons.values()):
        return SPENT
    return "; ".join(dict.fromkeys(reasons.values()))


def _keep(folder: RunFolder, arrays: ArrayRecord, name: str, number: int, sending: Sending, answer: _Answer) -> None:
    place = transcript.probes(folder.transcript)
    asked = sorted(sending.weights)
    different = {sending.weights[client].tobytes(): sending.weights[client] for client in asked}
    which = [list(different).index(sending.weights[client].tobytes()) for client in asked]
    tensors = {
        "weights": flatten(arrays),
        "asked": np.array(asked, np.int64),
        "which": np.array(which, np.int64),
        "sent": np.stack(list(different.values())) if different else np.zeros((0, 0), np.float32),
        "clients": np.array(answer.clients, np.int64),
    }
    if answer.mean is not None:
        tensors["mean"] = answer.mean
    if answer.updates:
        tensors["updates"] = np.stack([answer.updates[client] for client in answer.clients])
    save_arrays(place / _file(number), tensors)
    line = {"number": number, "attack": name, "kind": sending.kind, "part": sending.part, "refused": answer.refused}
    with (place / LINES).open("a", encoding="utf-8") as lines:
        lines.write(json.dumps({**line, "asked": len(asked), "answered": len(answer.clients)}) + "\n")


def _read(scenario: Scenario, folder: RunFolder, line: dict[str, str | int]) -> Probe:
    place, number = transcript.probes(folder.transcript), int(line["number"])
    tensors = load_file(place / _file(number))
    clients = tuple(tensors["clients"].tolist())
    return Probe(
        attack=str(line["attack"]),
        part=int(line["part"]),
        weights=tensors["weights"],
        sent={c: tensors["sent"][row] for c, row in zip(tensors["asked"].tolist(), tensors["which"], strict=True)},
        clients=clients,
        mean=tensors.get("mean"),
        updates=dict(zip(clients, tensors["updates"], strict=True)) if "updates" in tensors else {},
        personal=_personal(scenario, folder, number, clients) if line["kind"] == "personalize" else {},
        refused=str(line["refused"]),
    )


def _personal(scenario: Scenario, folder: RunFolder, number: int, clients: tuple[int, ...]) -> dict[int, Oracle]:
    """The models made of a probe, as whoever may query them sees them."""

    def oracle(client: int) -> Oracle:
        model = stored_model(scenario, transcript.probed_model(folder.transcript, number, client))
        return Oracle(lambda x: logits(model, x))

    return {client: oracle(client) for client in clients}


def _account(folder: RunFolder) -> None:
    """Add the probes to what the clients' budgets are worked out from. Who was asked and did not refuse has trained."""
    ledger, rounds = transcript.ledger(folder.transcript), {}
    lines = (transcript.probes(folder.transcript) / LINES).read_text(encoding="utf-8").splitlines()
    found = [each for each in map(json.loads, lines) if each["asked"] and not each["refused"].startswith(SPENT)]
    trained = [each for each in found if each["kind"] == "train"]
    asked = [load_file(transcript.probes(folder.transcript) / _file(each["number"]))["asked"] for each in trained]
    for client, count in ledger.rounds.items():
        rounds[client] = count + sum(client in some for some in asked)
    transcript.close(
        folder.transcript,
        replace(
            ledger,
            rounds=rounds,
            probed=tuple(each["answered"] for each in trained if each["answered"]),
            personal=1 + sum(each["kind"] == "personalize" for each in found),
        ),
    )


def _file(number: int) -> str:
    return f"probe-{number:06d}.safetensors"


def _records(clients: list[ClientData]) -> Records:
    return Records(np.concatenate([c.x for c in clients]), np.concatenate([c.y for c in clients]))
