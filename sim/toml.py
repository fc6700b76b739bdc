"""Read a TOML file that somebody wrote by hand: scenarios, and recipes of an audit."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Final

from sim.errors import InputError, shown

MOST_BYTES: Final = 1 << 20
DEEPEST: Final = 16  # tables within tables; no setting lies deeper than four


def read_toml(path: Path, where: str, missing: str) -> dict[str, Any]:
    """The values in the file at `path`, UTF-8 with or without a byte-order mark.

    `where` names the file in messages, `missing` says what to do where there is none. Raises InputError where it cannot
    be read, is no text, no TOML, or nests more than sixteen tables.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InputError(f"{where}: {path.stat().st_size:,} bytes; a TOML file of up to {MOST_BYTES:,} is read")
        values = parse(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise InputError(f"{where}: no such file. {missing}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: cannot be read as a text file ({error}). Save it as UTF-8") from error
    except OSError as error:
        raise InputError(f"{where}: cannot be read as a text file ({error.strerror})") from error
    except ValueError as error:
        words = shown(str(error), 200)
        raise InputError(
            f"{where}: not valid TOML: {words}. Strings need quotes, tables look like [federation]"
        ) from error
    refuse_depth(values, where)
    return values


def parse(text: str) -> dict[str, Any]:
    """What TOML text says. Raises ValueError with the place where it is none, or nests too deep to be read."""
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ValueError(f"arrays or tables are nested too deep; {DEEPEST} levels are enough") from error


def refuse_depth(values: dict[str, Any], where: str) -> None:
    """Raises InputError where tables and lists are nested deeper than any setting is."""
    level: list[object] = [values]
    for _ in range(DEEPEST):
        level = [inner for outer in level for inner in _inside(outer)]
    if level:
        raise InputError(f"{where}: tables are nested more than {DEEPEST} deep, which no setting is. Leave them out")


def _inside(value: object) -> list[object]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [each for each in inner if isinstance(each, dict | list)]
