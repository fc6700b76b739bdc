"""Keep the chatter of TensorFlow and LiteRT off the user's screen."""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Swallow what is written to standard error, also by C++ code; if the block raises, the error carries it as a note.

    TensorFlow's converter writes a dozen lines per model past Python's own stream, so the file descriptor itself
    has to point elsewhere for the time being.
    """
    sys.stderr.flush()
    terminal = os.dup(2)
    with _scratch() as kept, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except Exception as error:
            kept.seek(0)
            error.add_note(kept.read().decode(errors="replace"))
            raise
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            os.close(terminal)


def _scratch() -> IO[bytes]:
    """A file without a name; in memory where the system has that, as a sandbox may write nowhere else."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("stderr"), "w+b")
    return tempfile.TemporaryFile()
