"""Whether it matters to an attack that a PC does not compute what the device computes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from attacks.observation import Guess, NotFiniteError, Oracle
from clients.randomness import generator
from edge.artifact import Artifact
from edge.runtimes import CannotRunError, predict
from sim.folder import RunFolder, personal_name
from sim.judge import Judged, guess_all
from sim.observe import Target
from sim.results import LitertVerdict
from sim.scenario import Scenario
from sim.score import auc, auc_difference, own_cut
from sim.shipped import artifact

AIM = 0.01  # false alarms that the attacker sets its threshold for


def litert_verdict(
    scenario: Scenario, folder: RunFolder, targets: list[Target], judged: list[Judged]
) -> LitertVerdict | None:
    """The strongest attack on the personal models that ship, once on the device's answers and once on LiteRT's.

    None where no attack queries them, or LiteRT refuses the models.
    """
    shipped = scenario.edge.variants[0]
    target = next(t for t in targets if (t.vantage, t.precision, t.output) == ("query", shipped, scenario.edge.output))
    tried = [j for j in judged if (j.result.vantage, j.result.precision, j.result.output) == key_of(target)]
    if not tried:
        return None
    strongest = max(tried, key=lambda each: each.result.auc)
    attack, truth = strongest.result.attack, strongest.truth
    clients = [int(client) for client in dict.fromkeys(truth.client.tolist())]
    files = [artifact(scenario, folder, personal_name(client), shipped) for client in clients]
    pairs = zip(target.observations, files, strict=True)
    on_host = tuple(replace(seen, oracle=_litert(file)) for seen, file in pairs)
    purpose = f"{target.vantage}/{target.target}/{target.precision}"
    try:
        device = guess_all(scenario, attack, target.observations, purpose)
        host = guess_all(scenario, attack, on_host, purpose)
    except (CannotRunError, NotFiniteError):
        return None
    before, after = (np.concatenate([guess.scores for guess in guesses]) for guesses in (device, host))
    found = auc_difference(before, after, truth.member, truth.person, generator(scenario.seed, "difference", "litert"))
    changes = [_changed(one, other) for one, other in zip(device, host, strict=True)]
    return LitertVerdict(
        attack=attack,
        auc_device=auc(before, truth.member),
        auc_litert=auc(after, truth.member),
        auc_difference=found.difference,
        ci=found.ci,
        records=len(before),
        scores_differing=int((before != after).sum()),
        aim=AIM,
        verdicts_changed=None if None in changes else sum(change or 0 for change in changes),
    )


def key_of(target: Target) -> tuple[str, str, str | None]:
    """What tells a target's rows from others."""
    return target.vantage, target.precision, target.output


def _litert(file: Artifact) -> Oracle:
    return Oracle(lambda x: predict(file, x, "litert"), file.answers, file.resolution)


def _changed(device: Guess, host: Guess) -> int | None:
    """Records about which the attacker says something else, at the threshold it sets on its own records."""
    if device.population_scores is None:
        return None
    cut = own_cut(device.population_scores, AIM)
    return None if cut is None else int(((device.scores > cut) != (host.scores > cut)).sum())
