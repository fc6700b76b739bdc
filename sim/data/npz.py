"""Arrays that somebody saved, for `run` and `audit` alike. The file is taken to be hostile, and never unpickled.

Sizes are checked before anything is unpacked. What comes out is in this machine's byte order.
"""

from __future__ import annotations

import io
import unicodedata
import zipfile
from math import prod
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from jaxtyping import Float, Shaped

from sim.data.dataset import NO_REGRESSION, DataError
from sim.errors import shown

MOST_BYTES: Final = 1 << 30  # of one array, unpacked
MOST_HEADER: Final = 1 << 14  # bytes; NumPy itself reads headers of up to 10,000
HOW: Final = "save your own file with np.savez_compressed(PATH, x=..., y=..., client=...)"
_PLAIN = "biufUS"  # kinds of dtype: numbers and text

Array = np.ndarray[Any, np.dtype[Any]]


def read(path: Path, where: str, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, Array]:
    """The named arrays of the .npz file at `path`; others in it are not touched.

    `where` is how messages call the file. Raises DataError naming file and array where there is no such file, it is no
    .npz, it is damaged, an array is missing or there twice, holds anything but numbers or text, or is over 1 GiB.
    """
    if not is_file(path):
        raise DataError(f"{where}: there is no such file. Name an .npz file that exists: {HOW}.")
    try:
        with zipfile.ZipFile(path) as archive:
            return _arrays(archive, where, required, (*required, *optional))
    except DataError:
        raise
    except Exception as error:  # a damaged zip makes zipfile and NumPy raise nearly anything
        raise DataError(
            f"{where}: this is not an .npz file (a zip of arrays), or it is damaged ({shown(str(error), 200)}). "
            f"To make one, {HOW}."
        ) from error


def is_file(path: Path) -> bool:
    """Whether there is such a file; a name that no file can have is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _arrays(
    archive: zipfile.ZipFile, where: str, required: tuple[str, ...], wanted: tuple[str, ...]
) -> dict[str, Array]:
    entries: dict[str, list[zipfile.ZipInfo]] = {}
    for entry in archive.infolist():
        entries.setdefault(entry.filename.removesuffix(".npy"), []).append(entry)
    holds = shown(", ".join(list(entries)[:10]), 200) or "nothing"
    faults = [
        f"{where}: `{name}` is missing; the file holds {holds}. To mend it, {HOW}."
        for name in required
        if name not in entries
    ]
    faults += [
        f"{where}: `{name}` is there twice. Save the file again." for name in wanted if len(entries.get(name, ())) > 1
    ]
    if faults:
        raise DataError(*faults)
    return {name: _array(archive, entries[name][0], f"{where}: `{name}`") for name in wanted if name in entries}


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, where: str) -> Array:
    if entry.file_size > MOST_BYTES:
        raise DataError(
            f"{where} takes {entry.file_size:,} bytes unpacked; {MOST_BYTES:,} are allowed. Save fewer records, or "
            "float32 instead of float64."
        )
    with archive.open(entry) as file:
        start = io.BytesIO(file.read(MOST_HEADER))
        shape, dtype, fortran = _header(start, where)
        wanted = prod(shape) * dtype.itemsize
        if wanted > entry.file_size:
            raise DataError(f"{where} says it has shape {shape}, and holds fewer numbers. Save the file again.")
        content = _content(start, file, wanted, f"{where} says it has shape {shape}, and holds")
    array: Array = content.view(dtype).reshape(shape, order="F" if fortran else "C")
    return array.astype(dtype.newbyteorder("="), copy=False)


def _content(start: IO[bytes], file: IO[bytes], wanted: int, says: str) -> Array:
    """`wanted` bytes and nothing behind them; the zip's checksum is compared at its end."""
    content = np.empty(wanted, dtype=np.uint8)
    filled = 0
    for source in (start, file):
        while filled < wanted and (piece := source.read(min(wanted - filled, 1 << 20))):
            content[filled : filled + len(piece)] = np.frombuffer(piece, dtype=np.uint8)
            filled += len(piece)
    if filled < wanted or start.read(1) or file.read(1):
        raise DataError(f"{says} {'fewer' if filled < wanted else 'more'} numbers. Save the file again.")
    return content


def _header(file: IO[bytes], where: str) -> tuple[tuple[int, ...], np.dtype[Any], bool]:
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise DataError(f"{where} is of a format that plain arrays do not need. Save it again: {HOW}.")
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read_header(file)
    if (fault := _dtype_fault(dtype)) is not None:
        raise DataError(f"{where} {fault}")
    if not shape or min(shape) < 1:
        raise DataError(
            f"{where} has shape {shape}; it must have a first dimension, the records, and none that is empty."
        )
    return shape, dtype, fortran


def _dtype_fault(dtype: np.dtype[Any]) -> str | None:
    if dtype.hasobject:
        return (
            "holds Python objects, which are never unpickled: unpickling runs code from the file. Save a plain array: "
            "numbers, or strings of dtype 'U'."
        )
    if dtype.names:
        fields = shown(", ".join(dtype.names), 200)
        return (
            f"is structured, with the fields {fields}. Save plain numbers: np.stack([x[f] for f in x.dtype.names], 1)."
        )
    if dtype.kind == "c":
        return f"is {dtype}, complex numbers. Save real ones, e.g. np.abs(x), or real and imaginary parts as features."
    if dtype.kind in "mM":
        return f"is {dtype}, times. Save numbers, e.g. seconds: x.astype('datetime64[s]').astype(float)."
    if dtype.kind not in _PLAIN or dtype.itemsize == 0:
        return f"is {shown(str(dtype), 100)}; numbers or text are allowed. Convert it before saving."
    return None


def numbers(x: Array, where: str) -> Float[np.ndarray, "records ..."]:
    """As float32, without negative zeros: equal records then have equal bytes. What does not fit becomes infinite.

    Raises DataError where `x` holds text.
    """
    if x.dtype.kind not in "fiub":
        raise DataError(f"{where}: `x` is {x.dtype}; it must hold numbers. Convert it before saving.")
    with np.errstate(over="ignore"):
        converted = x.astype(np.float32)
    converted += np.float32(0)
    return converted


def names(array: Array, name: str, records: int, where: str) -> Shaped[np.ndarray, " records"]:
    """Whose each record is, as text: whole numbers, strings, or bytes that are UTF-8; composed alike (Unicode NFC).

    Raises DataError where there is not one for each record, or it is something else.
    """
    if array.shape != (records,):
        raise DataError(
            f"{where}: `{name}` has shape {array.shape}; it must be ({records},), one integer or string a record."
        )
    if array.dtype.kind not in "iuUS":
        raise DataError(
            f"{where}: `{name}` is {array.dtype}; it must be one integer or string a record. {_mend(array, name)}"
        )
    if array.dtype.kind in "iu":
        return array.astype(str)
    found, number = np.unique(array, return_inverse=True)
    return np.array([_text(each, name, where) for each in found.tolist()])[number]


def _mend(array: Array, name: str) -> str:
    if array.dtype.kind != "f":
        return f"Convert it, e.g. with {name}.astype(int)."
    unknown = int((~np.isfinite(array)).sum())
    if unknown:
        return f"{unknown:,} are NaN or infinite: leave these records out, or name them; then {name}.astype(int)."
    return f"Convert it, e.g. with {name}.astype(int)."


def _text(name: str | bytes, array: str, where: str) -> str:
    try:
        return unicodedata.normalize("NFC", name.decode() if isinstance(name, bytes) else name)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{where}: `{array}` holds bytes that are no UTF-8 text, such as {shown(repr(name), 60)}. Decode them "
            f"before saving, e.g. np.char.decode({array}, 'latin-1')."
        ) from error


def form_fault(y: Array, *, numbers_too: bool) -> str | None:
    """Why `y` is not one class per record, and what to do; None where its form will do.

    `numbers_too`: a model that predicts numbers has a use for them. The message begins after "`y` ".
    """
    if y.ndim == 2 and y.shape[1] == 1:
        inner = form_fault(y[:, 0], numbers_too=numbers_too)
        return inner or f"has shape {y.shape}, a column; it must be ({len(y)},). Save y.ravel()."
    if y.ndim == 2 and len(y) == 1:
        return f"has shape {y.shape}, a row; it must be ({y.size},). Save y.ravel()."
    if y.ndim == 2 and y.dtype.kind in "biuf":
        return _wide_fault(y, numbers_too=numbers_too)
    if y.ndim != 1:
        return f"has shape {y.shape}; it must be (records,), one class number a record."
    if y.dtype.kind == "f" and not numbers_too:
        return _float_fault(y)
    return None


def _wide_fault(y: Array, *, numbers_too: bool) -> str | None:
    values = y.astype(np.float64)
    ones = np.isclose(values.sum(axis=1), 1, atol=1e-3) & (values >= 0).all(axis=1)
    if np.isin(values, (0, 1)).all():
        if ones.all():
            return f"is one-hot, of shape {y.shape}. Save class numbers instead: y.argmax(1)."
        if numbers_too:
            return None
        return f"of shape {y.shape} marks several classes of a record (multi-label), which is not supported. Save one."
    if np.isin(values, (-1, 1)).all() and ((values == 1).sum(axis=1) == 1).all():
        return f"is one-hot in -1 and 1, of shape {y.shape}. Save class numbers instead: y.argmax(1)."
    if numbers_too:
        return None
    if ones.all():
        return f"holds probabilities of classes, of shape {y.shape}. Save class numbers instead: y.argmax(1)."
    return (
        f"has shape {y.shape}, {y.shape[1]} numbers a record; it must be (records,), one class number a record. If "
        f"these are quantities: {NO_REGRESSION}."
    )


def _float_fault(y: Array) -> str:
    if unknown := int((~np.isfinite(y)).sum()):
        return (
            f"is {y.dtype}, and {unknown:,} of its entries are NaN or infinite: leave these records out, or label them."
        )
    if (y == np.round(y)).all():
        return f"is {y.dtype}, though all of its numbers are whole; it must hold integers. Save y.astype(int)."
    return (
        f"is {y.dtype}, with {len(np.unique(y)):,} distinct values that are not whole: these are quantities and no "
        f"classes, and {NO_REGRESSION}. To tell classes apart instead, save class numbers, e.g. np.digitize(y, bounds)."
    )
