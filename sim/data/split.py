"""Who gets which records: the clients on one side, the attacker on the other. No record is on both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from clients.randomness import generator
from sim.data import partition
from sim.data.config import DataConfig, PopulationConfig
from sim.data.dataset import DataError, Dataset
from sim.data.partition import Index


@dataclass(frozen=True, slots=True)
class Device:
    """Somebody's record numbers, before any coin is tossed."""

    name: str
    person: str
    index: Index


@dataclass(frozen=True, slots=True)
class Split:
    """The devices that take part, and those whose records are the attacker's."""

    clients: list[Device]
    attacker: list[Device]
    assumption: str  # with {records} still to be filled in


def divide(dataset: Dataset, data: DataConfig, population: PopulationConfig, seed: int) -> Split:
    """The clients and the attacker's devices that the two tables ask for.

    Raises:
        DataError: the data has no natural clients, or not enough people or records.
    """
    if data.partition == "natural":
        devices = _natural(dataset, data, seed)
        if population.who == "other-people":
            return _without_people(devices, population.people, dataset, seed)
        return _set_aside(devices, population.share, seed)
    if population.who == "other-people":
        return _simulated(dataset, data, population, seed)
    assert data.clients is not None
    size = data.records_per_client or len(dataset) // data.clients
    return _set_aside(_deal(dataset, data, [size] * data.clients, seed), population.share, seed)


def newcomers_last(split: Split, newcomers: int, seed: int) -> tuple[Split, int]:
    """The split with `newcomers` people, drawn at random, at the end of its clients; and how many are before them."""
    if not newcomers:
        return split, len(split.clients)
    people = list(dict.fromkeys(device.person for device in split.clients))
    drawn = {people[i] for i in generator(seed, "newcomers").permutation(len(people))[:newcomers]}
    first = [device for device in split.clients if device.person not in drawn]
    last = [device for device in split.clients if device.person in drawn]
    return replace(split, clients=first + last), len(first)


def _natural(dataset: Dataset, data: DataConfig, seed: int) -> list[Device]:
    """The data's own devices, each with at most `records_per_client` of its records."""
    if dataset.client is None:
        raise DataError(
            f'partition: "natural" needs data that knows whose each record is, and {dataset.source} does not. Set '
            "`partition` to dirichlet, shards or iid and `clients` to their number"
            + ("; or add an array `client` to the file." if dataset.source.startswith("npz:") else ".")
        )
    if len(dataset.client_names) < 2:
        raise DataError(
            f"{dataset.source}: `client` names {len(dataset.client_names)} client; at least 2 are needed for a "
            "federation. Supply more, or set `partition` to dirichlet, shards or iid."
        )
    devices = []
    for c, index in enumerate(partition.natural(dataset.client, len(dataset.client_names))):
        if data.records_per_client is not None and len(index) > data.records_per_client:
            index = np.sort(generator(seed, "cap", c).permutation(index)[: data.records_per_client])
        devices.append(Device(dataset.client_names[c], dataset.person[c], index))
    return devices


def _without_people(devices: list[Device], people: int, dataset: Dataset, seed: int) -> Split:
    """Whole people, drawn at random, leave the federation with all their devices and become the population."""
    everyone = list(dict.fromkeys(device.person for device in devices))
    if people >= len(everyone):
        raise DataError(
            f"population.people: {people} people are to be the attacker's, but {dataset.source} has only "
            f"{len(everyone)}, and some must take part. Set it to {max(len(everyone) - 2, 1)} or less."
        )
    drawn = {everyone[i] for i in generator(seed, "population").choice(len(everyone), people, replace=False)}
    attacker = [device for device in devices if device.person in drawn]
    who = "1 other person" if people == 1 else f"{people} other people"
    where = "1 device" if len(attacker) == 1 else f"{len(attacker)} devices"
    return Split(
        [device for device in devices if device.person not in drawn],
        attacker,
        f"The attacker holds labelled records of {who} ({where}, {{records:,}} records) who took no part.",
    )


def _set_aside(devices: list[Device], share: float, seed: int) -> Split:
    """A random share of every client's own records becomes the population."""
    clients, attacker = [], []
    for c, device in enumerate(devices):
        order = generator(seed, "population", c).permutation(device.index)
        cut = round(share * len(order))
        attacker.append(replace(device, index=np.sort(order[:cut])))
        clients.append(replace(device, index=np.sort(order[cut:])))
    return Split(
        clients,
        attacker,
        f"The attacker holds {share:.0%} of the same people's own records ({{records:,}} records, never trained on): "
        "a stronger assumption than records of other people.".replace("%", " %"),
    )


def _simulated(dataset: Dataset, data: DataConfig, population: PopulationConfig, seed: int) -> Split:
    """Simulated clients, and some more of the same kind whose records are the attacker's."""
    assert data.clients is not None
    people, total = population.people, population.records
    size = data.records_per_client or (
        len(dataset) // (data.clients + people) if total is None else (len(dataset) - total) // data.clients
    )
    total = people * size if total is None else total
    extra = [total // people + (k < total % people) for k in range(people)]
    devices = _deal(dataset, data, [max(size, 0)] * data.clients + extra, seed)
    who = "1 more simulated client" if people == 1 else f"{people} more simulated clients"
    mixed = "" if dataset.client is None else " The partition mixes people: a person can be on both sides."
    return Split(
        devices[: data.clients],
        devices[data.clients :],
        f"The attacker holds the labelled records of {who} ({{records:,}} records) that took no part.{mixed}",
    )


def _deal(dataset: Dataset, data: DataConfig, sizes: Sequence[int], seed: int) -> list[Device]:
    """Simulated devices of so many records each, dealt as the table's partition says."""
    rng = generator(seed, "partition", data.partition)
    if data.partition == "dirichlet":
        parts = partition.dirichlet(dataset.y, sizes, data.alpha, rng)
    elif data.partition == "shards":
        parts = partition.shards(dataset.y, sizes, data.shards_per_client, rng)
    else:
        parts = partition.iid(len(dataset), sizes, rng)
    return [Device(f"client {i}", f"client {i}", np.sort(part)) for i, part in enumerate(parts)]
