"""How single records' gradients lie towards updates: inner products and lengths, without keeping the gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from attacks.broadcast import Parameters, gradients, parameters
from attacks.observation import Records

Vector = Float[np.ndarray, " params"]


@dataclass(frozen=True, slots=True)
class Aligned:
    """Gradients of records against vectors, in float64. What has no length is at a right angle to everything."""

    dot: Float[np.ndarray, "records vectors"]
    length: Float[np.ndarray, " records"]  # of the gradients
    width: Float[np.ndarray, " vectors"]  # of the vectors

    @property
    def cosine(self) -> Float[np.ndarray, "records vectors"]:
        """Cosine of the angle between gradient and vector."""
        return _over(self.dot, np.outer(self.length, self.width))

    @property
    def projection(self) -> Float[np.ndarray, "records vectors"]:
        """How far each vector goes along the gradient's direction: its inner product over the gradient's length."""
        return _over(self.dot, self.length[:, None])


def align(model: nn.Module, weights: Vector, vectors: Sequence[Vector], records: Records) -> Aligned:
    """Gradients of the records' cross-entropy at `weights` against `vectors`; `model` in the mode it is in.

    Raises ValueError where weights or vectors are not as long as the model has parameters.
    """
    at = parameters(model, weights)
    each = [parameters(model, vector) for vector in vectors]
    stacked = {name: torch.stack([vector[name].flatten() for vector in each], dim=1) for name in at}
    chunks = [_chunk(gradient, stacked) for gradient in gradients(model, at, records)]
    dot, length = (torch.cat(parts).double().numpy() for parts in zip(*chunks, strict=True))
    return Aligned(dot, length, np.array([np.linalg.norm(vector.astype(np.float64)) for vector in vectors]))


def _chunk(gradient: Parameters, vectors: Parameters) -> tuple[torch.Tensor, torch.Tensor]:
    """Parameter by parameter: putting the gradients of many records into one matrix costs more than making them."""
    flat = {name: part.flatten(start_dim=1) for name, part in gradient.items()}
    dot = torch.stack([flat[name] @ part for name, part in vectors.items()]).sum(dim=0)
    return dot, torch.stack([part.norm(dim=1) for part in flat.values()]).norm(dim=0)


def _over(numerator: np.ndarray, denominator: np.ndarray) -> Float[np.ndarray, "records vectors"]:
    return np.asarray(np.divide(numerator, denominator, out=np.zeros(numerator.shape), where=denominator > 0))
