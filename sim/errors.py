"""What is told to a user, and not shown as a traceback."""

from __future__ import annotations

import errno
import json
from pathlib import Path

LONGEST = 200  # characters of a value that a message repeats
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class InputError(Exception):
    """Something the user gave cannot be used: the message names it and says what is allowed. Exit code 2."""


class CannotWriteError(InputError):
    """A place cannot be written: no room, no permission, or something else lies there."""


def cannot_write(path: Path, error: OSError) -> CannotWriteError:
    """What to tell the user of a place that cannot be written."""
    first = "Free some room" if error.errno in _NO_ROOM else "Make it writable"
    return CannotWriteError(
        f"{path}: cannot be written ({error.strerror or error}). {first}, or name another place with --out"
    )


def shown(text: str, longest: int | None = None) -> str:
    """Text from a file, a name or a setting, without anything that a terminal would obey, and cut where it is long.

    Control characters, escape sequences, directions of writing and halves of surrogate pairs become question marks.
    """
    safe = "".join(character if character.isprintable() else "?" for character in text)
    return safe if longest is None or len(safe) <= longest else f"{safe[:longest]}… ({len(text):,} characters)"


def repeated(value: object) -> str:
    """A wrong value as a message repeats it: as JSON has it, on one line, and cut where it is long."""
    try:
        return shown(json.dumps(value, default=str), LONGEST)
    except ValueError:  # Python writes no whole number of more than 4,300 digits
        return "a number of thousands of digits"
