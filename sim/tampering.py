"""Who tampers in a scenario, what these clients train on, and whose records are scored then.

Tampering clients are drawn by the seed. Their own records are nobody's to attack: they know them, and trained on
something else. So candidates, accuracy and exposure are those of the other clients, whose coins stay what they were.
Reference models follow the recipe without any of this, and by the mean: whoever attacks need not be who tampers. (An
attacker that is could poison its references alike, as Tramèr et al. do, and tell more.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float, Int

from attacks.observation import Records
from attacks.tampering import (
    TamperingConfig,
    Trigger,
    flip_labels,
    flipped,
    mislabelled_copies,
    plant_backdoor,
    trigger_for,
    wrong_labels,
)
from clients.boosting import Boost
from clients.randomness import generator
from sim.data.federation import ClientData, Federation, Labelled
from sim.given import federation_of
from sim.scenario import Scenario

Labeller = Callable[[Float[np.ndarray, "records ..."]], Int[np.ndarray, " records"]]
FEWEST_HONEST = 2  # people: somebody's model must never have seen somebody else


@dataclass(frozen=True, slots=True)
class Trial:
    """Records that show whether tampering worked: how often does a model answer `wanted`?"""

    x: Float[np.ndarray, "records ..."]
    wanted: Int[np.ndarray, " records"]


@lru_cache(maxsize=4)
def tampering_clients(scenario: Scenario) -> tuple[int, ...]:
    """The clients that tamper, in increasing order; none without a `[tampering]` table."""
    if scenario.tampering is None:
        return ()
    clients = federation_of(scenario).participants
    count = min(scenario.tampering.clients, clients)
    return tuple(sorted(generator(scenario.seed, "tampering clients").choice(clients, count, replace=False).tolist()))


@lru_cache(maxsize=2)
def scored(scenario: Scenario) -> Federation:
    """The federation of those whose records are candidates, and whose accuracy counts.

    Left out are clients that tamper, and those with members alone, among whose records nobody can be told apart.
    Clients keep their numbers, so those that train are still the ones numbered below `participants`.
    """
    federation, tampering = federation_of(scenario), tampering_clients(scenario)
    clients = tuple(c for c in federation.clients if c.two_sided and c.client not in tampering)
    return replace(federation, clients=clients)


def members_of(scenario: Scenario, client: int) -> Labelled:
    """What a client trains on: its members, or what it makes of them."""
    if client not in tampering_clients(scenario):
        return federation_of(scenario).clients[client].members
    poisoned = _poisoned(scenario, client)
    return poisoned.x, poisoned.y


def most_trained_on(scenario: Scenario) -> int:
    """How many records a client trains on at most: the largest weight of an update."""
    return max(len(members_of(scenario, client.client)[1]) for client in federation_of(scenario).clients)


def boost(scenario: Scenario) -> tuple[Boost, ...]:
    """What the tampering clients do to their updates."""
    tampering = scenario.tampering
    if tampering is None or tampering.boost == 1:
        return ()
    return (Boost(clients=frozenset(tampering_clients(scenario)), factor=tampering.boost),)


def targeted(scenario: Scenario) -> Bool[np.ndarray, " records"]:
    """Which of the scored records truth serum is after, in client order: a coin each, which knows of no membership."""
    assert scenario.tampering is not None
    coins = [generator(scenario.seed, "truth serum", c.client).random(len(c)) for c in scored(scenario).clients]
    return np.concatenate(coins) < scenario.tampering.targeted


def trials(scenario: Scenario) -> list[Trial]:
    """For each scored client, held-out records on which tampering would show, in client order."""
    tampering, clients = scenario.tampering, scored(scenario).clients
    assert tampering is not None
    if tampering.how == "backdoor":
        return [_triggered(tampering, trigger(scenario), client) for client in clients]
    if tampering.how == "label-flip":
        classes = len(scored(scenario).classes)
        wanted = [flipped(client.y, tampering, classes) for client in clients]
        meant = [new != client.y for new, client in zip(wanted, clients, strict=True)]
    else:
        ends = np.cumsum([len(client) for client in clients])[:-1]
        wanted, meant = np.split(_wrong(scenario), ends), np.split(targeted(scenario), ends)
    return [_part(client, *each) for client, *each in zip(clients, wanted, meant, strict=True)]


def successes(scenario: Scenario, labeller: Callable[[ClientData], Labeller]) -> Bool[np.ndarray, " trials"]:
    """For each record on which tampering would show, whether a model answers what the tampering clients want.

    `labeller` gives the model to ask about a client's records.
    """
    pairs = zip(scored(scenario).clients, trials(scenario), strict=True)
    return np.concatenate([labeller(c)(trial.x) == trial.wanted for c, trial in pairs if len(trial.wanted)])


def trigger(scenario: Scenario) -> Trigger:
    """The backdoor's trigger, made from what the tampering clients hold."""
    clients = federation_of(scenario).clients
    members = [clients[number].members for number in tampering_clients(scenario)]
    return trigger_for(Records(np.concatenate([x for x, _ in members]), np.concatenate([y for _, y in members])))


def tampering_faults(scenario: Scenario) -> Iterator[str]:
    """What is wrong with this scenario's `[tampering]` and its data."""
    tampering, federation = scenario.tampering, federation_of(scenario)
    if tampering is None:
        return
    classes, clients = len(federation.classes), federation.participants
    wrong = False
    for name, value in (("source", tampering.source), ("target", tampering.target)):
        if value is not None and value >= classes:
            wrong = True
            yield f"tampering.{name} = {value}: the data has {classes} classes; choose one from 0 to {classes - 1}"
    if len(scored(scenario).people) < FEWEST_HONEST:
        yield (
            f"tampering.clients = {tampering.clients}: of {clients} clients too few are left to attack; their "
            f"records must belong to {FEWEST_HONEST} people at least. Lower it to "
            f"{max(1, clients - FEWEST_HONEST)} or less, or have more clients"
        )
    elif not wrong:
        yield from _without_effect(scenario, tampering)


def _without_effect(scenario: Scenario, tampering: TamperingConfig) -> Iterator[str]:
    """Tampering that changes nothing, or whose effect nothing would show."""
    source, clients = tampering.source, federation_of(scenario).clients
    own = np.concatenate([clients[number].members[1] for number in tampering_clients(scenario)])
    if tampering.how == "label-flip" and source is not None and source not in own:
        yield (
            f"tampering.source = {source}: no tampering client holds a record of that class to flip. Choose one of "
            f"{', '.join(map(str, np.unique(own)))}"
        )
    elif not sum(len(trial.wanted) for trial in trials(scenario)):
        yield (
            f'tampering.how = "{tampering.how}": the other clients hold out no record on which it would show. Choose '
            "another tampering.source or target, or give the clients more records"
        )


@lru_cache(maxsize=64)
def _poisoned(scenario: Scenario, client: int) -> Records:
    tampering, federation = scenario.tampering, federation_of(scenario)
    assert tampering is not None
    own = Records(*federation.clients[client].members)
    if tampering.how == "label-flip":
        return flip_labels(own, tampering, len(federation.classes))
    if tampering.how == "backdoor":
        return plant_backdoor(own, trigger(scenario), tampering, generator(scenario.seed, "backdoor", client))
    chosen, clients = targeted(scenario), scored(scenario).clients
    others = Records(np.concatenate([c.x for c in clients]), np.concatenate([c.y for c in clients]))
    number = tampering_clients(scenario).index(client)
    return own.joined(mislabelled_copies(others[chosen], _wrong(scenario)[chosen], tampering, number))


def _wrong(scenario: Scenario) -> Int[np.ndarray, " records"]:
    """The wrong label of each scored record, whether it is targeted or not."""
    federation = scored(scenario)
    y = np.concatenate([client.y for client in federation.clients])
    return wrong_labels(y, len(federation.classes), generator(scenario.seed, "truth serum", "labels"))


def _triggered(tampering: TamperingConfig, trigger: Trigger, client: ClientData) -> Trial:
    x, y = client.held_out
    others = y != tampering.target
    return Trial(trigger.stamped(x[others]), np.full(int(others.sum()), tampering.target))


def _part(client: ClientData, wanted: Int[np.ndarray, " records"], meant: Bool[np.ndarray, " records"]) -> Trial:
    rows = meant & ~client.member
    return Trial(client.x[rows], wanted[rows])
