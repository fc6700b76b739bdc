"""A model's weights on the wire and on disk: by name as Flower arrays, or flat as one vector."""

from __future__ import annotations

import math

import numpy as np
import torch
from flwr.app import Array, ArrayRecord
from jaxtyping import Float
from torch import nn


def to_arrays(model: nn.Module) -> ArrayRecord:
    """The model's parameters as a Flower ArrayRecord, by name."""
    return ArrayRecord({name: tensor.clone() for name, tensor in model.state_dict().items()})


def load_arrays(model: nn.Module, arrays: ArrayRecord) -> None:
    """Put a Flower ArrayRecord's values into the model."""
    model.load_state_dict(arrays.to_torch_state_dict())


def flatten(arrays: ArrayRecord) -> Float[np.ndarray, " params"]:
    """All values as one float32 vector, in the record's (that is, `named_parameters`) order."""
    return np.concatenate([array.ravel() for array in arrays.to_numpy_ndarrays()]).astype(np.float32)


def to_vector(model: nn.Module) -> Float[np.ndarray, " params"]:
    """The model's parameters as one float32 vector, in `named_parameters` order."""
    return torch.nn.utils.parameters_to_vector(model.parameters()).detach().numpy().copy()


def load_vector(model: nn.Module, vector: Float[np.ndarray, " params"]) -> nn.Module:
    """Put a flat vector into the model's parameters and return the model. Raises ValueError on a wrong length."""
    if len(vector) != sum(p.numel() for p in model.parameters()):
        raise ValueError(f"{len(vector)} weights for a model with {sum(p.numel() for p in model.parameters())}")
    torch.nn.utils.vector_to_parameters(torch.from_numpy(np.array(vector)), model.parameters())
    return model


def unflatten(vector: Float[np.ndarray, " params"], like: ArrayRecord) -> ArrayRecord:
    """`flatten` undone, as float32: names and shapes are those of `like`. Raises ValueError on a wrong length."""
    shapes = {name: array.shape for name, array in like.items()}
    sizes = [math.prod(shape) for shape in shapes.values()]
    if len(vector) != sum(sizes):
        raise ValueError(f"{len(vector)} values for {sum(sizes)} weights")
    parts = np.split(vector.astype(np.float32), np.cumsum(sizes)[:-1])
    return ArrayRecord(
        {name: Array(part.reshape(shape)) for (name, shape), part in zip(shapes.items(), parts, strict=True)}
    )
