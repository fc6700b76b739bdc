"""What updates tell of clients: whose a record is, how many each has, and which are of a kind that no label names."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from attacks import source
from attacks.broadcast import MAX_ROUNDS
from attacks.observation import NotFiniteError, Observation, Records, ServerRound, VantageLacksError
from attacks.property_inference import PropertyGuess, Simulation, infer
from attacks.row_span import count_members
from clients.randomness import generator
from clients.training import DivergedError
from sim.data.federation import ClientData, Federation
from sim.given import fresh_model
from sim.noise import strengths
from sim.recipe import local
from sim.reconstruct import participants
from sim.results import CountResult, PropertyResult, SourceResult
from sim.scenario import Scenario
from sim.score import clopper_pearson, score

SOURCE, PROPERTY, COUNT = "source-inference", "property-inference", "members-counted"
FEWEST = 5  # clients with a property, and without it, that an AUC is measured on
MUCH = 2.0  # times its share that makes a class one that a client has a property of

Vector = Float[np.ndarray, " params"]


@dataclass(frozen=True, slots=True)
class Property:
    """A property of clients: in words, for each client whether it has it, for the attacker's records whether they
    are of the kind, and which shares of such records a client has with it and without.
    """

    words: str
    truth: dict[int, bool]
    kind: Bool[np.ndarray, " population"]
    present: tuple[float, float]
    absent: tuple[float, float]


def name_sources(observation: Observation, federation: Federation) -> SourceResult:
    """Whose record is it, asked for all records of the participants, members and held-out apart.

    Raises VantageLacksError where no round has two updates.
    """
    clients = participants(federation)
    truth = np.repeat([client.client for client in clients], [len(client) for client in clients])
    member = np.concatenate([client.member for client in clients])
    records = Records(
        np.concatenate([client.x for client in clients]), np.concatenate([client.y for client in clients])
    )
    started = time.process_time()
    found = source.infer(observation, records, max_rounds=MAX_ROUNDS)
    seconds = time.process_time() - started
    (right, of), (held, of_held) = (
        (int((found.client == truth)[side].sum()), int(side.sum())) for side in (member, ~member)
    )
    return SourceResult(
        attack=SOURCE,
        vantage=observation.vantage,
        clients=len(found.clients),
        records=of,
        right=right,
        accuracy=right / of,
        ci=clopper_pearson(right, of),
        chance=found.chance,
        largest=float(np.unique(truth[member], return_counts=True)[1].max() / of),
        held_out_accuracy=held / of_held,
        held_out_ci=clopper_pearson(held, of_held),
        cpu_seconds=round(seconds, 3),
    )


def count(observation: Observation, federation: Federation) -> CountResult:
    """How many members each client has, and for how many that is right. Raises as `count_members` does."""
    started = time.process_time()
    found = count_members(observation)
    seconds = time.process_time() - started
    true = {client.client: int(client.member.sum()) for client in federation.clients}
    errors = {client: each.members - true[client] for client, each in found.items()}
    complete = [abs(errors[client]) for client, each in found.items() if each.complete]
    return CountResult(
        attack=COUNT,
        vantage=observation.vantage,
        clients=len(found),
        complete=len(complete),
        right=complete.count(0),
        at_least=sum(errors[client] <= 0 for client, each in found.items() if not each.complete),
        largest_error=max(complete, default=None),
        cpu_seconds=round(seconds, 3),
    )


def find_property(scenario: Scenario, observation: Observation, federation: Federation) -> PropertyResult:
    """Which clients have the property that `property_of` finds in the data, from the round with the most updates.

    Raises VantageLacksError where there are no single updates, or the attacker has no records of both kinds.
    """
    seen = max(observation.rounds, key=lambda each: len(each.updates), default=None)
    if seen is None or not seen.updates:
        need = "updates of single clients"
        message = f"attack '{PROPERTY}' needs {need}, vantage '{observation.vantage}' has no {need}"
        raise VantageLacksError(message, need)
    clients = {client.client: client for client in federation.clients if client.client in seen.updates}
    wanted = property_of(federation, clients)
    started = time.process_time()
    guess = _infer(scenario, observation, seen, clients, wanted)
    seconds = time.process_time() - started
    has = np.array([wanted.truth[client] for client in clients])
    measured = _auc(scenario, guess, has, [client.person for client in clients.values()])
    return PropertyResult(
        attack=PROPERTY,
        vantage=observation.vantage,
        property=wanted.words,
        round=seen.number,
        clients=len(clients),
        holding=int(has.sum()),
        auc=measured and measured[0],
        auc_ci=measured and measured[1],
        simulated_auc=guess.auc,
        simulated=guess.simulated,
        cpu_seconds=round(seconds, 3),
    )


def property_of(federation: Federation, clients: dict[int, ClientData]) -> Property:
    """What distinguishes the data's own devices (which wrist), or else which class a client holds much of."""
    return _place(federation, clients) or _class(federation, clients)


def _place(federation: Federation, clients: dict[int, ClientData]) -> Property | None:
    """Where the names end in one of two things after a comma, such as "person 3, left wrist"."""
    ends = {number: client.name.rpartition(", ")[2] for number, client in clients.items()}
    own = np.array([name.rpartition(", ")[2] for name in federation.population.names])[federation.population.device]
    if len(set(ends.values())) != 2 or set(own) != set(ends.values()):
        return None
    first = min(set(ends.values()))
    truth = {number: end == first for number, end in ends.items()}
    return Property(f"is a device of the kind '{first}'", truth, own == first, present=(1, 1), absent=(0, 0))


def _class(federation: Federation, clients: dict[int, ClientData]) -> Property:
    """The class that nearest to half of the clients hold more than twice its share of."""
    count = len(federation.classes)
    held = {number: np.bincount(client.members[1], minlength=count) for number, client in clients.items()}
    shares = np.sum(list(held.values()), axis=0) / sum(map(np.sum, held.values()))
    much = {number: counts > MUCH * shares * counts.sum() for number, counts in held.items()}
    label = int(np.abs(np.mean(list(much.values()), axis=0) - 0.5).argmin())
    own = federation.population.y == label
    edge = min(MUCH * float(own.mean()), 1.0)
    return Property(
        f"holds more than twice the share of '{federation.classes[label]}' that all clients together have",
        {number: bool(row[label]) for number, row in much.items()},
        own,
        present=(edge, 1.0),
        absent=(0.0, edge),
    )


def _infer(
    scenario: Scenario, observation: Observation, seen: ServerRound, clients: dict[int, ClientData], wanted: Property
) -> PropertyGuess:
    simulation = Simulation(
        train=_trainer(scenario, seen.weights),
        records=int(np.median([client.member.sum() for client in clients.values()])),
        present=wanted.present,
        absent=wanted.absent,
    )
    updates = np.stack([seen.updates[client] for client in clients])
    rng = generator(scenario.seed, "attack", PROPERTY)
    try:
        return infer(updates, observation.population, wanted.kind, simulation, rng)
    except ValueError as error:
        message = f"attack '{PROPERTY}', whether a client {wanted.words}: {error}"
        raise VantageLacksError(message, "records of both kinds") from error
    except DivergedError as error:
        message = f"attack '{PROPERTY}': among the clients that the attacker simulates on its own records, {error}"
        raise NotFiniteError(message) from error


def _trainer(scenario: Scenario, weights: Vector) -> Callable[[Records, np.random.Generator], Vector]:
    """The recipe's local training from these weights, with whatever optimiser and record-level noise it has."""
    noise, model = strengths(scenario), fresh_model(scenario)
    return lambda records, rng: weights - local(scenario, noise, model, weights, records, scenario.training, rng)


def _auc(
    scenario: Scenario, guess: PropertyGuess, has: Bool[np.ndarray, " clients"], person: list[str]
) -> tuple[float, tuple[float, float]] | None:
    """With its interval over people; None where there are too few clients of either kind."""
    if min(has.sum(), (~has).sum()) < FEWEST:
        return None
    rng = generator(scenario.seed, "bootstrap", PROPERTY)
    found = score(guess.scores.astype(np.float64), has, np.array(person), np.array(person), rng)
    return found.auc, found.auc_ci
