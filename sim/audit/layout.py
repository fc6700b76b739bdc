"""Which number of a record goes where in the file's input: TFLite keeps channels last, torch keeps them first."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, Final, Literal

import numpy as np
from jaxtyping import Float

from sim.errors import InputError

Layout = Literal["channels-last", "channels-first"]
LAYOUTS: Final[tuple[Layout, ...]] = ("channels-last", "channels-first")

Rows = Float[np.ndarray, "records ..."]


@dataclass(frozen=True, slots=True)
class Reading:
    """How records are turned into what the file takes, and what was assumed in doing so."""

    layout: Layout
    assumed: str | None  # None where there was nothing to assume


def read_as(records: tuple[int, ...], takes: tuple[int, ...], asked: Layout | None, where: str) -> Reading:
    """How one record's shape fits the shape that the file takes (neither with the batch).

    The file's own layout is tried first, then torch's; sides of 1 may be left out, and flat records are taken in order.
    Raises InputError where neither fits, where the one asked for does not, or where both do and they differ.
    """
    fitting = [layout for layout in LAYOUTS if _fits(records, takes, layout)]
    if asked in fitting:
        return Reading(asked, None)
    if not fitting or asked:
        raise InputError(
            f"{where}: records of shape {records} do not fit a model that takes {takes}"
            f"{f' as {asked}' if asked else ', channels last or first'}. Save x with shape (records, "
            f"{', '.join(map(str, takes))})"
        )
    if len(fitting) > 1 and _differ(records, takes):
        raise InputError(
            f"{where}: records of shape {records} fit a model that takes {takes} both as they are (channels last) and "
            "with the first dimension moved to the end (channels first, as torch keeps them). Say which with --layout "
            "channels-last or --layout channels-first"
        )
    return Reading(fitting[0], _assumed(records, takes, fitting[0]))


def apply(x: Rows, takes: tuple[int, ...], reading: Reading) -> Rows:
    """Records as the file takes them: (records, *takes), contiguous."""
    return np.ascontiguousarray(_moved(x, takes, reading.layout)).reshape(len(x), *takes)


def _moved(x: Rows, takes: tuple[int, ...], layout: Layout) -> Rows:
    if layout == "channels-last":
        return x
    if x.ndim == 2:  # flat: what torch's flatten made of channels first
        return np.moveaxis(x.reshape(len(x), takes[-1], *takes[:-1]), 1, -1)
    return np.moveaxis(x, 1, -1)


def _fits(records: tuple[int, ...], takes: tuple[int, ...], layout: Layout) -> bool:
    if len(records) == 1:
        return records[0] == prod(takes)
    if layout == "channels-last":
        return _bare(records) == _bare(takes)
    return _without_height((*records[1:], records[0])) == _without_height(takes)


def _without_height(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A window of a one-dimensional model has height 1 in the file and no height in torch."""
    return shape[1:] if len(shape) > 2 and shape[0] == 1 else shape


def _bare(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(side for side in shape if side != 1)


def _differ(records: tuple[int, ...], takes: tuple[int, ...]) -> bool:
    """Whether the two readings put any number in different places."""
    count: Any = np.arange(prod(records), dtype=np.int64).reshape(1, *records)
    first, second = (_moved(count, takes, layout).ravel() for layout in LAYOUTS)
    return not np.array_equal(first, second)


def _assumed(records: tuple[int, ...], takes: tuple[int, ...], layout: Layout) -> str | None:
    if layout == "channels-first":
        return (
            f"Records of shape {records} were taken to be channels first, as torch keeps them; the file takes {takes}."
        )
    if records != takes and len(_bare(takes)) > 1:
        return f"Records of shape {records} were taken in the order of the file's own {takes}."
    return None
