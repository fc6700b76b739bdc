"""Progress of long work, on standard error: one live line in a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from rich.console import Console
from rich.live import Live
from rich.text import Text

PLAIN_EVERY = 10.0  # seconds between plain lines, so that a log stays short


class Progress:
    """Says which stage is under way, how far it is, and about how long it still takes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._stage, self._total, self._done = "", 0, 0
        self._started = self._printed = monotonic()

    @contextmanager
    def stage(self, name: str, total: int = 0) -> Iterator[None]:
        """A stage of `total` steps (0: unknown); its end is one line that stays."""
        self._stage, self._total, self._done = name, total, 0
        self._started = self._printed = monotonic()
        if not self._console.is_terminal:
            self._console.print(f"{name} …", highlight=False)
            yield
        else:
            with Live(Text(f"{name} …"), console=self._console, transient=True) as self._live:
                yield
            self._live = None
        self._console.print(f"{name}: done in {monotonic() - self._started:.1f} s", highlight=False)

    def step(self, note: str = "", count: int = 1) -> None:
        """One step of the stage is done, or as many as `count` says: 0 for what is no step of its own."""
        self._done += count
        line = self._line(note)
        if self._live:
            self._live.update(Text(line))
        elif monotonic() - self._printed > PLAIN_EVERY:
            self._printed = monotonic()
            self._console.print(line, highlight=False)

    def say(self, text: str) -> None:
        """A line that stays."""
        self._console.print(text, highlight=False)

    def _line(self, note: str) -> str:
        passed = monotonic() - self._started
        left = passed / max(1, self._done) * (self._total - self._done)
        return f"{self._stage} {self._done}/{self._total}  {note}  {left:.0f} s left"
