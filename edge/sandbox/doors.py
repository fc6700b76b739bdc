"""Close everything that a process about to read a hostile file does not need.

What cannot be had on a system is left out of the list of what is held, so that nobody takes it for granted.
"""

from __future__ import annotations

import ctypes
import math
import os
import platform
import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from edge.sandbox import landlock, seccomp
from edge.sandbox.limits import Limits

SPOKEN: Final = 1 << 20  # bytes; a library may say no more on standard error
RESULT: Final = 3  # the descriptor the result is written to
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38


def only_descriptors(result: int) -> None:
    """Leave four: nothing to read, nowhere to print, a scratch file in memory as standard error, and the result."""
    nowhere, scratch = os.open(os.devnull, os.O_RDWR), _scratch()
    kept = [os.dup(result), os.dup(scratch), os.dup(nowhere)]  # away from the numbers they are to have
    for at, descriptor in ((RESULT, kept[0]), (2, kept[1]), (1, kept[2]), (0, kept[2])):
        os.dup2(descriptor, at)
    os.closerange(RESULT + 1, max(256, *kept) + 1)


def close(limits: Limits) -> tuple[str, ...]:
    """Close the doors for good; returns what is held from now on, in words."""
    return tuple(_closed(limits))


def _closed(limits: Limits) -> Iterator[str]:
    yield f"{limits.seconds:g} seconds"
    for words, kind, most in _resources(limits):
        if _limited(kind, most):
            yield words
    if platform.system() == "Linux":
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        _prctl(_PR_SET_DUMPABLE, 0)  # nobody traces it, and it leaves no core
        if _prctl(_PR_SET_NO_NEW_PRIVS, 1):
            yield "no new privileges"
    yield from (words for words in (landlock.close(), seccomp.close()) if words is not None)


def _resources(limits: Limits) -> list[tuple[str, int, int]]:
    """What is limited, by which of the system's limits, to how much."""
    return [
        (f"{math.ceil(limits.seconds) + 1} CPU seconds", resource.RLIMIT_CPU, math.ceil(limits.seconds) + 1),
        (f"{limits.memory_bytes >> 20} MB of memory", resource.RLIMIT_AS, _size() + limits.memory_bytes),
        ("files of 1 MB", resource.RLIMIT_FSIZE, SPOKEN),
        ("16 open files", resource.RLIMIT_NOFILE, 16),
        ("no core files", resource.RLIMIT_CORE, 0),
        *([("no processes", resource.RLIMIT_NPROC, 0)] if os.getuid() != 0 else []),  # the kernel lets root off it
    ]


def _limited(kind: int, most: int) -> bool:
    try:
        resource.setrlimit(kind, (most, most))
    except (OSError, ValueError):
        return False
    return resource.getrlimit(kind)[0] == most


def _size() -> int:
    """This process's address space in bytes, with its libraries; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:
        return 0


def _prctl(option: int, value: int) -> bool:
    nothing = ctypes.c_ulong(0)
    return bool(ctypes.CDLL(None).prctl(option, ctypes.c_ulong(value), nothing, nothing, nothing) == 0)


def _scratch() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("stderr")
    import tempfile

    return os.dup(tempfile.TemporaryFile().fileno())  # without a name: it is gone with the process
