"""A data set as every loader returns it, and the one place where its contents are checked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from sim.errors import InputError

NO_REGRESSION = "regression is not supported by `run`; `seepage audit` attacks models that predict numbers"

LARGEST = 1e30  # of a value's magnitude; a larger one stands for "missing"
SHAPES = "(records, features), (records, channels, length) or (records, channels, height, width)"


class DataError(InputError):
    """Data that cannot be used. The message has one line per fault, and each says what to do about it."""

    def __init__(self, *faults: str) -> None:
        super().__init__("\n".join(faults))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dataset:
    """Labelled records, and whose they are where the data knows.

    `x` is float32 of shape (records, features), (records, channels, length) or (records, channels, height, width):
    torch's layout. `y` holds class numbers from 0 to len(classes) - 1. `client` is the number of the device that
    each record comes from, or None where the data has no natural clients; `client_names` and `person` name each of
    these devices and its owner, in the order of the numbers. `names_people` is whether the owners are people that the
    data tells of, and no stand-ins for clients. `synthetic` is None where the data does not tell. `notes` say what was
    assumed in reading the file. `channels` says what each channel or feature stands for, with its unit, and `hertz` how
    many samples a second the last axis has; empty and None where the data does not say.
    """

    source: str
    title: str
    licence: str
    synthetic: bool | None
    x: Float[np.ndarray, "records ..."]
    y: Int[np.ndarray, " records"]
    classes: tuple[str, ...]
    client: Int[np.ndarray, " records"] | None = None
    client_names: tuple[str, ...] = ()
    person: tuple[str, ...] = ()
    names_people: bool = False
    notes: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    hertz: float | None = None

    def __len__(self) -> int:
        return len(self.y)


def check(data: Dataset) -> Dataset:
    """`data` itself, when it can be used.

    Raises:
        DataError: every fault found, one a line, each with the field, the value and what to do.
    """
    faults = _x_faults(data) + _y_faults(data) + _client_faults(data)
    if faults:
        raise DataError(*(f"{data.source}: {fault}" for fault in faults))
    return data


def _x_faults(data: Dataset) -> list[str]:
    x = data.x
    if x.ndim not in (2, 3, 4) or 0 in x.shape[1:]:
        return [f"`x` has shape {x.shape}; it must be {SHAPES}. Reshape it before saving."]
    if x.dtype != np.float32:
        return [f"`x` is {x.dtype}; it must be float32. Convert it with x.astype('float32')."]
    if len(x) < 2:
        return [f"`x` has {len(x)} record(s); at least 2 are needed. Supply more data."]
    return finite_faults(x)


def finite_faults(x: Float[np.ndarray, "records ..."]) -> list[str]:
    """How many values of `x` are NaN, infinite or no measurement's, and where the first is; else nothing."""
    for bad, what, wanted in (
        (~np.isfinite(x), "NaN or infinite", "a finite float32"),
        (np.abs(x) > LARGEST, f"beyond {LARGEST:g} (a mark for 'missing'?)", "a measured one"),
    ):
        if bad.any():
            rows = bad.reshape(len(x), -1).any(axis=1)
            return [
                f"`x` has {int(bad.sum()):,} value(s) that are {what}, in {int(rows.sum()):,} record(s), the first of "
                f"them record {int(rows.argmax())}; every value must be {wanted}. Drop these records or fill the gaps "
                "before loading."
            ]
    return []


def _y_faults(data: Dataset) -> list[str]:
    y = data.y
    if y.ndim != 1:
        return [f"`y` has shape {y.shape}; it must be (records,), one class number a record. Flatten it."]
    if y.dtype.kind not in "iu":
        return [
            f"`y` is {y.dtype}; it must hold integers, the classes numbered from 0. "
            "Use np.unique(y, return_inverse=True)[1]."
        ]
    if len(y) != len(data.x):
        return [f"`y` has {len(y):,} entries and `x` has {len(data.x):,} records; they must be equally many."]
    return _class_faults(y, len(data.classes))


def _class_faults(y: Int[np.ndarray, " records"], classes: int) -> list[str]:
    found = np.unique(y)
    if len(found) < 2:
        return [f"`y` has {len(found)} class; at least 2 are needed. Supply records of another class."]
    quantities = f" If these are quantities and no classes: {NO_REGRESSION}." if len(found) > len(y) / 2 else ""
    if not np.array_equal(found, np.arange(classes)):
        shown = ", ".join(map(str, found[:5])) + (", ..." if len(found) > 5 else "")
        return [
            f"`y` holds {len(found)} classes numbered {shown} (largest {found[-1]}); they must be 0 to "
            f"{classes - 1} with none left out. Renumber with np.unique(y, return_inverse=True)[1].{quantities}"
        ]
    return []


def _client_faults(data: Dataset) -> list[str]:
    if data.client is None:
        return []
    if data.client.shape != (len(data.x),):
        return [
            f"`client` has shape {data.client.shape}; it must be ({len(data.x)},), the owner of each record of `x`."
        ]
    assert len(data.person) == len(data.client_names)
    assert int(data.client.max()) < len(data.client_names)
    return []
