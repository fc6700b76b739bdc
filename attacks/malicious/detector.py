"""Detector neurons: every hidden unit made to fire for one record, so that its movement says who trained on that."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import nn

from attacks.broadcast import parameters, resting
from attacks.malicious.layers import Detecting, detecting_or_refuse, inputs, to_vector
from attacks.malicious.targets import Scores, answer, in_order, score_each
from attacks.observation import Guess, Observation, Probe, Records

NAME = "detector-neuron"
RIDGE = 0.1  # of the mean variance, added to each feature's own: the population has fewer records than features
TINY = float(np.finfo(np.float32).tiny)
JUST_BELOW = (0.9, 0.98)  # of its own record's response: where the threshold lies
Vector = Float[np.ndarray, " params"]
Features = Float[np.ndarray, "records features"]


def units(model: nn.Module) -> int:
    """How many records one broadcast can watch for. Raises VantageLacksError as `layers.detecting_or_refuse`."""
    layer = model.get_submodule(detecting_or_refuse(NAME, model).first)
    assert isinstance(layer, nn.Linear)
    return layer.out_features


def craft(
    model: nn.Module, weights: Vector, targets: Records, population: Records, part: int, strength: float
) -> Vector:
    """The weights w with their units turned into detectors of the `part`-th so many targets, as `_watched`.

    A unit's direction is the target's features less the population's mean, whitened by the population; its threshold
    lies just below the target's own response, the further up the stronger the population's strongest. It counts against
    the target's label, by `strength`: a member then has a large loss, and its whole gradient goes through the unit.
    Spare units are dead. The idea is AMI's (Nguyen et al. 2023, arXiv 2302.12685), who train their units; these are
    solved for.
    """
    still, site = resting(model), detecting_or_refuse(NAME, model)
    count = units(model)
    chosen = targets[_watched(targets, count, part)]
    crafted = {name: part.clone() for name, part in parameters(still, weights).items()}
    direction, bias = _detectors(
        inputs(still, weights, site.first, chosen), inputs(still, weights, site.first, population)
    )
    width = len(chosen)
    incoming, threshold = crafted[f"{site.first}.weight"].zero_(), crafted[f"{site.first}.bias"].fill_(-1.0)
    outgoing = crafted[f"{site.second}.weight"].zero_()
    incoming[:width], threshold[:width] = torch.tensor(direction).float(), torch.tensor(bias).float()
    outgoing[torch.tensor(chosen.y, dtype=torch.long), torch.arange(width)] = -strength
    return to_vector(crafted)


def run(observation: Observation, rng: np.random.Generator) -> Guess:  # noqa: ARG001  # nothing is left to chance
    """Score: the cosine of what the record's unit learnt and the record, both less the population's mean.

    A unit's weights move by a sum of the features of what fired it, and its bias by how many did. Less the bias times
    the mean, that is along the record for a member, near a right angle to it for whatever else fired the unit, and 0 if
    nothing did. Unit: record. Vantage: a server that deviates. Under secure aggregation the mean is all it has, and
    what moved tells of members of the federation. Records that no unit was left for score 0.
    """
    assert observation.architecture is not None
    model = resting(observation.architecture)
    site, count = detecting_or_refuse(NAME, model), units(model)

    def measure(probe: Probe, client: int, records: Records) -> Scores:
        features = inputs(model, probe.weights, site.first, records)
        mean = inputs(model, probe.weights, site.first, observation.population).mean(axis=0)
        scores, watched = np.full(len(records), np.nan), _watched(records, count, probe.part)
        scores[watched] = _learnt(model, site, answer(probe, client), features[watched], mean)
        return scores

    return score_each(NAME, observation, measure, neutral=0.0)


def covered(observation: Observation) -> Bool[np.ndarray, " candidates"]:
    """Which candidates a unit was left for, in a broadcast that was answered."""
    assert observation.architecture is not None
    count = units(observation.architecture)

    def watched(probe: Probe, client: int, records: Records) -> Scores:  # noqa: ARG001  # as score_each asks
        told = np.zeros(len(records))
        told[_watched(records, count, probe.part)] = 1.0
        return told

    return score_each(NAME, observation, watched, neutral=0.0).scores > 0


def _watched(records: Records, count: int, part: int) -> Int[np.ndarray, " watched"]:
    """Which records the units of one broadcast watch for, unit by unit."""
    return in_order(records)[part * count : (part + 1) * count]


def _detectors(targets: Features, population: Features) -> tuple[Features, Float[np.ndarray, " targets"]]:
    """A direction for each target, along which its own response is 1 and the population's mean 0, and a bias."""
    mean = population.mean(axis=0)
    spread = np.cov(population, rowvar=False, ddof=0).reshape(len(mean), len(mean))
    spread += (RIDGE * float(np.trace(spread)) / len(mean) + TINY) * np.eye(len(mean))
    centred = targets - mean
    direction = np.linalg.solve(spread, centred.T).T
    direction /= np.maximum((direction * centred).sum(axis=1, keepdims=True), TINY)
    responses = (population - mean) @ direction.T
    responses[_same(population, targets)] = -np.inf
    nearest = responses.max(axis=0, initial=0.0)
    threshold = np.clip((1 + nearest) / 2, *JUST_BELOW)
    return direction, -(direction @ mean) - threshold


def _same(population: Features, targets: Features) -> Bool[np.ndarray, "population targets"]:
    """Whose features are the target's: one of the attacker's own records does not stand in its own way."""
    keys = [record.tobytes() for record in population]
    pairs = [[key == record.tobytes() for record in targets] for key in keys]
    return np.array(pairs, dtype=bool).reshape(len(population), len(targets))


def _learnt(
    model: nn.Module, site: Detecting, update: Vector, features: Features, mean: Float[np.ndarray, " features"]
) -> Scores:
    """Record r against unit r."""
    moved, count = parameters(model, update), len(features)
    incoming, bias = (moved[f"{site.first}.{part}"][:count].double().numpy() for part in ("weight", "bias"))
    learnt, record = incoming - np.outer(bias, mean), features - mean
    lengths = np.linalg.norm(learnt, axis=1) * np.linalg.norm(record, axis=1)
    dot = (learnt * record).sum(axis=1)
    return np.asarray(np.divide(dot, lengths, out=np.zeros(count), where=lengths > 0))
