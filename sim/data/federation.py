"""Clients with their records and a coin for each, and the attacker's own records, which no client holds."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from clients.randomness import generator
from sim.data.config import DataConfig, PopulationConfig
from sim.data.dataset import DataError, Dataset
from sim.data.registry import load
from sim.data.split import Device, Split, divide, newcomers_last

FEWEST = 2  # clients that take part
MOST_NAMED = 5  # clients in a sentence

Coin = Bool[np.ndarray, " records"]
Labelled = tuple[Float[np.ndarray, "records ..."], Int[np.ndarray, " records"]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClientData:
    """One device's records. `member` is the coin of each: true for those trained on, false for those held out.

    `row` is where each record is in the data set as it was loaded, from 0: for the user's own data, in the file.
    """

    client: int
    name: str
    person: str
    x: Float[np.ndarray, "records ..."]
    y: Int[np.ndarray, " records"]
    member: Bool[np.ndarray, " records"]
    row: Int[np.ndarray, " records"]

    def __len__(self) -> int:
        return len(self.y)

    @property
    def two_sided(self) -> bool:
        """Whether there are members and held-out records: of one side alone nothing can be told apart."""
        return bool(self.member.any() and not self.member.all())

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


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Records left out because an earlier one has the same `x`, whatever their labels and whoever's they are.

    A held-out record identical to a member would not be a non-member.
    """

    of: int = 0  # records before
    removed: int = 0
    other_label: int = 0
    other_client: int = 0

    def __str__(self) -> str:
        """What was left out, in words."""
        others = f"{self.other_label:,} with another label, {self.other_client:,} at another client"
        return (
            f"{self.removed:,} of {self.of:,} records have the same `x` as an earlier one and were left out as "
            f"duplicates ({others}): a non-member identical to a member is none"
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Federation:
    """The clients, the attacker's population, and the card of the data set they come from.

    The first `participants` clients train the global model; the others are newcomers, who only fine-tune it.
    `shape` is that of one record. `notes` say what was assumed in reading the data, and which clients are not there.
    `names_people` is whether the data says whose the clients are. `scaling` holds mean and deviation of each feature
    or channel that were taken off; None where records are as they came.
    """

    source: str
    title: str
    licence: str
    synthetic: bool | None  # None: nobody says
    names_people: bool
    classes: tuple[str, ...]
    shape: tuple[int, ...]
    channels: tuple[str, ...] = ()
    hertz: float | None = None
    duplicates: Duplicates
    notes: tuple[str, ...]
    clients: tuple[ClientData, ...]
    participants: int
    population: Population
    scaling: tuple[tuple[float, ...], tuple[float, ...]] | None = None

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

    A client whose coin leaves it nothing to train on is no client, and its place is left out of the numbers.

    Raises:
        DataError: the data cannot be read or used, does not suffice, or leaves fewer than two clients to take part.
    """
    loaded = load(data.source, data.folder, seed, data.purchase, data.layout)
    dataset, row, duplicates = without_duplicates(loaded)
    try:
        split, participants = newcomers_last(divide(dataset, data, population, seed), data.newcomers, seed)
        coins = [toss(len(device.index), data.member_share, seed, i) for i, device in enumerate(split.clients)]
        idle = [i for i, coin in enumerate(coins) if not coin.any()]
        participants -= sum(i < participants for i in idle)
        _refuse(split, participants, idle, dataset, data)
        own = _population(dataset, split, population, seed)
    except DataError as error:
        raise DataError(str(error), *([f"{dataset.source}: {duplicates}."] if duplicates.removed else [])) from error
    kept = [(device, coin) for device, coin in zip(split.clients, coins, strict=True) if coin.any()]
    return Federation(
        source=dataset.source,
        title=dataset.title,
        licence=dataset.licence,
        synthetic=data.synthetic if dataset.synthetic is None else dataset.synthetic,
        names_people=dataset.names_people and data.partition == "natural",
        classes=dataset.classes,
        shape=dataset.x.shape[1:],
        channels=dataset.channels,
        hertz=dataset.hertz,
        duplicates=duplicates,
        notes=(*dataset.notes, *_told(split, idle, kept)),
        clients=tuple(
            ClientData(
                client=number,
                name=device.name,
                person=device.person,
                x=dataset.x[device.index],
                y=dataset.y[device.index],
                member=coin,
                row=row[device.index],
            )
            for number, (device, coin) in enumerate(kept)
        ),
        participants=participants,
        population=own,
    )


def noted(federation: Federation) -> list[str]:
    """What a user should know of how the data was read: assumptions, duplicates, clients that are not scored."""
    return [*([str(federation.duplicates)] if federation.duplicates.removed else []), *federation.notes]


def _told(split: Split, idle: list[int], kept: list[tuple[Device, Coin]]) -> Iterator[str]:
    """Which clients do not take part, and which do and are not scored."""
    if idle:
        yield (
            f"not in the federation, since the coin (member_share) left them nothing to train on: {_idle(split, idle)}"
        )
    if whole := [
        f"{number} ({device.name}, {_records(len(coin))})" for number, (device, coin) in enumerate(kept) if coin.all()
    ]:
        yield (
            "taking part and not scored, since the coin (member_share) left them no held-out record: "
            f"client{'' if len(whole) == 1 else 's'} {_named(whole)}"
        )


def _idle(split: Split, idle: list[int]) -> str:
    return _named([f"{split.clients[i].name} ({_records(len(split.clients[i].index))})" for i in idle])


def _named(names: list[str]) -> str:
    return ", ".join(names[:MOST_NAMED]) + (f" and {len(names) - MOST_NAMED:,} more" if len(names) > MOST_NAMED else "")


def _records(count: int) -> str:
    return f"{count:,} record{'' if count == 1 else 's'}"


def toss(n: int, share: float, seed: int, client: int) -> Bool[np.ndarray, " records"]:
    """The coin of each of a client's `n` records: true (a member) with probability `share`, each on its own.

    It depends on nothing but its arguments, so a client can toss it itself before training. Nothing is balanced
    afterwards: that would make one record's membership tell of another's.
    """
    return generator(seed, "coin", client).random(n) < share


def without_duplicates(dataset: Dataset) -> tuple[Dataset, Int[np.ndarray, " records"], Duplicates]:
    """`dataset` with the first of every set of records that have the same `x`, where these were, and what was left out.

    Labels and clients are not compared: to a model, the same `x` elsewhere is the same record.
    """
    seen: dict[bytes, int] = {}
    keys = (hashlib.blake2b(record, digest_size=16).digest() for record in np.ascontiguousarray(dataset.x))
    first = np.fromiter((seen.setdefault(key, i) for i, key in enumerate(keys)), dtype=np.int64, count=len(dataset))
    kept = np.fromiter(seen.values(), dtype=np.int64)
    if len(kept) == len(dataset):
        return dataset, kept, Duplicates(len(dataset))
    client, y = dataset.client, dataset.y
    duplicates = Duplicates(
        of=len(dataset),
        removed=len(dataset) - len(kept),
        other_label=int((y != y[first]).sum()),
        other_client=0 if client is None else int((client != client[first]).sum()),
    )
    return (
        replace(dataset, x=dataset.x[kept], y=y[kept], client=None if client is None else client[kept]),
        kept,
        duplicates,
    )


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


def _refuse(split: Split, participants: int, idle: list[int], dataset: Dataset, data: DataConfig) -> None:
    """Raises DataError where fewer than two clients are left to take part."""
    if participants >= FEWEST:
        return
    lower = "`population.people` or `data.newcomers`" if data.newcomers else "`population.people`"
    faults = [
        f"{dataset.source}: {participants} client{' is' if participants == 1 else 's are'} left to take part; a "
        f"federation needs at least {FEWEST}. Lower {lower} or supply more clients."
    ]
    if idle:
        faults.append(
            f"{dataset.source}: the coin left no member to train on (member_share = {data.member_share}): "
            f"{_idle(split, idle)}. Give each client more records, raise `member_share`, or change the seed."
        )
    raise DataError(*faults)
