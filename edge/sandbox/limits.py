"""How much of the machine a file made by somebody else may use, and the words for one that cannot be used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Ended = Literal["refused", "crashed", "stopped"]


@dataclass(frozen=True)
class Limits:
    """What one job on a file may take.

    `seconds` of CPU time and of sleep, so that a busy machine takes nothing from it; `memory_bytes` of address space
    beyond that of the libraries; `output_bytes` of answers.
    """

    seconds: float = 60.0
    memory_bytes: int = 4 << 30
    output_bytes: int = 64 << 20

    def __post_init__(self) -> None:
        """Raises `ValueError` for a limit that is not above zero."""
        for name in ("seconds", "memory_bytes", "output_bytes"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} = {getattr(self, name)}: a limit is above zero")


class UnusableFileError(ValueError):
    """A file could not be read or run; the message says what happened, in printable characters.

    `ended` says how its process ended: it refused the file, it crashed, or it was stopped at a limit.
    """

    def __init__(self, message: str, ended: Ended = "refused") -> None:
        super().__init__(message)
        self.ended: Ended = ended
