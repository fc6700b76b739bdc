"""Record-level differential privacy on one client: DP-SGD (Abadi et al. 2016, arXiv 1607.00133), with Opacus."""

from __future__ import annotations

import copy
import logging
import math
import warnings
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import nn
from torch.nn.functional import cross_entropy

from clients.accounting import with_count
from clients.privacy import RecordPrivacyConfig
from clients.randomness import SystemGenerator, torch_generator
from clients.training import DivergedError, TrainingConfig, build_optimizer, is_finite

_HANDLERS = logging.root.handlers[:]  # Opacus adds one on import, which would print Flower's lines a second time
from opacus.grad_sample import GradSampleModule, GradSampleModuleFastGradientClipping  # noqa: E402
from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping  # noqa: E402
from opacus.optimizers.optimizer import _mark_as_processed  # noqa: E402
from opacus.utils.fast_gradient_clipping_utils import DPTensorFastGradientClipping  # noqa: E402
from opacus.validators import ModuleValidator  # noqa: E402

logging.root.handlers[:] = _HANDLERS

SMALLEST_NORM, LARGEST_NORM = 1e-6, 1e6  # that adaptive clipping may reach

Backward: TypeAlias = Callable[[torch.Tensor, torch.Tensor], None]  # inputs, labels: leaves clipped gradients behind


class UnsafeForPrivacyError(ValueError):
    """The model has layers, or the training a step, for which DP-SGD guarantees nothing."""


def train_privately(
    model: nn.Module,
    x: Float[np.ndarray, "records ..."],
    y: Int[np.ndarray, " records"],
    config: TrainingConfig,
    privacy: RecordPrivacyConfig,
    noise_multiplier: float,
    rng: np.random.Generator,
) -> int:
    """Train `model` in place and return the number of steps, each one use of the subsampled Gaussian mechanism.

    Unit: record; neighbours: one record added or removed; holds against everybody, also if every step's weights are
    seen. Each step takes each record with probability `privacy.sampling_rate`, independently, clips its gradient to
    norm C, adds noise of standard deviation `noise_multiplier` times C to the sum, and divides by
    `config.batch_size`, a public constant: the number of records shows nowhere. There is no loss to return, because
    that would be a release which nothing accounts for. Records come as arrays, not in a loader: over a shuffled
    loader, which shows every record once an epoch, the accounting for Poisson sampling would not hold.
    The noise is in floating point. From a seeded generator it is a simulation of the mechanism, good enough to study
    it; a `SystemGenerator` keeps the noise from everybody. A record whose gradient is not finite counts as one without
    a gradient, so that what a step does never depends on it by more than the norm.

    Raises:
        UnsafeForPrivacyError: names every layer that DP-SGD cannot vouch for, or quantisation-aware training.
        DivergedError: the weights are no longer finite; `model` is left as it was. It follows from noised weights, so
            it tells nothing that is not accounted for.
    """
    if config.quantization_aware is not None:
        raise UnsafeForPrivacyError(
            f"quantization_aware = {config.quantization_aware} cannot go with DP-SGD: activations are rounded over the "
            "range of the whole batch, so that one record changes the gradients of others; leave it out"
        )
    if faults := unsafe(model):
        raise UnsafeForPrivacyError("DP-SGD cannot protect records in this model: " + "; ".join(faults))
    trained = copy.deepcopy(model).train()  # what Opacus hangs on the modules and weights stays on the copy
    module, optimizer, backward = _private(trained, config, privacy, noise_multiplier, rng)
    inputs, labels = torch.from_numpy(x), torch.from_numpy(y)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Full backward hook is firing")  # of the first layer, as is right
        for _ in range(privacy.steps(config.epochs)):
            batch = torch.from_numpy(np.flatnonzero(rng.random(len(y)) < privacy.sampling_rate))
            optimizer.zero_grad()
            backward(inputs[batch], labels[batch])
            if len(batch) and not _all_finite(module, optimizer):
                batch = batch[torch.isfinite(_norms(module, optimizer))]
                optimizer.zero_grad()
                backward(inputs[batch], labels[batch])
            optimizer.step()
    module.to_standard_module()  # module and hooks refer to each other, and would keep all gradients in memory
    if not is_finite(trained):
        raise DivergedError(
            f"DP-SGD diverged with {config.optimizer} at learning rate {config.learning_rate:g}; choose a smaller one, "
            "and look for NaN and infinity among the records"
        )
    model.load_state_dict(trained.state_dict())
    model.eval()
    return privacy.steps(config.epochs)


def unsafe(model: nn.Module) -> list[str]:
    """Every layer that DP-SGD cannot vouch for, each with its mend; empty if there is none.

    Opacus's validators, asked about all layers. Opacus itself asks them about layers with trainable weights only, and
    so lets pass `BatchNorm1d(affine=False)`, which mixes records and keeps their mean.
    """
    return [
        f"layer {name or 'the model itself'} ({type(layer).__name__}): {fault}"
        for name, layer in model.named_modules()
        for fault in _faults(layer)
    ]


def _faults(layer: nn.Module) -> list[str]:
    for kind, validate in ModuleValidator.VALIDATORS.items():
        if isinstance(layer, kind):
            reasons = [str(error).split(". ")[0] for error in validate(layer)]
            return [f"{reason}; use {_replacement(layer, kind)} instead" for reason in reasons]
    buffers = ", ".join(name for name, _ in layer.named_buffers(recurse=False))
    return [f"no noise is added to its buffers ({buffers}); make them plain attributes if constant"] if buffers else []


def _replacement(layer: nn.Module, kind: type[nn.Module]) -> str:
    return repr(ModuleValidator.FIXERS[kind](layer)).splitlines()[0].rstrip("(")


def _private(
    model: nn.Module, config: TrainingConfig, privacy: RecordPrivacyConfig, multiplier: float, rng: np.random.Generator
) -> tuple[GradSampleModule, DPOptimizer, Backward]:
    """`model` with Opacus's hooks, an optimiser that clips and noises, and the backward pass that goes with them."""
    adaptive, count_noise = privacy.clipping == "adaptive", _count_noise(config, privacy, multiplier)
    settings = {
        "optimizer": build_optimizer(model, config),
        "noise_multiplier": with_count(multiplier, count_noise) if adaptive else multiplier,
        "max_grad_norm": privacy.clipping_norm,
        "expected_batch_size": config.batch_size,  # divides the noisy sum: the modules below do not average
        "generator": torch_generator(rng),
    }
    module, optimizer, backward = (_ghost if _takes_ghost(model, privacy) else _hooks)(model, settings)
    if isinstance(rng, SystemGenerator):
        optimizer.add_noise = lambda: _add_noise(optimizer, rng)
    if adaptive:
        optimizer.attach_step_hook(lambda _: _adapt(module, optimizer, privacy, count_noise))
    return module, optimizer, backward


def _add_noise(optimizer: DPOptimizer, rng: np.random.Generator) -> None:
    """In place of Opacus's: torch's generator is a Mersenne Twister, of which known numbers give away the rest."""
    for weights in optimizer.params:
        noise = rng.normal(0.0, optimizer.noise_multiplier * optimizer.max_grad_norm, weights.summed_grad.shape)
        weights.grad = (weights.summed_grad + torch.from_numpy(noise.astype(np.float32))).view_as(weights)
        _mark_as_processed(weights.summed_grad)


def _hooks(model: nn.Module, settings: dict[str, object]) -> tuple[GradSampleModule, DPOptimizer, Backward]:
    """Every record's gradient in full, layer by layer."""
    module, optimizer = GradSampleModule(model, loss_reduction="sum"), DPOptimizer(**settings)

    def backward(x: torch.Tensor, y: torch.Tensor) -> None:
        cross_entropy(module(x), y, reduction="sum").backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped

    return module, optimizer, backward


def _ghost(model: nn.Module, settings: dict[str, object]) -> tuple[GradSampleModule, DPOptimizer, Backward]:
    """Only the norms of the records' gradients, then a second pass for the clipped sum (Li et al. 2022, 2110.05679)."""
    norm = settings["max_grad_norm"]
    module = GradSampleModuleFastGradientClipping(model, loss_reduction="sum", max_grad_norm=norm)
    optimizer = DPOptimizerFastGradientClipping(**settings)

    def backward(x: torch.Tensor, y: torch.Tensor) -> None:
        losses = cross_entropy(module(x), y, reduction="none")
        DPTensorFastGradientClipping(module, optimizer, losses, "sum").backward()

    return module, optimizer, backward


def _takes_ghost(model: nn.Module, privacy: RecordPrivacyConfig) -> bool:
    """Auto: ghost clipping if no layer but linear ones has weights of more than one dimension.

    CPU milliseconds per step of 16 records, ghost and hooks: mlp on 784 features 2.7 and 5.3, cnn1d 12.2 and 10.5, and
    cnn, of whose weights four fifths are linear, 11.4 and 9.3.
    """
    if privacy.gradients != "auto":
        return privacy.gradients == "ghost"
    others = [layer for layer in model.modules() if not isinstance(layer, nn.Linear)]
    return not any(weights.ndim > 1 for layer in others for weights in layer.parameters(recurse=False))


def _count_noise(config: TrainingConfig, privacy: RecordPrivacyConfig, noise_multiplier: float) -> float:
    """The paper's twentieth of the batch, but at least so much that it takes at most a quarter of the budget 1/z²."""
    return privacy.count_noise or max(config.batch_size / 20, noise_multiplier)


def _adapt(module: GradSampleModule, optimizer: DPOptimizer, privacy: RecordPrivacyConfig, count_noise: float) -> None:
    """Let the clipping norm follow the quantile, after a step (Andrew et al. 2021, arXiv 1905.03871, section 2).

    Of each record one bit, less a half: so a record moves the sum by a half, and the noise of `with_count` keeps bit
    and gradient together at the noise multiplier that is accounted for. Opacus 1.6 counts without taking off the half,
    and divides by the number of records in the batch, which is private: its own classes for this are not used.
    """
    bits = (_norms(module, optimizer) <= optimizer.max_grad_norm).double() - 0.5
    noise = torch.normal(0.0, count_noise, (), generator=optimizer.generator)
    share = float(bits.sum() + noise) / optimizer.expected_batch_size + 0.5
    log_norm = math.log(optimizer.max_grad_norm) - privacy.clipping_rate * (share - privacy.quantile)
    norm = math.exp(min(max(log_norm, math.log(SMALLEST_NORM)), math.log(LARGEST_NORM)))
    module.max_grad_norm = optimizer.max_grad_norm = norm


def _all_finite(module: GradSampleModule, optimizer: DPOptimizer) -> bool:
    """Whether no record's gradient holds NaN or infinity, which would pass every clipping."""
    ghost = isinstance(module, GradSampleModuleFastGradientClipping)
    gradients = [weights.grad for weights in optimizer.params] if ghost else optimizer.grad_samples
    return all(bool(torch.isfinite(gradient).all()) for gradient in gradients)


def _norms(module: GradSampleModule, optimizer: DPOptimizer) -> Float[torch.Tensor, " records"]:
    """L2 norm of each record's gradient over all weights, before clipping."""
    norms: torch.Tensor
    if isinstance(module, GradSampleModuleFastGradientClipping):
        norms = module.per_sample_gradient_norms
    else:
        by_weight = zip(optimizer.grad_samples, optimizer.params, strict=True)
        norms = torch.cat([g.reshape(len(g), p.numel()) for g, p in by_weight], dim=1).norm(dim=1)
    return norms
