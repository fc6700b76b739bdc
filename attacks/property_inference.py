"""Property inference: does the batch behind an update hold records of some kind, which the task never asked for?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import nn
from torch.func import functional_call

from attacks.broadcast import Parameters, parameters, resting
from attacks.observation import Records

Vectors = Float[np.ndarray, "updates params"]
Kind = Bool[np.ndarray, " population"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """How clients train, which whoever runs the federation knows: plain SGD over batches of its records."""

    records: int  # that a client trains on
    batch_size: int
    epochs: int
    learning_rate: float
    share: float = 0.5  # of the client's records that are of the kind, if any are


@dataclass(frozen=True, slots=True)
class PropertyGuess:
    """Log-odds that the client behind each update holds records of the kind, and how well that can be told at all.

    `auc` is measured on simulated updates of records that the classifier's own training never used; `simulated` of
    them, half with the kind.
    """

    scores: Float[np.ndarray, " updates"]
    auc: float
    simulated: int


def infer(
    architecture: nn.Module,
    weights: Float[np.ndarray, " params"],
    updates: Vectors,
    population: Records,
    kind: Kind,
    training: Training,
    rng: np.random.Generator,
    simulations: int = 200,
) -> PropertyGuess:
    """Passive property inference (Melis et al. 2019, arXiv 1805.04049, section 4.2) on the updates of one round.

    The attacker trains from the broadcast `weights` on draws from its own `population`, with and without records of the
    `kind`, and fits a logistic regression to the updates (scaled to length 1, then their principal components).
    One half of the population is for fitting, the other for `auc`. Unit: client. Vantage: a server that sees single
    updates and knows the recipe. Raises ValueError where either half has no record with the kind, or none without.
    """
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model, at = resting(architecture), parameters(architecture, weights)
    fitting = rng.permutation(len(population)) < len(population) // 2
    labels = np.arange(simulations) % 2 == 1
    seen, unseen = (
        _simulated(model, at, population[half], kind[half], training, labels, rng) for half in (fitting, ~fitting)
    )
    components = min(32, simulations // 4, updates.shape[1])
    judge = make_pipeline(PCA(components, svd_solver="full"), StandardScaler(), LogisticRegression(C=0.1))
    judge.fit(_unit(seen), labels)
    auc = float(roc_auc_score(labels, judge.decision_function(_unit(unseen))))
    return PropertyGuess(np.asarray(judge.decision_function(_unit(updates))), auc, simulations)


def _simulated(
    model: nn.Module,
    weights: Parameters,
    records: Records,
    kind: Kind,
    training: Training,
    labels: Bool[np.ndarray, " updates"],
    rng: np.random.Generator,
) -> Vectors:
    has, lacks = np.flatnonzero(kind), np.flatnonzero(~kind)
    if not len(has) or not len(lacks):
        raise ValueError(
            f"{len(has)} records are of the kind and {len(lacks)} are not: the attacker needs some of each"
        )
    updates = []
    for label in labels:
        some = round(training.share * training.records) if label else 0
        rows = np.concatenate([rng.choice(has, some), rng.choice(lacks, training.records - some)])
        updates.append(_trained(model, weights, records[rows], training, rng))
    return np.stack(updates)


def _trained(
    model: nn.Module, weights: Parameters, records: Records, training: Training, rng: np.random.Generator
) -> Float[np.ndarray, " params"]:
    """Broadcast weights minus those after local training."""
    names, now = list(weights), [part.clone().requires_grad_() for part in weights.values()]
    x, y = torch.tensor(records.x, dtype=now[0].dtype), torch.tensor(records.y, dtype=torch.long)
    for _ in range(training.epochs):
        for batch in torch.split(torch.from_numpy(rng.permutation(len(records))), training.batch_size):
            logits = functional_call(model, dict(zip(names, now, strict=True)), (x[batch],))
            steps = torch.autograd.grad(nn.functional.cross_entropy(logits, y[batch]), now)
            with torch.no_grad():
                for part, step in zip(now, steps, strict=True):
                    part -= training.learning_rate * step
    before, after = (torch.cat([part.detach().flatten() for part in parts]) for parts in (weights.values(), now))
    return (before - after).numpy()


def _unit(updates: Vectors) -> Vectors:
    return np.asarray(updates / np.linalg.norm(updates, axis=1, keepdims=True).clip(np.finfo(np.float32).tiny))
