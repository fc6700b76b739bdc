"""The caller's side: a child or two, started when first needed, each asked one job at a time."""

from __future__ import annotations

import io
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any, Final

from edge.sandbox.limits import Limits, UnusableFileError
from edge.sandbox.wire import HEADER_BYTES, Header, UnreadableError, message, receive

# The child holds a job to its seconds of CPU time. By the wall clock it is given up itself only where it has not
# answered on a machine so busy that a process gets a twentieth of a core.
BUSY: Final = 20
GRACE: Final = 600.0
_ALONE: Final = {  # libraries that start threads would not survive a fork
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "PYTHONDONTWRITEBYTECODE": "1",
    "LC_ALL": "C.UTF-8",
}


class Child:
    """A fresh interpreter that has imported what jobs need, and forks a process for each."""

    def __init__(self, command: Sequence[str] = (sys.executable, "-P", "-m", "edge.sandbox.child")) -> None:
        self._command = list(command)
        self._one_at_a_time = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def do(self, job: Header, limits: Limits, *blocks: bytes) -> tuple[Header, list[bytes], tuple[str, ...]]:
        """What a job found, its answers, and the limits that held for it.

        Raises `UnusableFileError` where the job's process refused the file, crashed or was stopped.
        """
        with self._one_at_a_time:
            asked = message({**job, "limits": asdict(limits)}, *blocks)
            return _found(*self._reply(asked, limits), job, limits)

    def close(self) -> None:
        """End the child, and whatever it has started."""
        if self._process is not None:
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.communicate()
            self._process = None

    def _reply(self, asked: bytes, limits: Limits) -> tuple[Header, bytes]:
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(asked)
            process.stdin.flush()
            read = _until(process.stdout.fileno(), time.monotonic() + BUSY * limits.seconds + GRACE)
            header, (said,) = receive(read, limits.output_bytes + 4 * HEADER_BYTES)
        except (EOFError, OSError, ValueError) as error:
            self.close()
            raise UnusableFileError("the process that reads files ended unexpectedly", "crashed") from error
        except BaseException:  # as when somebody presses Ctrl-C: what the child still says is no answer to the next job
            self.close()
            raise
        return header, said

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env=_environment(),
                start_new_session=True,
            )
        return self._process


def do(job: Header, limits: Limits, *blocks: bytes) -> tuple[Header, list[bytes], tuple[str, ...]]:
    """`Child.do` in one of this process's own children: torch makes every fork slower, so it has one to itself."""
    with_torch = job["job"] == "work" or job.get("runtime") == "device-arithmetic"
    return _child_of(os.getpid(), with_torch).do(job, limits, *blocks)


@cache
def _child_of(process: int, with_torch: bool) -> Child:  # noqa: ARG001 - they are what tells children apart
    """A forked process must not talk to its parent's children, so each has its own."""
    import atexit

    child = Child()
    atexit.register(lambda: child.close() if os.getpid() == process else None)
    return child


def _environment() -> dict[str, str]:
    """Nothing of the caller's, who may keep secrets in it, but where the libraries are."""
    ours = str(Path(__file__).resolve().parents[2])
    paths = [ours, *(path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if Path(path).is_absolute())]
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "PATH") if name in os.environ}
    return {**kept, **_ALONE, "PYTHONPATH": os.pathsep.join(paths)}


def _until(descriptor: int, end: float) -> Any:  # noqa: ANN401 - a reader as `receive` takes it
    """Reads n bytes, or raises `TimeoutError` at `end`."""

    def read(count: int) -> bytes:
        parts = bytearray()
        while len(parts) < count:
            if not select.select([descriptor], [], [], max(0.0, end - time.monotonic()))[0]:
                raise TimeoutError
            part = os.read(descriptor, min(count - len(parts), 1 << 20))
            if not part:
                break
            parts += part
        return bytes(parts)

    return read


def _found(ending: Header, said: bytes, job: Header, limits: Limits) -> tuple[Header, list[bytes], tuple[str, ...]]:
    """What the job's process said, which may be anything: the file may have taken it over."""
    if ending["stopped"] is not None:
        raise UnusableFileError(_stopped(ending["stopped"], job, limits), "stopped")
    if ending["status"] == -signal.SIGXCPU:
        raise UnusableFileError(_stopped("time", job, limits), "stopped")
    if ending["status"] != 0:
        raise UnusableFileError(_crashed(ending["status"], job), "crashed")
    try:
        source = io.BytesIO(said)
        held, _ = receive(source.read, 0)
        result, answers = receive(source.read, limits.output_bytes)
        return _checked(result), answers, tuple(_words(words) for words in held["held"])
    except (EOFError, UnreadableError, KeyError, TypeError) as error:
        raise UnusableFileError(f"its process gave an answer that cannot be read{_where(job)}", "crashed") from error


def _checked(result: Header) -> Header:
    if "refused" in result:
        raise UnusableFileError(_words(result["refused"]))
    if not isinstance(result["found"], dict):
        raise TypeError
    return result["found"]


def _words(said: object) -> str:
    """What a process says, if it is words that can be shown."""
    if not isinstance(said, str) or len(said) > 1000 or not said.isascii() or not said.isprintable():
        raise TypeError
    return said


def _stopped(why: str, job: Header, limits: Limits) -> str:
    if why == "output":
        return f"it answers with more than {limits.output_bytes >> 20} MB{_where(job)}"
    return f"not done after {limits.seconds:g} s{_where(job)}"


def _crashed(status: int, job: Header) -> str:
    if status > 0:
        return f"its process failed{_where(job)}"
    return f"crashed with signal {-status} ({signal.Signals(-status).name}){_where(job)}"


def _where(job: Header) -> str:
    if job["job"] == "structure":
        return " while it was read"
    return f" in {_TITLES.get(job.get('runtime', 'tflm'), 'the runtime')}"


_TITLES: Final = {"tflm": "TFLite Micro", "litert": "LiteRT", "device-arithmetic": "the device's arithmetic"}
