"""What a TFLite file is that somebody else made, which runtimes take it, and whether it is a model for a device.

The file is read and run behind closed doors (`edge.sandbox`); this process sees only what came out, checked.
"""

from __future__ import annotations

import hashlib
from math import prod

import numpy as np
from jaxtyping import Float
from pydantic import ValidationError

from edge import sandbox
from edge.inspection.found import FlawFound, Inspection, PortFound, Structure, Tried, WorkFound
from edge.inspection.trying import draw, tried
from edge.inspection.verdict import judge
from edge.sandbox import Limits, UnusableFileError, parent

__all__ = ["FlawFound", "Inspection", "PortFound", "Structure", "Tried", "WorkFound", "inspect", "read"]


def inspect(
    model: bytes,
    limits: Limits | None = None,
    inputs: Float[np.ndarray, "records ..."] | None = None,
    rng: np.random.Generator | None = None,
) -> Inspection:
    """Find out what a file is: read it, run it in every runtime, measure its arena.

    Runtimes are compared on `inputs` (real numbers in the file's layout, channels last), or without them on records
    drawn from `rng` over the whole range of the input. Limits hold for each step. Raises `UnusableFileError` for what
    is no whole TFLite file, and `ValueError` for inputs that are not finite or do not fit.
    """
    limits = limits or Limits()
    structure, held = read(model, limits)
    work = _work(model, limits)
    macs = None if work is None else work.total_macs
    records = None
    if structure.askable:
        rng = rng or np.random.default_rng(0)
        records = draw(structure, macs, limits, rng) if inputs is None else _fitting(inputs, structure)
    found = tried(model, limits, records, structure.batch if records is not None else 1)
    device_model, verdict = judge(structure, found)
    return Inspection(
        **structure.model_dump(),
        size=len(model),
        sha256=hashlib.sha256(model).hexdigest(),
        work=work,
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


def _fitting(inputs: Float[np.ndarray, "records ..."], structure: Structure) -> Float[np.ndarray, "records ..."]:
    shape = structure.inputs[0].shape[1:]
    if prod(inputs.shape[1:]) != prod(shape):
        raise ValueError(f"inputs of shape {inputs.shape[1:]} do not fit a file that takes {shape}")
    return inputs


def _work(model: bytes, limits: Limits) -> WorkFound | None:
    try:
        return WorkFound.model_validate(parent.do({"job": "work"}, limits, model)[0])
    except (UnusableFileError, ValidationError):
        return None


def _arena(model: bytes, limits: Limits, found: tuple[Tried, ...]) -> int | None:
    if next(each.outcome for each in found if each.runtime == "tflm") != "takes":
        return None
    try:
        return sandbox.arena(model, limits)
    except UnusableFileError:
        return None
