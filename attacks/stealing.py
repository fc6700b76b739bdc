"""Model stealing: a surrogate learns the target's answers, and is then attacked instead of the target."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import nn

from attacks import signals
from attacks.broadcast import answers, resting
from attacks.label_only import alike, calibrated
from attacks.observation import Guess, NotFiniteError, Observation, Records

EPOCHS = 30
LEARNING_RATE = 0.01
_BATCH = 32

Features = Float[np.ndarray, "records ..."]
Probabilities = Float[np.ndarray, "records classes"]
Half = Bool[np.ndarray, " population"]
Values = Float[np.ndarray, " records"]


def run(observation: Observation, rng: np.random.Generator, epochs: int = EPOCHS) -> Guess:
    """Score: minus the loss of surrogates that learnt the target's answers to the attacker's own records. Unit: record.

    Jagielski et al. 2023 (arXiv 2303.03446): a student's answers tell its teacher's members, though it never saw them.
    The target is not asked about one candidate: its queries are the attacker's own records, once each. Where references
    answer with confidences, their mean loss is set against it, see `label_only.calibrated`.

    Two surrogates learn half of the own records each. A candidate's score is the mean of both, an own record's is from
    the one that did not learn it; so it spreads a little wider, and a threshold set on it errs towards too few alarms.
    How well that steals: with 254 records each, surrogates of the quickstart's personal models (14,887 parameters) give
    the target's label to 93 to 97 % of the other half, after two seconds each.

    Vantage: whoever can query the model, for labels too, and knows its architecture.
    """
    oracle, own, candidates = observation.oracle, observation.population, observation.candidates
    assert oracle is not None
    first = rng.permutation(len(own)) < len(own) // 2
    by_first, by_second = (_losses(observation, each, epochs, rng) for each in (first, ~first))
    split = len(candidates)
    mean = (by_first[:split] + by_second[:split]) / 2
    losses = np.concatenate([mean, np.where(first, by_second[split:], by_first[split:])])
    references = alike(observation) if oracle.output != "label" else ()
    both = candidates.joined(own)
    others = [-signals.loss(each.predict(both.x), both.y, oracle.output, oracle.resolution) for each in references]
    return calibrated(observation, np.arange(len(own)), -losses, references, others)


def _losses(observation: Observation, learnt: Half, epochs: int, rng: np.random.Generator) -> Values:
    """Losses of candidates, then of the population, by the surrogate that learnt some own records' answers."""
    oracle, architecture = observation.oracle, observation.architecture
    assert oracle is not None
    assert architecture is not None
    own = observation.population
    taught = signals.shares(oracle(own.x), oracle.output)[0]
    surrogate = distilled(architecture, own.x[learnt], taught[learnt], rng, epochs)
    return loss(surrogate, observation.candidates.joined(own))


def loss(surrogate: nn.Module, records: Records) -> Values:
    """Cross-entropy of a surrogate, per record."""
    return signals.loss(answers(surrogate, dict(surrogate.named_parameters()), records.x), records.y)


def distilled(
    architecture: nn.Module, x: Features, taught: Probabilities, rng: np.random.Generator, epochs: int = EPOCHS
) -> nn.Module:
    """A model of this architecture, from the weights in it, that learnt to answer `x` with `taught`.

    Cross-entropy against the answers (Hinton et al. 2015, arXiv 1503.02531, at temperature 1), by Adam with a rate that
    rises and falls. It learns in evaluation mode: drop-out would blur what there is to steal. Raises NotFiniteError
    where it diverges.
    """
    surrogate = resting(architecture)
    inputs, targets = torch.tensor(x), torch.tensor(taught, dtype=torch.float32)
    optimiser = torch.optim.Adam(surrogate.parameters())
    steps = epochs * -(-len(x) // _BATCH)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps)
    for _ in range(epochs):
        order = torch.tensor(rng.permutation(len(x)))
        for start in range(0, len(x), _BATCH):
            batch = order[start : start + _BATCH]
            optimiser.zero_grad()
            wrong = nn.functional.cross_entropy(surrogate(inputs[batch]), targets[batch])
            wrong.backward()  # type: ignore[no-untyped-call]  # torch leaves Tensor.backward untyped
            optimiser.step()
            rate.step()
    if not all(bool(torch.isfinite(weights).all()) for weights in surrogate.parameters()):
        raise NotFiniteError("the attacker's surrogate left the finite numbers while it learnt the target's answers")
    return surrogate
