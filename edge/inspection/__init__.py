"""What a TFLite file is that somebody else made, which runtimes take it, and whether it is a model for a device.

The file is read and run behind closed doors (`edge.sandbox`); this process sees only what came out, checked.
"""

from __future__ import annotations

import hashlib

import numpy as np
from jaxtyping import Float
from pydantic import ValidationError

from edge import sandbox
from edge.inspection.found import Inspection, PortFound, Structure, Tried
from edge.inspection.trying import draw, tried
from edge.inspection.verdict import judge
from edge.sandbox import Limits, UnusableFileError, parent

__all__ = ["Inspection", "PortFound", "Structure", "Tried", "inspect"]


def inspect(
    model: bytes,
    limits: Limits | None = None,
    inputs: Float[np.ndarray, "records ..."] | None = None,
    rng: np.random.Generator | None = None,
) -> Inspection:
    """Find out what a file is: read it, run it in every runtime, measure its arena.

    Runtimes are compared on `inputs` (real numbers in the file's layout, channels last), or without them on records
    drawn from `rng` over the whole range of the input. Limits hold for each step. Raises `UnusableFileError` for what
    is no whole TFLite file, and `ValueError` for inputs that are not finite.
    """
    limits = limits or Limits()
    structure, held = read(model, limits)
    records = _records(structure, limits, inputs, rng or np.random.default_rng(0))
    found = tried(model, limits, records)
    device_model, verdict = judge(structure, found)
    return Inspection(
        **structure.model_dump(),
        size=len(model),
        sha256=hashlib.sha256(model).hexdigest(),
        runtimes=found,
        records=0 if records is None else len(records),
        drawn=inputs is None,
        arena_bytes=_arena(model, limits, found),
        device_model=device_model,
        verdict=verdict,
        limits=held,
    )


def read(model: bytes, limits: Limits | None = None) -> tuple[Structure, tuple[str, ...]]:
    """What is in a file, without running it, and the limits that held. Raises `UnusableFileError`."""
    found, _, held = parent.do({"job": "structure"}, limits or Limits(), model)
    try:
        return Structure.model_validate(found), held
    except ValidationError as error:
        raise UnusableFileError("the process that read it gave an answer that cannot be read", "crashed") from error


def _records(
    structure: Structure, limits: Limits, inputs: Float[np.ndarray, "records ..."] | None, rng: np.random.Generator
) -> Float[np.ndarray, "records ..."] | None:
    if not structure.askable:
        return None
    return draw(structure, limits, rng) if inputs is None else inputs


def _arena(model: bytes, limits: Limits, found: tuple[Tried, ...]) -> int | None:
    if next(each.outcome for each in found if each.runtime == "tflm") != "takes":
        return None
    try:
        return sandbox.arena(model, limits)
    except UnusableFileError:
        return None
