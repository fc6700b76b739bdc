"""The user's own data: an .npz file with `x`, `y` and, where known, `client` and `person`."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import numpy as np
from jaxtyping import Float, Int

from sim.data import npz
from sim.data.dataset import DataError, Dataset, check
from sim.data.npz import Array
from sim.errors import LONGEST, shown

Layout = Literal["channels-first", "channels-last"]
FEW_CHANNELS: Final = 4  # of an image: grey, two of them, colours, colours with transparency

Labels = Int[np.ndarray, " records"]
Names = tuple[str, ...]


def load(path: Path, source: str, layout: Layout | None = None) -> Dataset:
    """The records in the .npz file at `path`.

    `x` may be floats, integers or booleans, of shape (records, features), (records, channels, length) or
    (records, channels, height, width); `layout` says where the channels are, where that cannot be told. Images (four
    dimensions) stored as uint8 are divided by 255; everything else keeps its values. `y` holds the class numbers
    0, 1, 2, ..., or the classes' names as text. `client` holds a number or a string for each record, and `person` says
    who owns the client; without `person` every client counts as one person, without `client` every person has one.

    Raises:
        DataError: the file cannot be read, holds Python objects, lacks a field, or a field is wrong.
    """
    where = str(path)
    arrays = npz.read(path, where, ("x", "y"), ("client", "person"))
    x, notes = _features(arrays["x"], layout, where)
    y, classes = _labels(arrays["y"], where)
    client, client_names, owners = _owners(arrays, len(x), where)
    if "person" in arrays and "client" not in arrays:
        notes += (f"{path.name}: without `client`, each person of `person` was taken to have one client",)
    return check(
        Dataset(
            source=source,
            title=f"{path.name} (the user's own data)",
            licence="the user's own",
            synthetic=None,
            names_people="person" in arrays,
            x=x,
            y=y,
            classes=classes,
            client=client,
            client_names=client_names,
            person=owners,
            notes=notes,
        )
    )


def _features(x: Array, layout: Layout | None, where: str) -> tuple[Float[np.ndarray, "records ..."], tuple[str, ...]]:
    rows = npz.numbers(x, where)
    if x.dtype == np.uint8 and x.ndim == 4:
        rows /= np.float32(255)
    found = layout or _layout(x.shape, where)
    if found == "channels-first" or x.ndim not in (3, 4):
        return rows, ()
    note = (
        f"{Path(where).name}: `x` of shape {x.shape} was taken to have its channels last; they were moved to the front"
    )
    return np.ascontiguousarray(np.moveaxis(rows, -1, 1)), () if layout else (note,)


def _layout(shape: tuple[int, ...], where: str) -> Layout:
    """Where the channels are, as far as the sides of a record tell. Raises DataError where they do not."""
    if len(shape) not in (3, 4) or shape[1] == 1:
        return "channels-first"
    first, last = shape[1], shape[-1]
    if last == 1:
        return "channels-last"
    if len(shape) == 4:
        few_first = first <= FEW_CHANNELS < min(shape[2:])
        few_last = last <= FEW_CHANNELS < min(shape[1:3])
        if few_last or (first == shape[2] and last < first):
            return "channels-last"
        if few_first or (shape[2] == last and first != last):
            return "channels-first"
    elif first < last:
        return "channels-first"
    sides = "length" if len(shape) == 3 else "height, width"
    raise DataError(
        f"{where}: `x` has shape {shape}, which could be (records, channels, {sides}) or (records, {sides}, channels). "
        'Say which: set data.layout = "channels-first" or data.layout = "channels-last".'
    )


def _labels(y: Array, where: str) -> tuple[Labels, Names]:
    if fault := npz.form_fault(y, numbers_too=False):
        raise DataError(f"{where}: `y` {fault}")
    if y.dtype.kind in "US":
        text, number = np.unique(npz.names(y, "y", len(y), where), return_inverse=True)
        return number.astype(np.int64), tuple(shown(each, LONGEST) for each in text.tolist())
    if y.dtype.kind == "u" and int(y.max()) > np.iinfo(np.int64).max:
        raise DataError(f"{where}: `y` runs to {y.max()}; class numbers are 0, 1, 2 and so on. Renumber them.")
    y = y.astype(np.int64)
    return y, tuple(f"class {i}" for i in range(len(np.unique(y))))


def _owners(arrays: dict[str, Array], records: int, where: str) -> tuple[Labels | None, Names, Names]:
    """Each record's client, and the clients' names and owners."""
    known = [name for name in ("client", "person") if name in arrays]
    given: dict[str, Array] = {name: npz.names(arrays[name], name, records, where) for name in known}
    if not given:
        return None, (), ()
    naming = known[0]
    devices, first, number = np.unique(given[naming], return_index=True, return_inverse=True)
    if arrays[naming].dtype.kind in "iu":  # 2 before 10
        order = np.argsort(arrays[naming][first], kind="stable")
        devices, first, number = devices[order], first[order], np.argsort(order)[number]
    called, client = _called(arrays[naming], naming, devices), number.astype(np.int64)
    if "person" not in given:
        return client, called, called
    person = given["person"]
    _refuse_shared(person != person[first][client], called, client, where)
    return client, called, _called(arrays["person"], "person", person[first])


def _called(saved: Array, name: str, found: Array) -> Names:
    prefix = f"{name} " if saved.dtype.kind in "iu" else ""
    return tuple(f"{prefix}{shown(each, LONGEST)}" for each in found.tolist())


def _refuse_shared(other: Array, called: tuple[str, ...], client: Labels, where: str) -> None:
    """A client is one person's device: records of two people on one would make neither a person's own."""
    shared = np.unique(client[other])
    if len(shared):
        raise DataError(
            f"{where}: `person` names more than one owner for {len(shared)} client(s), the first of them "
            f"{called[shared[0]]}. A client is one person's device: give each owner's part a client of its own."
        )
