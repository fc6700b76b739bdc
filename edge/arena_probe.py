"""Run as a script by `edge.arena`: let TFLite Micro write each file's allocations to standard error."""

from __future__ import annotations

import os
import sys
from pathlib import Path

GENEROUS = 4 << 20  # bytes; the measured total does not depend on it


def probe(path: Path) -> None:
    """One inference on zeros, then TFLite Micro's own account of the arena."""
    import numpy as np
    from tflite_micro.python.tflite_micro import runtime

    model = path.read_bytes()
    interpreter = runtime.Interpreter.from_bytes(model, arena_size=max(GENEROUS, 10 * len(model)))
    details = interpreter.get_input_details(0)
    interpreter.set_input(np.zeros(details["shape"], details["dtype"]), 0)
    interpreter.invoke()
    interpreter.print_allocations()


if __name__ == "__main__":
    mark, *names = sys.argv[1:]
    for name in names:
        os.write(2, f"{mark}\n".encode())  # unbuffered, like TFLite Micro's own writing
        probe(Path(name))
