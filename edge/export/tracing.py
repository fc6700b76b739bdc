"""Trace a torch module with torch.export, or say by name and place why that cannot be done."""

from __future__ import annotations

import copy
import inspect
import linecache
import traceback
from collections.abc import Iterator
from types import FrameType

import numpy as np
import torch
from jaxtyping import Float
from torch import nn
from torch.export import ExportedProgram

from edge.export.graph import UnsupportedLayerError, single_input
from edge.quiet import quiet_stderr

_CONTROL_FLOW = ("data-dependent", "GuardOnDataDependent", "control flow", "_local_scalar_dense", "unbacked")


def trace(model: nn.Module, example: Float[np.ndarray, "records ..."]) -> ExportedProgram:
    """The model's operations for one record of `example`'s shape, whatever its weights.

    Most of an export's time goes here; models of one architecture can share it. Raises `UnsupportedLayerError` naming
    the layer for a module that does not take one such record, or whose operations depend on the numbers in it.
    """
    if not isinstance(model, nn.Module):
        raise UnsupportedLayerError(f"a torch.nn.Module can be exported; this is {type(model).__name__}")
    quiet = copy.deepcopy(model).cpu().eval()
    record = torch.from_numpy(np.array(example[:1], dtype=np.float32))
    _check_inputs(quiet)
    _check_layers(quiet)
    try:
        with torch.no_grad(), quiet_stderr():
            quiet(record)
    except Exception as error:
        raise UnsupportedLayerError(
            f"{_place(quiet, error)} does not take a record of shape {tuple(record.shape[1:])}: {_line(error)}"
        ) from error
    try:
        with torch.no_grad(), quiet_stderr():
            program: ExportedProgram = torch.export.export(quiet, (record,)).run_decompositions({})
    except Exception as error:  # torch.export has no common base for what it raises
        raise UnsupportedLayerError(f"{_place(quiet, error)} cannot be exported: {_why(error)}") from error
    single_input(program)
    return program


def _check_inputs(model: nn.Module) -> None:
    """One argument without a default: the record."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(model.forward).parameters.values()
    positional = [each for each in parameters if each.kind in kinds]
    needed = [
        each.name for each in parameters if each.default is each.empty and each.kind in (*kinds, each.KEYWORD_ONLY)
    ]
    variadic = any(each.kind == each.VAR_POSITIONAL for each in parameters)
    if len(needed) > 1 or not (positional or variadic):
        raise UnsupportedLayerError(
            f"the forward method of {type(model).__name__} takes {len(needed)} inputs ({', '.join(needed) or 'none'}); "
            "a model with one tensor can be exported: join them along the channels, or wrap the model in one that does"
        )


def _check_layers(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if isinstance(module, nn.RNNBase):
            raise UnsupportedLayerError(
                f"{_named(name, module)} cannot be exported: no counterpart of its state is built here. Possible is "
                "a Conv1d over the window, dilated for a long reach"
            )


def _named(path: str, module: nn.Module) -> str:
    return f"'{path}' ({type(module).__name__})" if path else f"the forward method of {type(module).__name__}"


def _place(model: nn.Module, error: BaseException) -> str:
    """The innermost of the user's modules that was at work, with the line of its forward method."""
    names = {id(module): name for name, module in model.named_modules()}
    found = f"the forward method of {type(model).__name__}"
    for frame, line in _frames(error):
        module = frame.f_locals.get(next(iter(frame.f_code.co_varnames), ""))
        if isinstance(module, nn.Module) and id(module) in names and frame.f_code.co_name == "forward":
            found = _named(names[id(module)], module)
            if not type(module).__module__.startswith("torch.nn."):
                said = linecache.getline(frame.f_code.co_filename, line).strip()
                found += f", line {line}" + (f" (`{said[:100]}`)" if said else "") + ","
    return found


def _frames(error: BaseException) -> Iterator[tuple[FrameType, int]]:
    """From the outermost call to the one that raised."""
    yield from traceback.walk_tb(error.__traceback__)


def _why(error: BaseException) -> str:
    said = f"{type(error).__name__}: {error}"
    if any(mark in said for mark in _CONTROL_FLOW):
        return (
            "what it does next depends on the numbers in the record, and a TFLite file computes the same operations "
            "for every record. Leave out the `if`, loop or `.item()` on a tensor"
        )
    return _line(error)


def _line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{lines[0][:300]}" if lines else type(error).__name__
