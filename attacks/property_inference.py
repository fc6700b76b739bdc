"""Property inference: does the batch behind an update hold records of some kind, which the task never asked for?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from attacks.observation import Records

Vector = Float[np.ndarray, " params"]
Vectors = Float[np.ndarray, "updates params"]
Kind = Bool[np.ndarray, " population"]
Train = Callable[[Records, np.random.Generator], Vector]


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """How the attacker makes updates of its own, by the recipe that whoever runs the federation knows.

    A client that has the property holds a share of the kind drawn evenly from `present`, another one from `absent`.
    """

    train: Train  # one client's records -> broadcast weights minus those after local training
    records: int  # that a client trains on
    present: tuple[float, float] = (0.5, 0.5)
    absent: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True, slots=True)
class PropertyGuess:
    """Log-odds that the client behind each update has the property, and how well that can be told at all.

    `auc` is measured on simulated updates of records that the classifier's own training never used; `simulated` of
    them, half with the property.
    """

    scores: Float[np.ndarray, " updates"]
    auc: float
    simulated: int


def infer(
    updates: Vectors,
    population: Records,
    kind: Kind,
    simulation: Simulation,
    rng: np.random.Generator,
    simulations: int = 200,
) -> PropertyGuess:
    """Passive property inference (Melis et al. 2019, arXiv 1805.04049, section 4.2) on the updates of one round.

    The attacker trains on draws from its own `population`, of which some are of the `kind`, and fits a logistic
    regression to the updates (scaled to length 1, then their principal components). One half of the population is for
    fitting, the other for `auc`. Unit: client. Vantage: a server that sees single updates and knows the recipe. Raises
    ValueError where either half has no record of the kind, or none of another.
    """
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    fitting = rng.permutation(len(population)) < len(population) // 2
    labels = np.arange(simulations) % 2 == 1
    seen, unseen = (_simulated(population[half], kind[half], simulation, labels, rng) for half in (fitting, ~fitting))
    components = min(32, simulations // 4, updates.shape[1])
    judge = make_pipeline(PCA(components, svd_solver="full"), StandardScaler(), LogisticRegression(C=0.1))
    judge.fit(_unit(seen), labels)
    auc = float(roc_auc_score(labels, judge.decision_function(_unit(unseen))))
    return PropertyGuess(np.asarray(judge.decision_function(_unit(updates))), auc, simulations)


def _simulated(
    records: Records,
    kind: Kind,
    simulation: Simulation,
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
        share = rng.uniform(*(simulation.present if label else simulation.absent))
        some = round(share * simulation.records)
        rows = np.concatenate([rng.choice(has, some), rng.choice(lacks, simulation.records - some)])
        updates.append(simulation.train(records[rows], rng))
    return np.stack(updates)


def _unit(updates: Vectors) -> Vectors:
    return np.asarray(updates / np.linalg.norm(updates, axis=1, keepdims=True).clip(np.finfo(np.float32).tiny))
