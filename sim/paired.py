"""Differences between two models, paired: the same attack asks both about the same people's records."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from clients.randomness import generator
from sim.judge import Judged
from sim.report.words import model_of, strongest
from sim.results import Comparison, Question
from sim.scenario import Scenario
from sim.score import auc_difference
from sim.shipped import of_devices

_Model = tuple[str, str, str]  # vantage, target, precision

_GLOBAL: _Model = ("global-user", "global", "float32")
_PERSONAL: _Model = ("query", "personal", "float32")


def comparisons(scenario: Scenario, judged: list[Judged]) -> list[Comparison]:
    """What personalising, and what going onto a device, does to every attack that was tried on both models."""
    sides: list[tuple[Question, _Model, _Model]] = [("personalising", _GLOBAL, _PERSONAL)]
    sides += [("rounding", _GLOBAL, ("global-user", "global", variant)) for variant in scenario.edge.variants]
    sides += [("rounding", _PERSONAL, ("query", "personal", precision)) for precision in of_devices(scenario)]
    pairs = [*_pairs(judged, sides), *_server_and_user(judged)]
    compared = (_compare(scenario, question, before, after) for question, before, after in pairs)
    return [each for each in compared if each is not None]


def _pairs(
    judged: list[Judged], sides: list[tuple[Question, _Model, _Model]]
) -> Iterator[tuple[Question, Judged, Judged]]:
    found: dict[tuple[str, ...], Judged] = {
        (j.result.attack, j.result.vantage, j.result.target, j.result.precision): j
        for j in judged
        if j.result.output != "label"
    }
    for question, before, after in sides:
        for attack in dict.fromkeys(each.result.attack for each in judged):
            if (attack, *before) in found and (attack, *after) in found:
                yield question, found[attack, *before], found[attack, *after]


def _server_and_user(judged: list[Judged]) -> Iterator[tuple[Question, Judged, Judged]]:
    """The strongest attack on the global model's answers, and the strongest of a server that keeps the protocol."""
    honest = [each for each in judged if each.result.vantage in ("server", "aggregator")]
    users = [
        each
        for each in judged
        if each.result.output != "label" and (each.result.vantage, each.result.target, each.result.precision) == _GLOBAL
    ]
    inside, outside = (strongest([each.result for each in side]) for side in (honest, users))
    if inside is not None and outside is not None:
        yield (
            "server",
            next(each for each in users if each.result is outside),
            next(each for each in honest if each.result is inside),
        )


def _compare(scenario: Scenario, question: Question, before: Judged, after: Judged) -> Comparison | None:
    """On the records of clients that trained both models: for theirs alone the truth about both is the same.

    None where these have no members, or no non-members.
    """
    attack, models = after.result.attack, (model_of(before.result), model_of(after.result))
    rng = generator(scenario.seed, "difference", question, attack, *models)
    shared = min(len(before.scores), len(after.scores))  # participants come first, and newcomers are in no global model
    both = np.flatnonzero(before.truth.trained[:shared] & after.truth.trained[:shared])
    truth = after.truth.of(both)
    if not truth.both_sides:
        return None
    found = auc_difference(before.scores[both], after.scores[both], truth.member, truth.person, rng)
    return Comparison(
        attack=attack,
        question=question,
        attack_before=before.result.attack if before.result.attack != attack else "",
        before=models[0],
        after=models[1],
        auc_difference=found.difference,
        ci=found.ci,
    )
