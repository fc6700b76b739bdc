"""Gradient inversion: search the records whose gradient is the one that was seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call

from attacks.broadcast import Parameters, parameters, resting
from attacks.observation import Records

Vector = Float[np.ndarray, " params"]
_FOUND = 1e-6
_DECAY = (3 / 8, 5 / 8, 7 / 8)  # of the iterations: there the step size falls to a tenth (Geiping et al., appendix)


@dataclass(frozen=True, slots=True)
class Inversion:
    """Records whose gradient comes close to the one seen: `distance` is what the search made small, 0 at best."""

    records: Records
    distance: float
    iterations: int


@dataclass(frozen=True, slots=True)
class Seen:
    """What the attacker has: the architecture, the broadcast weights, and the gradient of one batch's mean loss.

    One local step of plain SGD sends this gradient, times the learning rate. Weights and gradient are in
    `named_parameters` order; records have the given `shape`; of how many they are, the attacker is told.
    """

    architecture: nn.Module
    weights: Vector
    gradient: Vector
    shape: tuple[int, ...]


def dlg(
    seen: Seen, records: int, classes: int, rng: np.random.Generator, iterations: int = 300, restarts: int = 8
) -> Inversion:
    """Deep leakage from gradients (Zhu et al. 2019, arXiv 1906.08935): records and soft labels by L-BFGS, step size 1.

    Minimises |g(x', softmax(y')) - g|^2 / |g|^2 from normal starts, in float64: up to `restarts` of them, because many
    end in a wrong place, until one comes below 1e-6. `seen.gradient` has to be on scale. Works for a batch of one or
    two on small networks with fresh weights, best on smooth ones (sigmoid, tanh). Unit: record. Vantage: a server that
    sees single updates, of one record or two and one local step.
    """
    model, weights, target = _prepared(seen, torch.float64)
    scale = _squared(target).clamp_min(torch.finfo(torch.float64).tiny)

    def distance(x: Tensor, y: Tensor) -> Tensor:
        return _squared(_minus(_gradient(model, weights, x, y.softmax(dim=1)), target)) / scale

    best, total = None, 0
    for _ in range(restarts):
        found = _lbfgs(distance, _normal(rng, (records, *seen.shape)), _normal(rng, (records, classes)), iterations)
        total += found.iterations
        if best is None or found.distance < best.distance:
            best = found
        if best.distance < _FOUND:
            break
    assert best is not None
    return replace(best, iterations=total)


def _lbfgs(distance: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor, iterations: int) -> Inversion:
    x, y = x.requires_grad_(), y.requires_grad_()
    optimizer = torch.optim.LBFGS([x, y], lr=1, max_iter=iterations, tolerance_change=0)

    def closure() -> Tensor:
        loss = distance(x, y)
        x.grad, y.grad = torch.autograd.grad(loss, [x, y])
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    end = float(distance(x, y).detach())
    steps = int(optimizer.state[x]["n_iter"])
    return Inversion(_records(x, y.argmax(dim=1)), end if np.isfinite(end) else float("inf"), steps)


def cosine_inversion(
    seen: Seen,
    labels: Int[np.ndarray, " records"],
    rng: np.random.Generator,
    *,
    smoothness: float = 1e-4,
    iterations: int = 1000,
    restarts: int = 2,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> Inversion:
    """Inverting gradients (Geiping et al. 2020, arXiv 2003.14053): 1 - cos(g(x', y), g) + smoothness * TV(x').

    Signed Adam with step size 0.1, a tenth of it after 3/8, 5/8 and 7/8 of the iterations; values stay within `bounds`;
    the best of `restarts` normal starts. The scale of `seen.gradient` does not matter, so an update will do. `labels`
    come first, see `labels.one_label`. Total variation (mean absolute difference of neighbours) is of images, 0 for
    other records. `distance` leaves it out. Unit: record. Vantage: a server that sees single updates.
    """
    model, weights, target = _prepared(seen, torch.float32)
    y = torch.tensor(labels, dtype=torch.long)

    def distance(x: Tensor) -> Tensor:
        return 1 - _cosine(_gradient(model, weights, x, y), target)

    starts = [_normal(rng, (len(labels), *seen.shape)).float() for _ in range(restarts)]
    found = [_signed_adam(distance, x, smoothness, iterations, bounds) for x in starts]
    best = min(found, key=lambda each: float(distance(each).detach()))
    return Inversion(_records(best, y), float(distance(best).detach()), restarts * iterations)


def _signed_adam(
    distance: Callable[[Tensor], Tensor],
    x: Tensor,
    smoothness: float,
    iterations: int,
    bounds: tuple[float, float],
) -> Tensor:
    x = x.requires_grad_()
    optimizer = torch.optim.Adam([x], lr=0.1 * (bounds[1] - bounds[0]))
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [int(iterations * part) for part in _DECAY], gamma=0.1)
    for _ in range(iterations):
        (x.grad,) = torch.autograd.grad(distance(x) + smoothness * total_variation(x), [x])
        x.grad.sign_()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            x.clamp_(*bounds)
    return x.detach()


def total_variation(x: Float[Tensor, "records ..."]) -> Tensor:
    """Mean absolute difference of neighbouring pixels, down and across; 0 for records that are no images."""
    if x.ndim < 3:
        return x.new_zeros(())
    return (x[..., 1:, :] - x[..., :-1, :]).abs().mean() + (x[..., 1:] - x[..., :-1]).abs().mean()


def _gradient(model: nn.Module, weights: Parameters, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    """Gradient of the mean cross-entropy by each parameter, itself differentiable; `y` are labels or probabilities."""
    loss = nn.functional.cross_entropy(functional_call(model, weights, (x,)), y)
    return torch.autograd.grad(loss, list(weights.values()), create_graph=True)


def _prepared(seen: Seen, dtype: torch.dtype) -> tuple[nn.Module, Parameters, tuple[Tensor, ...]]:
    model = resting(seen.architecture).to(dtype)
    weights = {name: part.requires_grad_() for name, part in parameters(model, seen.weights).items()}
    return model, weights, tuple(parameters(model, seen.gradient).values())


def _normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(rng.normal(size=shape))


def _minus(a: Sequence[Tensor], b: Sequence[Tensor]) -> list[Tensor]:
    return [left - right for left, right in zip(a, b, strict=True)]


def _squared(parts: Sequence[Tensor]) -> Tensor:
    return torch.stack([part.square().sum() for part in parts]).sum()


def _cosine(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    dot = torch.stack([(left * right).sum() for left, right in zip(a, b, strict=True)]).sum()
    return dot / (_squared(a) * _squared(b)).sqrt().clamp_min(torch.finfo(dot.dtype).tiny)


def _records(x: Tensor, y: Tensor) -> Records:
    return Records(x.detach().numpy().astype(np.float32), y.numpy())
