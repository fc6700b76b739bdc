"""The auditor's records: who is a member, who is not, who else there is, and what was taken out before asking."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from attacks.observation import Records
from edge.artifact import Port
from sim.audit import layout
from sim.audit.layout import Layout
from sim.audit.task import Ends, Targets, Task, targets
from sim.data import npz
from sim.data.dataset import finite_faults
from sim.data.npz import Array
from sim.errors import InputError

MOST_RECORDS: Final = 1 << 20
FEWEST: Final = 10  # of members, and of non-members, once duplicates are out
_CLIPPED: Final = 0.5  # of all numbers outside what the file can take: then they are no inputs of this file
_WORTH_SAYING: Final = 0.01
_UNIT: Final = 16.0  # a range wider than this is no range of numbers between 0 and 1

Rows = Float[np.ndarray, "records ..."]


@dataclass(frozen=True, slots=True)
class Given:
    """The records of one file, as the model takes them."""

    x: Rows
    y: Targets
    person: Shaped[np.ndarray, " records"] | None
    row: Int[np.ndarray, " records"]  # where in the file

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, kept: Bool[np.ndarray, " records"]) -> Given:
        person = None if self.person is None else self.person[kept]
        return Given(self.x[kept], self.y[kept], person, self.row[kept])


@dataclass(frozen=True, slots=True)
class Case:
    """Everything that is asked about: the candidates, of whom only the auditor knows who was a member, and others."""

    task: Task
    candidates: Records
    member: Bool[np.ndarray, " candidates"]
    person: Shaped[np.ndarray, " candidates"]
    people: int  # 0: the files name none
    straddling: int  # people with records in both files
    row: Int[np.ndarray, " candidates"]
    population: Records
    notes: tuple[str, ...]  # what was assumed, and what was taken out


@dataclass(frozen=True, slots=True)
class Files:
    """Where the records are."""

    members: Path
    nonmembers: Path
    population: Path | None
    layout: Layout | None


def load(files: Files, ends: Ends, port: Port) -> Case:
    """Read, check and join the files. Raises InputError naming the file, the array, and what to do."""
    reader = _Reader(ends, port, files.layout)
    task, members = reader.read(files.members, "--members")
    others = reader.read(files.nonmembers, "--nonmembers")
    rest = reader.read(files.population, "--population") if files.population else None
    for path, found in ((files.nonmembers, others), (files.population, rest)):
        if found and found[0] != task:
            raise InputError(
                f"{path}: its `y` speaks of {found[0]}, that of {files.members} of {task}; save both alike"
            )
    return _joined(task, members, others[1], rest[1] if rest else None, files, reader.notes)


class _Reader:
    """Reads one file after the other, and keeps what had to be assumed."""

    def __init__(self, ends: Ends, port: Port, asked: Layout | None) -> None:
        self.ends, self.port, self.asked = ends, port, asked
        self.notes: list[str] = []

    def read(self, path: Path, option: str) -> tuple[Task, Given]:
        where = f"{option} {path}"
        arrays = npz.read(path, where, ("x",), ("y", "person", "client"))
        if len(arrays["x"]) > MOST_RECORDS:
            raise InputError(f"{where}: {len(arrays['x']):,} records; {MOST_RECORDS:,} are allowed. Save fewer")
        x = self._inputs(arrays["x"], where)
        task, y = targets(arrays.get("y"), x, self.ends, where)
        return task, Given(x, y, _people(arrays, len(x), where), np.arange(len(x)))

    def _inputs(self, x: Array, where: str) -> Rows:
        real = self._real(x, where)
        reading = layout.read_as(x.shape[1:], self.ends.takes, self.asked, f"{where}: array `x`")
        self._say(reading.assumed)
        rows = layout.apply(real, self.ends.takes, reading)
        if faults := finite_faults(rows):
            raise InputError(f"{where}: {faults[0]}")
        self._within(rows, where)
        return rows

    def _real(self, x: Array, where: str) -> Rows:
        """As float32. Bytes of the kind that the file's input has are levels (of uint8, if there is more than 0 and 1);
        others are divided by 255, as images are, where the file takes small numbers.
        """
        if x.dtype.name == self.port.numbers and (x.dtype == np.int8 or (x.dtype == np.uint8 and x.max() > 1)):
            self._say(f"{where}: x is {x.dtype}, so it was taken to be quantised as the file's input is")
            return npz.numbers(self.port.real(x), where)
        rows = npz.numbers(x, where)
        if x.dtype == np.uint8 and x.max() > 1 and _top(self.port) < _UNIT:
            self._say(f"{where}: x is uint8, so it was divided by 255")
            return np.asarray(rows / np.float32(255))
        return rows

    def _within(self, rows: Rows, where: str) -> None:
        """Whether the file can take these numbers: an int8 input clips what is outside its range."""
        if self.port.numbers == "float32":
            return
        low, high = _range(self.port)
        outside = float(((rows < low - self.port.scale) | (rows > high + self.port.scale)).mean())
        words = f"{outside:.1%} of the numbers lie outside what the file's input holds, {low:g} to {high:g}"
        if outside > _CLIPPED:
            raise InputError(
                f"{where}: array `x` runs from {rows.min():g} to {rows.max():g}; {words}. Scale x as it was scaled for "
                "training"
            )
        self._say(f"{where}: {words}; they are clipped, as on the device" if outside > _WORTH_SAYING else None)

    def _say(self, note: str | None) -> None:
        if note and note not in self.notes:
            self.notes.append(note)


def _range(port: Port) -> tuple[float, float]:
    ends = np.iinfo(port.numbers)
    return (ends.min - port.zero_point) * port.scale, (ends.max - port.zero_point) * port.scale


def _top(port: Port) -> float:
    return 0.0 if port.numbers == "float32" else _range(port)[1]


def _people(arrays: dict[str, Array], count: int, where: str) -> Shaped[np.ndarray, " records"] | None:
    name = next((name for name in ("person", "client") if name in arrays), None)
    return None if name is None else npz.names(arrays[name], name, count, where)


def _joined(task: Task, members: Given, others: Given, rest: Given | None, files: Files, notes: list[str]) -> Case:
    members, others, rest, removed = _apart(members, others, rest)
    for given, option, path in ((members, "--members", files.members), (others, "--nonmembers", files.nonmembers)):
        if len(given) < FEWEST:
            raise InputError(
                f"{option} {path}: {len(given)} records are left once duplicates are taken out; {FEWEST} or more are "
                f"needed. {' '.join(removed)}"
            )
    both = Records(np.concatenate([members.x, others.x]), np.concatenate([members.y, others.y]))
    member = np.repeat([True, False], [len(members), len(others)])
    person, people, straddling = _crowd(members, others)
    population = Records(rest.x, rest.y) if rest else both[:0]
    row = np.concatenate([members.row, others.row])
    return Case(task, both, member, person, people, straddling, row, population, (*notes, *removed))


def _crowd(members: Given, others: Given) -> tuple[Shaped[np.ndarray, " candidates"], int, int]:
    """Whose record each is, how many people there are, and how many have records on both sides."""
    if members.person is None or others.person is None:
        return np.zeros(len(members) + len(others), dtype=np.int64), 0, 0
    person = np.concatenate([members.person, others.person])
    both = np.intersect1d(members.person, others.person)
    return person, len(np.unique(person)), len(both)


def _apart(members: Given, others: Given, rest: Given | None) -> tuple[Given, Given, Given | None, list[str]]:
    """Without records that are there twice: which side they are on is no secret that the model could keep."""
    inside, outside = _keys(members), _keys(others)
    both, known = set(inside) & set(outside), set(inside) | set(outside)
    removed: list[str] = []
    members = members[_kept(inside, both, "members", removed)]
    others = others[_kept(outside, both, "non-members", removed)]
    if both:
        removed.append(f"{_records(len(both))} in both the member and the non-member file: taken out of both.")
    if rest is not None:
        rest = rest[_kept(_keys(rest), known, "the population", removed)]
    return members, others, rest, removed


def _kept(keys: list[bytes], barred: set[bytes], side: str, removed: list[str]) -> Bool[np.ndarray, " records"]:
    """The first of each record that is not `barred`; what goes is told."""
    seen: set[bytes] = set()
    kept = np.ones(len(keys), dtype=bool)
    for number, key in enumerate(keys):
        kept[number] = key not in seen and key not in barred
        seen.add(key)
    if twice := len(keys) - len(seen):
        removed.append(f"{_records(twice)} more than once among {side}: one of each was kept.")
    if side == "the population" and (overlap := len(seen & barred)):
        removed.append(f"{_records(overlap)} of the population also in the member or non-member file: taken out.")
    return kept


def _records(count: int) -> str:
    return f"{count:,} record{'s are' if count > 1 else ' is'}"


def _keys(given: Given) -> list[bytes]:
    return [blake2b(row.tobytes(), digest_size=16).digest() for row in given.x]
