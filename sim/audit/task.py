"""What a model is for, as far as its output and the targets in the records say."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Shaped
from scipy.special import logit

from attacks.observation import Output
from sim.data.npz import form_fault
from sim.errors import InputError

Task = Literal["classes", "binary", "reconstruction", "regression"]
Targets = Shaped[np.ndarray, "records ..."]  # class numbers, or the numbers that should be answered
Answers = Float[np.ndarray, "records numbers"]
Array = np.ndarray[Any, np.dtype[Any]]

_STEP = 1 / 256  # of an int8 softmax or logistic
_SURE = 0.02  # how far probabilities may miss a sum of one, for each class one step and this


@dataclass(frozen=True, slots=True)
class Ends:
    """What goes into a model and what comes out, without the batch."""

    takes: tuple[int, ...]
    gives: tuple[int, ...]
    step: float  # of the output's numbers; 0 where they are floating point
    last: str  # the operator that makes the output, conversions aside

    @property
    def size(self) -> int:
        """How many numbers one answer has."""
        return prod(self.gives)


@dataclass(frozen=True, slots=True)
class Form:
    """What the model's numbers mean: how to read them as answers, and their smallest step."""

    task: Task
    output: Output
    resolution: float
    logistic: bool = False
    words: str = ""

    def read(self, raw: Answers) -> Answers:
        """The model's numbers as logits or probabilities, one column per class; of numbers, themselves."""
        if self.task == "binary":
            return np.hstack([1 - raw, raw] if self.logistic else [np.zeros_like(raw), raw])
        if self.task == "classes" and self.logistic:
            least = self.resolution / 2 or float(np.finfo(raw.dtype).tiny)
            return np.asarray(logit(np.clip(raw.astype(np.float64), least, 1 - max(least, 1e-7))))
        return raw


def targets(y: Array | None, x: Float[np.ndarray, "records ..."], ends: Ends, where: str) -> tuple[Task, Targets]:
    """The task that the targets in a file speak of, and the targets as attacks take them.

    No `y`: reconstruction, the record itself. Whole numbers: classes. Floats: what the model should say. Raises
    InputError where they do not fit the model's output.
    """
    if y is None:
        return _reconstruction(x, ends, where)
    if len(y) != len(x):
        raise InputError(f"{where}: array `y` has {len(y)} entries for {len(x)} records; give one each")
    if y.size != len(x) and (fault := form_fault(y, numbers_too=True)):
        raise InputError(f"{where}: array `y` {fault}")
    if y.dtype.kind in "biu" and y.size == len(x):
        return _classes(y.reshape(-1).astype(np.int64), ends, where)
    if y.dtype.kind == "f":
        return _regression(y.reshape(len(y), -1).astype(np.float64), ends, where)
    if y.dtype.kind in "US":
        raise InputError(
            f"{where}: array `y` is text; the file answers by number: number its classes as they were for training"
        )
    raise InputError(
        f"{where}: array `y` is {y.dtype} of shape {y.shape}; allowed are one class number per record (integers), or "
        f"floats of shape (records, {ends.size}) for a model that predicts numbers"
    )


def form(task: Task, ends: Ends, raw: Answers) -> Form:
    """How to read the model's numbers, judged by the operator that makes them and by what they are."""
    if task in ("reconstruction", "regression"):
        return Form(task, "logits", ends.step, words=f"{ends.size} numbers")
    if task == "binary":
        logistic = ends.last == "LOGISTIC"
        output: Output = "probabilities" if logistic else "logits"
        step = (ends.step or _hidden_step(raw)) if logistic else 0.0
        return Form(task, output, step, logistic, "one probability" if logistic else "one logit")
    if _are_probabilities(raw, ends):
        step = ends.step or _hidden_step(raw)
        return Form(task, "probabilities", step, words="probabilities" + (f" in steps of {step:g}" if step else ""))
    if ends.last == "LOGISTIC":
        step = ends.step or _hidden_step(raw)
        return Form(task, "logits", step, logistic=True, words="one probability for each class, turned into log-odds")
    return Form(task, "logits", 0.0, words="logits" + (f" in steps of {ends.step:.3g}" if ends.step else ""))


def _are_probabilities(raw: Answers, ends: Ends) -> bool:
    if ends.last == "SOFTMAX":
        return True
    off = np.abs(raw.sum(axis=1) - 1).max()
    slack = _SURE + raw.shape[1] * (ends.step or _hidden_step(raw)) / 2
    return bool(raw.min() >= 0 and raw.max() <= 1 and off <= slack and ends.last != "LOGISTIC")


def _hidden_step(raw: Answers) -> float:
    """1/256 where floats are whole multiples of it: an int8 softmax behind a DEQUANTIZE."""
    levels = raw.astype(np.float64) / _STEP
    return _STEP if np.abs(levels - levels.round()).max() < 1e-4 else 0.0


def _reconstruction(x: Float[np.ndarray, "records ..."], ends: Ends, where: str) -> tuple[Task, Targets]:
    if ends.size != prod(ends.takes):
        raise InputError(
            f"{where}: array `y` is missing, and the model is no autoencoder: it takes {prod(ends.takes)} numbers and "
            f"answers {ends.size}. Save the class numbers (integers), or what it should answer (floats), as y"
        )
    return "reconstruction", x.reshape(len(x), -1).astype(np.float64)


def _classes(y: Array, ends: Ends, where: str) -> tuple[Task, Targets]:
    classes = max(ends.size, 2)
    if y.min() < 0 or y.max() >= classes:
        more = "; for a model that predicts a number save y as floats" if ends.size == 1 else ""
        raise InputError(
            f"{where}: array `y` runs from {y.min()} to {y.max()}; the model tells {classes} classes apart, so class "
            f"numbers run from 0 to {classes - 1}{more}"
        )
    return ("binary" if ends.size == 1 else "classes"), y


def _regression(y: Float[np.ndarray, "records numbers"], ends: Ends, where: str) -> tuple[Task, Targets]:
    if not np.isfinite(y).all():
        raise InputError(f"{where}: array `y` holds {int((~np.isfinite(y)).sum())} NaN or infinite values; remove them")
    if y.shape[1] != ends.size:
        raise InputError(
            f"{where}: array `y` has {y.shape[1]} numbers for each record, and the model answers {ends.size}. "
            f"Give (records, {ends.size}) floats, or class numbers as integers: y.astype(int)"
        )
    return "regression", y
