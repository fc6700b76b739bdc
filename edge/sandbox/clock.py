"""How much time a process has had: what it computed and what it slept, not what a busy machine kept it waiting for."""

from __future__ import annotations

import time
from pathlib import Path

_ASLEEP = frozenset("STt")  # states of a process that waits of its own accord, or was stopped


class Clock:
    """Seconds of CPU time and of sleep of one process, since this clock was started; wall-clock time without /proc."""

    def __init__(self, process: int) -> None:
        self._stat = Path(f"/proc/{process}/stat")
        self._counter = (~process << 3) | 2  # its CPU-time clock: MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED) of Linux
        self._seen = time.monotonic()
        self._computed = self._slept = 0.0

    def seconds(self) -> float:
        """So far; to be asked often, as sleep is seen only when it is looked for."""
        now, computed, state = time.monotonic(), *self._read()
        passed = now - self._seen
        if state is None:
            self._slept += passed
        elif state in _ASLEEP:
            self._slept += max(0.0, passed - (computed - self._computed))
        self._seen, self._computed = now, max(self._computed, computed)
        return self._computed + self._slept

    def _read(self) -> tuple[float, str | None]:
        """CPU seconds and state, or None where the system does not say."""
        try:
            state = self._stat.read_text().rpartition(") ")[2][0]
            return time.clock_gettime(self._counter), state
        except (OSError, IndexError):
            return self._computed, None
