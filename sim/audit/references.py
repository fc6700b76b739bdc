"""Models that never saw the members: files that the auditor brings, or models trained here by a recipe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from jaxtyping import Float
from scipy.special import softmax
from torch import nn

from attacks.observation import Oracle, Records, Reference
from attacks.references import halves
from clients.randomness import generator
from clients.training import logits
from sim.audit.ask import Answers, Asked, Rows
from sim.audit.recipe import Recipe, inputs, trained
from sim.audit.task import Ends, Form, form
from sim.errors import InputError
from sim.progress import Progress

FEWEST_OWN = 20  # records of the population that a recipe's halves are made of
CALIBRATION = 200


def from_files(files: Sequence[tuple[Asked, Ends]], target: Form, x: Rows, population: int) -> tuple[Reference, ...]:
    """References that trained on nothing of the auditor's: that is what the user says by naming them.

    `x` are records by which their answers are judged. They answer in the target's form.
    """
    unseen = np.zeros(population, dtype=bool)
    return tuple(Reference(_reading(asked, form(target.task, ends, asked(x)), target), unseen) for asked, ends in files)


def _reading(asked: Asked, own: Form, target: Form) -> Callable[[Rows], Answers]:
    return lambda x: alike(own.read(asked(x)), own, target)


def alike(answers: Answers, own: Form, target: Form) -> Answers:
    """A reference's answers in the form of the target's: logits, or probabilities with as few steps."""
    if target.task in ("reconstruction", "regression") or own.output == target.output == "logits":
        return answers
    if target.output == "logits":
        least = own.resolution / 2 or float(np.finfo(answers.dtype).tiny)
        return np.asarray(np.log(np.maximum(answers.astype(np.float64), least)))
    found = softmax(answers.astype(np.float64), axis=1) if own.output == "logits" else answers
    step = target.resolution
    return np.asarray(np.round(found / step) * step if step > own.resolution else found)


def from_recipe(
    recipe: Recipe, target: Form, ends: Ends, own: Records, seed: int, progress: Progress
) -> tuple[Reference, ...]:
    """Models trained on random halves of the auditor's own records, quantised where the target is an int8 softmax."""
    if len(own) < FEWEST_OWN:
        raise InputError(
            f"--recipe: reference models train on the auditor's own records, and there are {len(own)}. Give "
            f"{FEWEST_OWN} or more that are in neither file with --population"
        )
    masks = halves(recipe.references, len(own), generator(seed, "audit", "halves"), _classes(target, own))
    references = []
    with progress.stage("training references", len(masks)):
        for number, mask in enumerate(masks):
            rng = generator(seed, "audit", "reference", number)
            model = trained(recipe, target.task, ends.size, own[mask], rng)
            predict = _predictor(recipe, model, target, own[mask])
            references.append(Reference(Oracle(predict), mask))
            progress.step(f"reference {number + 1}")
    return tuple(references)


def _classes(target: Form, own: Records) -> np.ndarray | None:
    return own.y if target.task in ("classes", "binary") else None


def _predictor(recipe: Recipe, model: nn.Module, target: Form, own: Records) -> Callable[[Rows], Answers]:
    """What one reference answers, in the target's form."""
    if target.task == "classes" and target.output == "probabilities" and target.resolution:
        return _quantised(recipe, model, own)
    floating = Form(target.task, "logits", 0.0)
    return lambda x: alike(_numbers(recipe, model, x), floating, target)


def _quantised(recipe: Recipe, model: nn.Module, own: Records) -> Callable[[Rows], Answers]:
    """By the same pipeline as a maker's: int8 with a softmax, ranges set by the reference's own records."""
    from edge.export import export

    file = export(model, inputs(recipe, own.x)[:CALIBRATION], "int8", "probabilities")
    asked = Asked(file, "tflm")

    def answer(x: Rows) -> Answers:
        rows = inputs(recipe, x)
        return asked(np.moveaxis(rows, 1, -1) if rows.ndim > 2 else rows)

    return answer


def _numbers(recipe: Recipe, model: nn.Module, x: Float[np.ndarray, "records ..."]) -> Answers:
    found: Answers = partial(logits, model)(inputs(recipe, x))
    return found
