"""Reference models, trained here as the file's maker says the file was trained: `--recipe RECIPE.toml`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import nn

from attacks.observation import Records
from clients.models import MODELS, ModelShapeError, Name, Norm, new_model
from clients.randomness import torch_generator
from clients.training import DivergedError, TrainingConfig, build_optimizer, is_finite, train
from sim.audit.task import Task
from sim.errors import InputError, repeated, shown
from sim.toml import read_toml

Rows = Float[np.ndarray, "records ..."]


class RecipeModel(BaseModel):
    """The `[model]` table: an architecture from `seepage list models`."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: Name = Field(description="architecture")
    width: int | None = Field(None, ge=4, le=512, description="hidden units, or channels of the first layer")
    norm: Norm = Field("none", description="normalisation layers")


class Recipe(BaseModel):
    """How reference models are made: as many, of this architecture, trained like this on halves of the population."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    references: int = Field(4, ge=1, le=256, description="how many models are trained")
    model: RecipeModel
    training: TrainingConfig = TrainingConfig()


def load_recipe(path: Path) -> Recipe:
    """Read and check a recipe. Raises InputError with every fault in it."""
    values = read_toml(path, f"--recipe {path}", "A recipe is a TOML file with [model] and [training]")
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        faults = [
            f"  {shown('.'.join(map(str, fault['loc'])), 200)} = {repeated(fault['input'])}: {fault['msg']}"
            for fault in error.errors()
        ]
        known = f"settings are references, model.({', '.join(RecipeModel.model_fields)}), " + (
            f"training.({', '.join(TrainingConfig.model_fields)})"
        )
        raise InputError("\n".join([f"--recipe {path}: {len(faults)} to mend; {known}", *faults])) from error


def trained(recipe: Recipe, task: Task, numbers: int, own: Records, rng: np.random.Generator) -> nn.Module:
    """One model of the recipe, trained on `own` (records as the file takes them). Raises InputError where it cannot be.

    `numbers` are how many the file answers; a binary classifier gets two logits.
    """
    x = inputs(recipe, own.x)
    classes = max(numbers, 2) if task in ("classes", "binary") else numbers
    try:
        model = _new(recipe, x.shape[1:], classes, rng)
        if task in ("classes", "binary"):
            train(model, x, own.y, recipe.training, rng)
        else:
            _fit(model, x, own.y.astype(np.float32), recipe.training, rng)
    except (ModelShapeError, DivergedError) as error:
        raise InputError(f"--recipe: {error}") from error
    return model.eval()


def inputs(recipe: Recipe, x: Rows) -> Rows:
    """Records as the file takes them, as the recipe's model takes them: flat, or channels first."""
    if MODELS[recipe.model.name].flattens:
        return np.ascontiguousarray(x.reshape(len(x), -1))
    while x.ndim > 1 + MODELS[recipe.model.name].dimensions and x.shape[1] == 1:
        x = x[:, 0]
    return np.ascontiguousarray(np.moveaxis(x, -1, 1)) if x.ndim > 2 else x


def _new(recipe: Recipe, shape: tuple[int, ...], numbers: int, rng: np.random.Generator) -> nn.Module:
    model = recipe.model
    return new_model(model.name, shape, numbers, torch_generator(rng), width=model.width, norm=model.norm)


def _fit(model: nn.Module, x: Rows, y: Rows, config: TrainingConfig, rng: np.random.Generator) -> None:
    """Train in place on the mean squared error, as `clients.training.train` does on the cross-entropy."""
    draw, optimizer = torch_generator(rng), build_optimizer(model, config)
    given, wanted = torch.from_numpy(x), torch.from_numpy(y)
    if (found := model(given[:1]).shape[1:]) != wanted.shape[1:]:
        raise ModelShapeError(f"{tuple(found)} numbers come out of the model, and {tuple(wanted.shape[1:])} are wanted")
    model.train()
    for _ in range(config.epochs):
        for batch in torch.split(torch.randperm(len(wanted), generator=draw), config.batch_size):
            optimizer.zero_grad()
            nn.functional.mse_loss(model(given[batch]), wanted[batch]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    if not is_finite(model):
        raise DivergedError(f"training diverged at learning rate {config.learning_rate:g}; choose a smaller one")
