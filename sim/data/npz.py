"""The user's own data: an .npz file with `x`, `y` and, where known, `client`. Nothing in it is ever unpickled."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from sim.data.dataset import SHAPES, DataError, Dataset, check

HOW = "save your own file with np.savez_compressed(PATH, x=..., y=..., client=...)"
Array = np.ndarray[Any, np.dtype[Any]]


def load(path: Path, source: str) -> Dataset:
    """The records in the .npz file at `path`.

    `x` may be floats, integers or booleans, of shape (records, features), (records, channels, length) or
    (records, channels, height, width). Images (four dimensions) stored as uint8 are divided by 255; everything else
    keeps its values. `y` holds the class numbers 0, 1, 2, ... `client` holds a number or a string for each record;
    every client counts as one person.

    Raises:
        DataError: the file cannot be read, holds Python objects, lacks a field, or a field is wrong.
    """
    arrays = read(path, required=("x", "y"), optional=("client",))
    x, y = _features(arrays["x"], path), _labels(arrays["y"])
    client, names = _clients(arrays["client"], path) if "client" in arrays else (None, ())
    return check(
        Dataset(
            source=source,
            title=f"{path.name} (the user's own data)",
            licence="the user's own",
            synthetic=False,
            x=x,
            y=y,
            classes=tuple(f"class {i}" for i in range(len(np.unique(y)) if y.dtype == np.int64 else 0)),
            client=client,
            client_names=names,
            person=names,
        )
    )


def read(path: Path, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, Array]:
    """The named arrays of the .npz file at `path`; others in it are not touched.

    Raises:
        DataError: no such file, not an .npz file, damaged, a required array is missing, or one holds objects.
    """
    if not path.is_file():
        raise DataError(f"{path}: there is no such file. Name an .npz file that exists: {HOW}.")
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path}: this is not an .npz file (a zip of arrays), or it is cut short. To make one, {HOW}.")
    try:
        archive = np.load(path, allow_pickle=False)
    except Exception as error:  # a damaged zip makes zipfile raise nearly anything
        raise DataError(f"{path}: the file cannot be read ({error}). Save it again: {HOW}.") from error
    with archive:
        missing = [name for name in required if name not in archive.files]
        if missing:
            raise DataError(*(_missing(path, name, archive.files) for name in missing))
        return {name: _array(archive, path, name) for name in (*required, *optional) if name in archive.files}


def _missing(path: Path, name: str, found: list[str]) -> str:
    return f"{path}: `{name}` is missing; the file holds {', '.join(found) or 'nothing'}. To mend it, {HOW}."


def _array(archive: np.lib.npyio.NpzFile, path: Path, name: str) -> Array:
    try:
        array = archive[name]
    except Exception as error:  # a damaged header makes NumPy raise nearly anything, TokenError too
        if "allow_pickle" in str(error) or "Object arrays" in str(error):
            raise DataError(
                f"{path}: `{name}` holds Python objects, which are never unpickled: unpickling runs code from the "
                "file. Save a plain array: numbers, or strings of dtype 'U'."
            ) from error
        raise DataError(f"{path}: `{name}` cannot be read ({error}). Save the file again.") from error
    if not isinstance(array, np.ndarray):
        raise DataError(f"{path}: `{name}` is not an array. Save it with np.savez_compressed.")
    return array


def _features(x: Array, path: Path) -> Float[np.ndarray, "records ..."]:
    if x.dtype.kind not in "fiub":
        raise DataError(f"{path}: `x` is {x.dtype}; it must hold numbers, of shape {SHAPES}. Convert it.")
    with np.errstate(over="ignore"):  # what does not fit a float32 becomes infinite, and `check` reports it
        converted = x.astype(np.float32)
    return converted / np.float32(255) if x.dtype == np.uint8 and x.ndim == 4 else converted


def _labels(y: Array) -> Int[np.ndarray, " records"]:
    return y.astype(np.int64) if y.dtype.kind in "biu" else y  # other kinds are refused by `check`


def _clients(client: Array, path: Path) -> tuple[Int[np.ndarray, " records"], tuple[str, ...]]:
    if client.dtype.kind not in "iuU" or client.ndim != 1:
        raise DataError(
            f"{path}: `client` is {client.dtype} of shape {client.shape}; it must be one integer or string for each "
            "record. Convert it, e.g. with client.astype(str)."
        )
    names, number = np.unique(client, return_inverse=True)
    prefix = "" if client.dtype.kind == "U" else "client "
    return number.astype(np.int64), tuple(f"{prefix}{name}" for name in names)
