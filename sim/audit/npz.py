"""Records that somebody else saved. The file is taken to be hostile: sizes are checked before anything is unpacked."""

from __future__ import annotations

import zipfile
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import numpy as np

from sim.audit.words import shown
from sim.errors import InputError

MOST_BYTES: Final = 1 << 30  # of one array, unpacked
MOST_RECORDS: Final = 1 << 20
MOST_DIMENSIONS: Final = 5
HOW: Final = "save it with np.savez_compressed(PATH, x=..., y=...)"

Array = np.ndarray[Any, np.dtype[Any]]


def read(path: Path, option: str, required: tuple[str, ...], optional: tuple[str, ...]) -> dict[str, Array]:
    """The named arrays of an .npz file; others in it are not touched, and nothing is ever unpickled.

    `option` is the command-line option that named the file, for messages. Raises InputError naming file and array where
    there is no such file, it is no .npz, it is damaged, an array is missing, holds objects, or is larger than 1 GiB.
    """
    if not path.is_file():
        raise InputError(f"{option} {path}: there is no such file. Name an .npz file: {HOW}")
    try:
        with zipfile.ZipFile(path) as archive:
            names = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
            if missing := [name for name in required if name not in names]:
                holds = shown(", ".join(sorted(names)[:10])[:200]) or "nothing"
                raise InputError(f"{option} {path}: array `{missing[0]}` is missing; the file holds {holds}. {HOW}")
            wanted = (*required, *optional)
            return {name: _array(archive, names[name], f"{option} {path}") for name in wanted if name in names}
    except InputError:
        raise
    except Exception as error:  # a damaged zip makes zipfile raise nearly anything
        said = shown(str(error)[:200])
        raise InputError(
            f"{option} {path}: this is not an .npz file (a zip of arrays), or it is damaged ({said}). {HOW}"
        ) from error


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, where: str) -> Array:
    name = entry.filename.removesuffix(".npy")
    if entry.file_size > MOST_BYTES:
        raise InputError(
            f"{where}: array `{name}` takes {entry.file_size:,} bytes unpacked; {MOST_BYTES:,} are allowed. "
            "Save fewer records, or float32 instead of float64"
        )
    with archive.open(entry) as file:
        shape, dtype, fortran = _header(cast("BinaryIO", file), f"{where}: array `{name}`")
        wanted = prod(shape) * dtype.itemsize
        content = file.read(wanted) if wanted <= entry.file_size else b""
    if len(content) < wanted:
        raise InputError(f"{where}: array `{name}` says it has shape {shape}, and holds fewer numbers. {HOW}")
    return np.frombuffer(content, dtype=dtype).reshape(shape, order="F" if fortran else "C")


def _header(file: BinaryIO, where: str) -> tuple[tuple[int, ...], np.dtype[Any], bool]:
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise InputError(f"{where} is of a format that plain arrays do not need. {HOW}")
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read_header(file)
    if dtype.hasobject or dtype.names or dtype.kind not in "biufUS":
        raise InputError(
            f"{where} holds {dtype}; numbers are allowed, or text for people. Objects are never unpickled: that runs "
            "code from the file. Convert it before saving"
        )
    if not 1 <= len(shape) <= MOST_DIMENSIONS or not 0 < shape[0] <= MOST_RECORDS or min(shape) < 1:
        raise InputError(
            f"{where} has shape {shape}; allowed are 1 to {MOST_RECORDS:,} records of 1 to {MOST_DIMENSIONS - 1} "
            "dimensions, none of them empty"
        )
    return shape, dtype, fortran
