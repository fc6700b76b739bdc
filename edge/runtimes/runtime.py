"""What a runtime is."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

from edge.artifact import Artifact, Levels


class RuntimeMissingError(RuntimeError):
    """The runtime is not installed here; the message says how to get it."""


class CannotRunError(RuntimeError):
    """The runtime is there, and does not execute this model; the message says why."""


@dataclass(frozen=True)
class Runtime:
    """One way to execute an artefact.

    `run` takes whole batches of records as numbers of the input's own format, channels last, and returns (records,
    classes) in the output's. A file that keeps a state or draws random numbers answers each batch as if it had just
    been started. Raises `CannotRunError` for a model that it cannot execute. `missing` says what to do where the
    runtime is not available, and None where it is.
    """

    description: str
    missing: Callable[[], str | None]
    run: Callable[[Artifact, Levels], Levels]


def needs(module: str, package: str) -> Callable[[], str | None]:
    """What to do where a Python package is not installed."""
    return lambda: None if importlib.util.find_spec(module) else f"install it with `pip install {package}`"
