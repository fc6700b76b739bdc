"""Run as a module by `edge.sandbox.parent`: imports once, then one process per job, forked, with its doors closed.

This process reads jobs and passes answers on; it never looks into a file. The process of a job opens nothing, and ends
with the job, with whatever the file did to it.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import sys
from collections.abc import Callable

from edge.sandbox import doors, jobs
from edge.sandbox.clock import Clock
from edge.sandbox.limits import Limits
from edge.sandbox.wire import Header, message, receive

CHUNK = 1 << 16
LOOK = 0.05  # seconds between two looks at what a job is doing
FAILED = 70  # exit status of a job that could not even say what went wrong


def serve(jobs_in: int, answers_out: int) -> None:
    """Take jobs until there are no more."""
    read = exactly(jobs_in)
    while True:
        try:
            job, blocks = receive(read, sys.maxsize)
        except EOFError:
            return
        jobs.prepare(job)
        gc.freeze()  # a fork that collected what was imported would have to copy it first
        send(answers_out, _forked(job, blocks, jobs_in))


def exactly(descriptor: int) -> Callable[[int], bytes]:
    """Reads n bytes, or fewer where there are no more."""

    def read(count: int) -> bytes:
        parts = bytearray()
        while len(parts) < count and (part := os.read(descriptor, min(count - len(parts), 1 << 20))):
            parts += part
        return bytes(parts)

    return read


def send(descriptor: int, block: bytes) -> None:
    """Write all of it."""
    rest = memoryview(block)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _forked(job: Header, blocks: list[bytes], parent: int) -> bytes:
    """Do a job in a process of its own; returns the message about it."""
    limits = Limits(**job["limits"])
    source, result = os.pipe()
    child = os.fork()
    if child == 0:
        _do(job, blocks, limits, result)
    os.close(result)
    blocks.clear()
    said, why = _heard(source, parent, limits, child)
    os.close(source)
    os.kill(child, signal.SIGKILL)  # it has closed its end: it is on its way out, or hiding
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return message({"stopped": why, "status": status}, said)


def _heard(source: int, parent: int, limits: Limits, child: int) -> tuple[bytes, str | None]:
    """What the job's process writes, and why it was stopped, or None. Ends this process where the parent is gone."""
    clock, said = Clock(child), bytearray()
    poll = select.poll()
    poll.register(source, select.POLLIN)
    poll.register(parent, 0)  # a hang-up is always told
    while (left := limits.seconds - clock.seconds()) > 0:
        ready = dict(poll.poll(1000 * min(left, LOOK)))
        if parent in ready:
            os.killpg(0, signal.SIGKILL)
        if source in ready:
            part = os.read(source, CHUNK)
            if not part:
                return bytes(said), None
            said += part
        if len(said) > limits.output_bytes + jobs.SAID_BESIDES:
            return b"", "output"
    return b"", "time"


def _do(job: Header, blocks: list[bytes], limits: Limits, result: int) -> None:
    """Never returns."""
    try:
        doors.only_descriptors(result)
        send(doors.RESULT, message({"held": doors.close(limits)}))
        send(doors.RESULT, jobs.do(job, blocks))
        os._exit(0)
    finally:
        os._exit(FAILED)


if __name__ == "__main__":
    serve(0, 1)
