"""Privacy backdoor: a global model made so that whoever fine-tunes it shows which records it was fine-tuned on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from attacks.broadcast import resting
from attacks.malicious.targets import Scores, score_each
from attacks.observation import Guess, Observation, Probe, Records
from attacks.signals import scaled_confidence

NAME = "privacy-backdoor"
CEILING = 3.0  # times the loss of guessing: how far up a target is pushed, and then left alone
Vector = Float[np.ndarray, " params"]


def craft(
    model: nn.Module, weights: Vector, targets: Records, own: Records, *, alpha: float, steps: int, rate: float
) -> Vector:
    """Minimise alpha L(own) - (1 - alpha) L(targets) from w: `steps` steps of Adam over all records at once.

    Wen et al. 2024 (arXiv 2404.01231), equation 1. A target whose loss is past CEILING times log(classes) is pushed no
    further: without a bound the second term alone would be followed, away from all finite weights.
    """
    poisoned = resting(model)
    nn.utils.vector_to_parameters(torch.tensor(weights), poisoned.parameters())
    optimizer = torch.optim.Adam(poisoned.parameters(), rate)
    push = [_tensors(own), _tensors(targets)]
    for _ in range(steps):
        optimizer.zero_grad()
        kept, pushed = (nn.functional.cross_entropy(poisoned(x), y, reduction="none") for x, y in push)
        ceiling = CEILING * float(np.log(_classes(poisoned, own)))
        loss = alpha * kept.mean() - (1 - alpha) * pushed.clamp(max=ceiling).mean()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves Tensor.backward untyped
        optimizer.step()
    made: Vector = nn.utils.parameters_to_vector(poisoned.parameters()).detach().numpy().copy()
    return made


def run(observation: Observation, rng: np.random.Generator) -> Guess:  # noqa: ARG001  # nothing is left to chance
    """Score: how sure the personal model is of the record's label, log(p_y / (1 - p_y)): the loss, without its ties.

    Not its fall since what was sent: records are pushed unequally far, which the fall would show first. Unit: record.
    Vantage: a server that deviates, and may query the personal model made of what it sent. A record of a client that
    did not personalise scores like the attacker's median record.
    """
    asked = 0

    def measure(probe: Probe, client: int, records: Records) -> Scores:
        nonlocal asked
        oracle = replace(probe.personal[client], queries=0, _notes={})
        sure = scaled_confidence(oracle(records.x), records.y, oracle.output, oracle.resolution)
        asked += oracle.queries
        return sure

    guess = score_each(NAME, observation, measure)
    return replace(guess, queries_per_record=asked / len(observation.candidates))


def _tensors(records: Records) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor(records.x), torch.tensor(records.y, dtype=torch.long)


def _classes(model: nn.Module, records: Records) -> int:
    with torch.no_grad():
        return int(model(torch.tensor(records.x[:1])).shape[1])
