"""One process at a time in a run folder: a lock that the kernel lets go of when its holder ends, however it ends.

`flock` on a file in the folder. It holds between processes of one machine; between machines on a shared file system it
is not promised.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from sim.errors import InputError, cannot_write, shown

NAME = ".lock"
_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
_MOST_BYTES = 4096  # of what a holder writes about itself


@contextmanager
def locked(folder: Path, command: str) -> Iterator[None]:
    """Have a run folder, which must exist, for oneself: for what writes into it.

    Raises:
        InputError: another process has it; the message names it. Or the folder cannot be written.
    """
    try:
        handle = _open(folder, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise cannot_write(folder / NAME, error) from error
    with os.fdopen(handle, "r+b") as file:
        _take(folder, file.fileno(), fcntl.LOCK_EX)
        _introduce(folder, file.fileno(), command)
        try:
            yield
        finally:
            os.ftruncate(file.fileno(), 0)


@contextmanager
def unchanged(folder: Path) -> Iterator[None]:
    """Keep a run folder from being written while it is read, where a lock can be had: not on a read-only share, on
    which nothing here writes.

    Raises:
        InputError: another process writes into it; the message names it.
    """
    try:
        handle = _open(folder, os.O_RDONLY)
    except OSError as error:
        if error.errno not in (errno.ENOENT, *_READ_ONLY):
            raise InputError(f"{folder / NAME}: cannot be read ({error.strerror}). Remove it") from error
        yield
        return
    with os.fdopen(handle, "rb") as file:
        _take(folder, file.fileno(), fcntl.LOCK_SH)
        yield


def _open(folder: Path, how: int) -> int:
    """No link is followed, and no pipe waited for."""
    handle = os.open(folder / NAME, how | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o644)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise InputError(f"{folder / NAME}: not a regular file. Remove it")
    return handle


def _take(folder: Path, handle: int, how: int) -> None:
    try:
        fcntl.flock(handle, how | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise InputError(f"{folder}: in use by {_holder(handle)}. Wait until it ends, or name another place") from error
    except OSError as error:
        raise InputError(
            f"{folder / NAME}: cannot be locked here ({error.strerror}). Name a place on a local disk with --out"
        ) from error


def _introduce(folder: Path, handle: int, command: str) -> None:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    holder = {"command": command, "pid": os.getpid(), "host": socket.gethostname(), "since": since}
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(holder).encode(), 0)
    except OSError as error:
        raise cannot_write(folder / NAME, error) from error


def _holder(handle: int) -> str:
    """What whoever holds the lock wrote about itself."""
    try:
        found = json.loads(os.pread(handle, _MOST_BYTES, 0))
        told = f"`seepage {found['command']}`, process {found['pid']} on {found['host']}, since {found['since']}"
    except (ValueError, KeyError, TypeError, RecursionError):
        return "another process"  # that reads it, or that has this moment begun
    return shown(told)
