"""The device's arithmetic on batches of records, in torch."""

from __future__ import annotations

from typing import Final

from edge.artifact import Artifact, Levels
from edge.runtimes.runtime import Runtime, needs


def _run(artifact: Artifact, inputs: Levels) -> Levels:
    from edge.arithmetic import checked

    return checked(artifact)(inputs)


DEVICE_ARITHMETIC: Final = Runtime(
    "TFLite Micro's numbers, many records at a time: compared with it on every model before the first answer",
    needs("torch", "torch"),
    _run,
)
