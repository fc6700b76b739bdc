"""Clients with their records and a coin for each, and the attacker's own records, which no client holds."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from clients.randomness import generator
from sim.data.config import DataConfig, PopulationConfig
from sim.data.dataset import DataError, Dataset
from sim.data.registry import load
from sim.data.split import Device, Split, divide, newcomers_last

Labelled = tuple[Float[np.ndarray, "records ..."], Int[np.ndarray, " records"]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClientData:
    """One device's records. `member` is the coin of each: true for those trained on, false for those held out."""

    client: int
    name: str
    person: str
    x: Float[np.ndarray, "records ..."]
    y: Int[np.ndarray, " records"]
    member: Bool[np.ndarray, " records"]

    def __len__(self) -> int:
        return len(self.y)

    @property
    def members(self) -> Labelled:
        """`x` and `y` of the records trained on."""
        return self.x[self.member], self.y[self.member]

    @property
    def held_out(self) -> Labelled:
        """`x` and `y` of the records never trained on: same device, same mix of classes."""
        return self.x[~self.member], self.y[~self.member]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Population:
    """The attacker's own labelled records, none of which a client holds.

    `device` numbers from 0 the device that each record comes from, `names` has one name for each of these; `people` is
    how many people own them. `assumption` says in words what the attacker is taken to have.
    """

    x: Float[np.ndarray, "records ..."]
    y: Int[np.ndarray, " records"]
    device: Int[np.ndarray, " records"]
    names: tuple[str, ...]
    people: int
    assumption: str

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Federation:
    """The clients, the attacker's population, and the card of the data set they come from.

    The first `participants` clients train the global model; the others are newcomers, who only fine-tune it.
    `shape` is that of one record. `duplicates_removed` counts records left out because an earlier one has the same
    `x`: a held-out record identical to a member would not be a non-member.
    """

    source: str
    title: str
    licence: str
    synthetic: bool
    classes: tuple[str, ...]
    shape: tuple[int, ...]
    duplicates_removed: int
    clients: tuple[ClientData, ...]
    participants: int
    population: Population

    @property
    def records(self) -> int:
        """Records of all clients, members and held out."""
        return sum(map(len, self.clients))

    @property
    def people(self) -> tuple[str, ...]:
        """The clients' owners, each once, in the order of the clients."""
        return tuple(dict.fromkeys(client.person for client in self.clients))


def build_federation(data: DataConfig, population: PopulationConfig, seed: int) -> Federation:
    """The federation that the two tables and the seed describe; the same ones give the same federation.

    Raises:
        DataError: the data cannot be read or used, does not suffice, or leaves clients that cannot be attacked
            fairly. The faults of all clients are listed at once.
    """
    dataset, removed = without_duplicates(load(data.source, data.folder, seed, data.purchase))
    split, participants = newcomers_last(divide(dataset, data, population, seed), data.newcomers, seed)
    coins = [toss(len(device.index), data.member_share, seed, i) for i, device in enumerate(split.clients)]
    _refuse(split.clients, participants, coins, dataset, data)
    return Federation(
        source=dataset.source,
        title=dataset.title,
        licence=dataset.licence,
        synthetic=dataset.synthetic,
        classes=dataset.classes,
        shape=dataset.x.shape[1:],
        duplicates_removed=removed,
        clients=tuple(
            ClientData(
                client=i,
                name=device.name,
                person=device.person,
                x=dataset.x[device.index],
                y=dataset.y[device.index],
                member=coin,
            )
            for i, (device, coin) in enumerate(zip(split.clients, coins, strict=True))
        ),
        participants=participants,
        population=_population(dataset, split, population, seed),
    )


def toss(n: int, share: float, seed: int, client: int) -> Bool[np.ndarray, " records"]:
    """The coin of each of a client's `n` records: true (a member) with probability `share`, each on its own.

    It depends on nothing but its arguments, so a client can toss it itself before training. Nothing is balanced
    afterwards: that would make one record's membership tell of another's.
    """
    return generator(seed, "coin", client).random(n) < share


def without_duplicates(dataset: Dataset) -> tuple[Dataset, int]:
    """`dataset` with the first of every set of records that have the same `x`, and how many were left out.

    Labels and clients are not compared: to a model, the same `x` elsewhere is the same record.
    """
    seen: dict[bytes, int] = {}
    for i, row in enumerate(np.ascontiguousarray(dataset.x)):
        seen.setdefault(hashlib.blake2b(row, digest_size=16).digest(), i)
    removed = len(dataset) - len(seen)
    if not removed:
        return dataset, 0
    kept = np.fromiter(seen.values(), dtype=np.int64)
    client = None if dataset.client is None else dataset.client[kept]
    return replace(dataset, x=dataset.x[kept], y=dataset.y[kept], client=client), removed


def _population(dataset: Dataset, split: Split, config: PopulationConfig, seed: int) -> Population:
    index = np.concatenate([device.index for device in split.attacker])
    number = np.repeat(np.arange(len(split.attacker)), [len(device.index) for device in split.attacker])
    if config.records is not None:
        if config.records > len(index):
            raise DataError(
                f"population.records: {config.records:,} records are asked for, but the attacker's people have "
                f"{len(index):,}. Lower it, or raise `population.people` or `population.share`."
            )
        drawn = np.sort(generator(seed, "population", "records").permutation(len(index))[: config.records])
        index, number = index[drawn], number[drawn]
    if len(index) == 0:
        raise DataError("population: the attacker would hold no records. Raise `population.share` or `people`.")
    held = np.concatenate([device.index for device in split.clients])
    assert not np.isin(index, held).any(), "the attacker's records must be in no client's hands"
    return Population(
        x=dataset.x[index],
        y=dataset.y[index],
        device=number,
        names=tuple(device.name for device in split.attacker),
        people=len({device.person for device in split.attacker}),
        assumption=split.assumption.format(records=len(index)),
    )


def _refuse(
    clients: list[Device],
    participants: int,
    coins: list[Bool[np.ndarray, " records"]],
    dataset: Dataset,
    data: DataConfig,
) -> None:
    """Raises one DataError with the faults of all clients, if there are any."""
    faults = []
    if participants < 2:
        lower = "`population.people` or `data.newcomers`" if data.newcomers else "`population.people`"
        faults.append(
            f"{dataset.source}: {participants} client{' is' if participants == 1 else 's are'} left to take part; a "
            f"federation needs at least 2. Lower {lower} or supply more clients."
        )
    for device, coin in zip(clients, coins, strict=True):
        fault = _client_fault(dataset.y[device.index], coin, data)
        if fault:
            faults.append(f"{dataset.source}: {device.name}: {fault}")
    if faults:
        raise DataError(*faults)


def _client_fault(y: Int[np.ndarray, " records"], coin: Bool[np.ndarray, " records"], data: DataConfig) -> str:
    natural = data.partition == "natural"
    if len(y) < 2:
        more = "Leave this client out or give it more." if natural else "Raise `records_per_client` or lower `clients`."
        return f"has {len(y)} record(s) to train with and hold out; at least 2 are needed. {more}"
    if len(np.unique(y)) < 2:
        knob = {"dirichlet": "Raise `alpha`", "shards": "Raise `shards_per_client`"}.get(
            data.partition, "Leave this client out, or give it records of another class"
        )
        return f"all its {len(y)} records are of class {int(y[0])}; at least 2 classes are needed. {knob}."
    if coin.all() or not coin.any():
        lacks = "member" if not coin.any() else "held-out record"
        return (
            f"the coin left it no {lacks} among {len(y)} records (member_share = {data.member_share}). Give it more "
            "records, move `member_share` towards 0.5, or change the seed."
        )
    return ""
