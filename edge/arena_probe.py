"""Run as a script by `edge.arena`: for each file, the smallest arena TFLite Micro can work in, on standard output."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

GENEROUS: Final = 4 << 20  # bytes; what is counted does not depend on it
MARGIN: Final = 4096  # bytes; the most seen was some 500
STEP: Final = 16  # bytes; what allocations are aligned to
TOTAL: Final = re.compile(r"Arena allocation total (\d+) bytes")


def smallest(model: bytes) -> int:
    """Start from TFLite Micro's count and go up to where the model loads: setting up can need more than running."""
    count = counted(infer(model, max(GENEROUS, 10 * len(model))))
    for size in range(count, count + MARGIN, STEP):
        if loads(model, size):
            return size
    raise RuntimeError(f"it counts {count} bytes and does not load with {MARGIN} more")


def infer(model: bytes, arena: int) -> Any:  # noqa: ANN401 - untyped library
    """An interpreter after one inference on zeros."""
    import numpy as np
    from tflite_micro.python.tflite_micro import runtime

    interpreter = runtime.Interpreter.from_bytes(model, arena_size=arena)
    details = interpreter.get_input_details(0)
    interpreter.set_input(np.zeros(details["shape"], details["dtype"]), 0)
    interpreter.invoke()
    return interpreter


def loads(model: bytes, arena: int) -> bool:
    """Whether one inference works in an arena of this size: tried in a fork, as one too small may crash."""
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        try:
            infer(model, arena)
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def counted(interpreter: Any) -> int:  # noqa: ANN401 - untyped library
    """TFLite Micro's own count, which it writes to the file descriptor of standard error and nowhere else."""
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as kept:
        os.dup2(kept.fileno(), 2)
        interpreter.print_allocations()
        os.dup2(terminal, 2)
        kept.seek(0)
        found = TOTAL.search(kept.read().decode(errors="replace"))
    if found is None:
        raise RuntimeError("TFLite Micro did not report its allocations")
    return int(found.group(1))


if __name__ == "__main__":
    for name in sys.argv[1:]:
        sys.stdout.write(f"{smallest(Path(name).read_bytes())}\n")
        sys.stdout.flush()  # what is done is known to the parent even if the next file crashes this process
