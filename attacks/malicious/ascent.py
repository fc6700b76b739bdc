"""Gradient ascent: a model that has just forgotten some records, and the clients that remember them."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import nn
from torch.func import functional_call, grad

from attacks.broadcast import Parameters, answers, parameters, resting
from attacks.malicious.targets import Scores, answer, score_each
from attacks.observation import Guess, Observation, Probe, Records
from attacks.signals import loss

NAME = "gradient-ascent"
Vector = Float[np.ndarray, " params"]


def craft(model: nn.Module, weights: Vector, targets: Records, step: float) -> Vector:
    """The weights w plus `step` times the gradient of the targets' mean loss, that scaled to the length of w.

    Nasr et al. 2019 (arXiv 1812.00910), section III-C. They ascend by a multiple of the learning rate; as a share of
    the weights' length the same step does the same to a model that fits its records well and to one that does not.
    """
    resting_model = resting(model)
    at = parameters(resting_model, weights)

    def mean_loss(w: Parameters) -> torch.Tensor:
        logits = functional_call(resting_model, w, (torch.tensor(targets.x),))
        return nn.functional.cross_entropy(logits, torch.tensor(targets.y, dtype=torch.long))

    slope = torch.cat([part.flatten() for part in grad(mean_loss)(at).values()]).double().numpy()
    length = float(np.linalg.norm(slope))
    along = slope * (float(np.linalg.norm(weights)) / length) if length else slope
    return np.asarray(weights + step * along, dtype=np.float32)


def run(observation: Observation, rng: np.random.Generator) -> Guess:  # noqa: ARG001  # nothing is left to chance
    """Score: l(x; w) - l(x; w_c), how much further down a client's training brought the loss than the true model's.

    Not l(x; w_adv) - l(x; w_c): all targets are pushed at once, the hard ones furthest, and so fall furthest whether
    members or not. Unit: record. Vantage: a server that deviates. Under secure aggregation all clients are sent the
    same, and the mean of their models takes the place of a client's own: it tells of members of the federation. A
    record of a client that did not answer scores like the attacker's median record. Nasr et al. 2019 (arXiv
    1812.00910).
    """
    assert observation.architecture is not None
    model = resting(observation.architecture)

    def measure(probe: Probe, client: int, records: Records) -> Scores:
        after = probe.sent[client] - answer(probe, client)
        return np.asarray(_losses(model, probe.weights, records) - _losses(model, after, records))

    return score_each(NAME, observation, measure)


def _losses(model: nn.Module, weights: Vector, records: Records) -> Scores:
    return loss(answers(model, parameters(model, weights), records.x), records.y)
