"""The compiler and the emulator: whether they are here, and how they are called."""

from __future__ import annotations

import math
import re
import shutil
import signal
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

GCC: Final = "arm-none-eabi-gcc"
QEMU: Final = "qemu-system-arm"
_LIMITED: Final = 'ulimit -t "$0" && exec "$@"'
_BUSY: Final = (
    20  # by the wall clock, a tool hangs where it has had its time on a machine as busy as this, and a minute
)
_HANGS: Final = 60.0
INSTALL: Final = "apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm"


class FirmwareError(RuntimeError):
    """Firmware could not be built, or did not run as it should; the message says what happened."""


class ToolMissingError(FirmwareError):
    """The compiler or the emulator is not installed; the message says how to get it."""


def missing() -> str | None:
    """What to do where the compiler, its C library, the emulator or bakenn is not installed; None where all are."""
    import importlib.util

    lacking = [tool for tool in (GCC, QEMU) if shutil.which(tool) is None]
    if lacking:
        return f"{' and '.join(lacking)} not found; get it with `{INSTALL}`"
    if not Path(said(GCC, "-print-file-name=libc.a")).is_absolute():
        return f"{GCC} has no C library; get it with `{INSTALL}`"
    if importlib.util.find_spec("bakenn") is None:
        return "install it with `pip install 'bakenn[tflite]'`"
    return None


def versions() -> dict[str, str]:
    """The first line with which each tool introduces itself; for a record of how firmware was made."""
    return {
        tool: (said(tool, "--version").splitlines() or ["of an unknown version"])[0]
        for tool in (GCC, QEMU)
        if shutil.which(tool)
    }


def said(tool: str, *arguments: str) -> str:
    """What a tool prints."""
    done = subprocess.run([tool, *arguments], capture_output=True, text=True, timeout=600, check=False)  # noqa: S603
    return done.stdout.strip()


def call(command: Sequence[str], folder: Path, seconds: float) -> None:
    """Run a tool in a folder, silently, with `seconds` of CPU time for each of its processes.

    Raises `FirmwareError` with its first complaint, or where it takes longer.
    """
    if shutil.which(command[0]) is None:
        raise ToolMissingError(str(missing()))
    try:
        done = subprocess.run(  # noqa: S603 - an argument list of our own; the shell's text is fixed
            ["/bin/sh", "-c", _LIMITED, str(math.ceil(seconds)), *command],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_HANGS + _BUSY * seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as expired:
        raise FirmwareError(f"{command[0]} hangs: {expired.timeout:g} seconds have passed") from expired
    if done.returncode in (-signal.SIGXCPU, -signal.SIGKILL) or b"CPU time limit exceeded" in done.stderr:
        raise FirmwareError(f"{command[0]} was not done within {math.ceil(seconds)} seconds of CPU time")
    if done.returncode:
        raise FirmwareError(f"{command[0]} failed ({done.returncode}): {_complaint(done.stderr)}")


def section_sizes(elf: bytes) -> dict[str, int]:
    """Bytes of each section of a 32-bit little-endian ELF file, by name."""
    (start,), (size, count, names) = struct.unpack_from("<I", elf, 32), struct.unpack_from("<HHH", elf, 46)
    headers = [struct.unpack_from("<10I", elf, start + size * number) for number in range(count)]
    texts = elf[headers[names][4] : headers[names][4] + headers[names][5]]
    return {texts[header[0] : texts.index(b"\0", header[0])].decode(): header[5] for header in headers}


def _complaint(stderr: bytes) -> str:
    lines = [line for line in stderr.decode(errors="replace").splitlines() if line.strip()]
    wanted = [line for line in lines if re.search(r"error|overflowed|undefined|cannot", line)] or lines
    return wanted[0].strip()[:300] if wanted else "without a message"
