"""Files that are written whole or not at all, and hashes of files that may be anything."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors.numpy
import safetensors.torch
import torch

from sim.errors import cannot_write

_CHUNK = 2**20  # bytes hashed at a time


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all; a failure leaves what was there before.

    Raises:
        CannotWriteError: there is no room, it may not be written, or something else lies in its place.
    """
    part: Path | None = None
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.", suffix=".part")
        part = Path(name)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        part.chmod(0o644)  # a temporary file is readable by its owner alone; a run is for passing on
        os.replace(part, path)  # noqa: PTH105  # Path.replace is the same call; this one is named for what matters
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        if part is not None:
            part.unlink(missing_ok=True)


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays as a safetensors file, whole or not at all. Raises as `write_atomically` does."""
    write_atomically(path, safetensors.numpy.save(dict(arrays)))


def save_weights(path: Path, weights: Mapping[str, torch.Tensor]) -> None:
    """Write a model's state as a safetensors file, whole or not at all. Raises as `write_atomically` does."""
    write_atomically(path, safetensors.torch.save(dict(weights)))


def sha256_of(path: Path) -> tuple[int, str]:
    """Size in bytes and SHA-256 of a regular file, read piece by piece.

    Raises:
        OSError: it is missing, unreadable, or no regular file; nothing else is opened, since a pipe would never end.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    size, digest = 0, hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_CHUNK):
            size += len(piece)
            digest.update(piece)
    return size, digest.hexdigest()
