"""The attacks there are, and how one is launched."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from attacks import (
    aggregate,
    bavaria,
    cosine,
    difficulty,
    fedmia,
    gradient,
    lira,
    loss,
    loss_series,
    quantile,
    rmia,
    shadow,
    source,
    thresholds,
    update_loss,
)
from attacks.observation import Guess, Observation, Oracle, VantageLacksError


@dataclass(frozen=True, slots=True)
class Attack:
    """One membership-inference attack: a callable from an observation to a guess, and what it needs to be given."""

    name: str
    title: str
    needs: Literal["oracle", "rounds", "updates"]  # a model to query, the training rounds, or single updates in them
    references: bool  # whether it needs reference models
    run: Callable[[Observation, np.random.Generator], Guess]
    source: str
    client: bool = False  # whether it needs to know whose records the candidates are


ATTACKS: dict[str, Attack] = {
    attack.name: attack
    for attack in (
        Attack("loss", "Loss threshold", "oracle", False, loss.run, "Yeom et al. 2018, arXiv 1709.01604"),
        Attack(
            "lira",
            "Likelihood ratio (LiRA), offline, one-sided",
            "oracle",
            True,
            lira.run,
            "Carlini et al. 2022, arXiv 2112.03570",
        ),
        Attack(
            "rmia",
            "Robust inference (RMIA), offline",
            "oracle",
            True,
            rmia.run,
            "Zarifzadeh et al. 2024, arXiv 2312.03262",
        ),
        Attack(
            "cosine",
            "Cosine of gradient and update",
            "updates",
            False,
            cosine.run,
            "Li et al. 2023, arXiv 2202.12232",
            client=True,
        ),
        Attack(
            "loss-series",
            "Mean loss over the rounds",
            "rounds",
            False,
            loss_series.run,
            "Zari et al. 2021, arXiv 2111.00430",
        ),
        Attack(
            "loss-slope",
            "Fall of the loss over the rounds",
            "rounds",
            False,
            loss_series.slope,
            "Zari et al. 2021, arXiv 2111.00430",
        ),
        Attack(
            "gradient-norm",
            "Norm of the gradient over the rounds",
            "rounds",
            False,
            gradient.norm,
            "Nasr et al. 2019, arXiv 1812.00910",
        ),
        Attack(
            "aggregate-cosine",
            "Cosine of gradient and mean update",
            "rounds",
            False,
            aggregate.cosine,
            "Li et al. 2023, arXiv 2202.12232",
        ),
        Attack(
            "prolin",
            "Sums taken apart by who took part (PROLIN)",
            "rounds",
            False,
            aggregate.prolin,
            "Kerkouche et al. 2023, arXiv 2303.03908",
            client=True,
        ),
        Attack(
            "gradient-difference",
            "Update along the gradient (gradient difference, rescaled)",
            "updates",
            False,
            gradient.difference,
            "Li et al. 2023, arXiv 2202.12232",
            client=True,
        ),
        Attack(
            "cosine-calibrated",
            "Cosine above that of the round's other clients",
            "updates",
            False,
            cosine.calibrated,
            "Zhu et al. 2024, arXiv 2402.06289",
            client=True,
        ),
        Attack(
            "fedmia-loss",
            "FedMIA I: loss against the round's other clients",
            "updates",
            False,
            fedmia.by_loss,
            "Zhu et al. 2024, arXiv 2402.06289",
            client=True,
        ),
        Attack(
            "fedmia-cosine",
            "FedMIA II: cosine against the round's other clients",
            "updates",
            False,
            fedmia.by_cosine,
            "Zhu et al. 2024, arXiv 2402.06289",
            client=True,
        ),
        Attack(
            "update-loss",
            "Fall of the loss in the client's own training",
            "updates",
            False,
            update_loss.run,
            "Watson et al. 2022, arXiv 2111.08440",
            client=True,
        ),
        Attack(
            "source",
            "Source inference: loss at the client's model against the best other",
            "updates",
            False,
            source.run,
            "Hu et al. 2021, arXiv 2109.05659",
            client=True,
        ),
        Attack(
            "confidence",
            "Largest probability",
            "oracle",
            False,
            thresholds.confidence,
            "Salem et al. 2019, arXiv 1806.01246",
        ),
        Attack(
            "entropy",
            "Entropy of the answer",
            "oracle",
            False,
            thresholds.entropy,
            "Salem et al. 2019, arXiv 1806.01246",
        ),
        Attack(
            "modified-entropy",
            "Modified entropy of the answer",
            "oracle",
            False,
            thresholds.modified_entropy,
            "Song and Mittal 2021, arXiv 2003.10595",
        ),
        Attack(
            "gap",
            "Whether the answer is the label (gap attack)",
            "oracle",
            False,
            thresholds.gap,
            "Yeom et al. 2018, arXiv 1709.01604",
        ),
        Attack(
            "loss-per-class",
            "Loss among the class's own records",
            "oracle",
            False,
            thresholds.loss_per_class,
            "Song and Mittal 2021, arXiv 2003.10595",
        ),
        Attack(
            "quantile",
            "Confidence above that of records like it (quantile regression)",
            "oracle",
            False,
            quantile.run,
            "Bertran et al. 2023, arXiv 2307.03694",
        ),
        Attack(
            "calibration",
            "Loss below the references' (difficulty calibration)",
            "oracle",
            True,
            difficulty.calibration,
            "Watson et al. 2022, arXiv 2111.08440",
        ),
        Attack(
            "attack-r",
            "Share of references with a higher loss (Attack R)",
            "oracle",
            True,
            difficulty.attack_r,
            "Ye et al. 2022, arXiv 2111.09679",
        ),
        Attack(
            "lira-per-record",
            "Likelihood ratio (LiRA), offline, a deviation per record",
            "oracle",
            True,
            lira.run_per_record,
            "Carlini et al. 2022, arXiv 2112.03570",
        ),
        Attack(
            "bavaria",
            "Likelihood ratio with Bayesian variance (BaVarIA), offline, one-sided",
            "oracle",
            True,
            bavaria.run,
            "Brännvall 2026, arXiv 2603.11799",
        ),
        Attack(
            "shadow",
            "Classifier taught on shadow models",
            "oracle",
            True,
            shadow.run,
            "Shokri et al. 2017, arXiv 1610.05820",
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Recovery:
    """An attack that gets something back whole, and so has no score per record: what it is, and what it needs."""

    name: str
    title: str
    needs: str
    source: str


RECOVERIES: dict[str, Recovery] = {
    recovery.name: recovery
    for recovery in (
        Recovery(
            "mask-recovery",
            "Search for the seed of one mask: a single client's update out of a masked sum",
            "masked updates and a colluding client",
            "flwr issue 7522",
        ),
    )
}


def launch(name: str, observation: Observation, rng: np.random.Generator) -> Guess:
    """Run attack `name` and fill in what it cost: CPU seconds of this process, queries per candidate, references.

    Queries are the distinct records this attack asked the oracle about, over the number of candidates; another
    attack's questions are not counted again. Raises ValueError for a name that is not in `ATTACKS`, VantageLacksError
    where the vantage does not see what the attack needs, FloatingPointError where a candidate's score is not finite.
    """
    if name not in ATTACKS:
        raise ValueError(f"there is no attack '{name}'; there are: {', '.join(ATTACKS)}")
    attack = ATTACKS[name]
    _refuse(attack, observation)
    # A fresh count on top of the shared notes: what another attack asked before does not make this one cheaper.
    asked = observation.oracle and Oracle(observation.oracle, observation.oracle.output, observation.oracle.resolution)
    started = time.process_time()
    guess = attack.run(replace(observation, oracle=asked), rng)
    seconds = time.process_time() - started
    if bad := int((~np.isfinite(guess.scores)).sum()):
        raise FloatingPointError(f"attack '{name}' gave {bad} of {len(guess.scores)} candidates no finite score")
    return replace(
        guess,
        queries_per_record=asked.queries / len(observation.candidates) if asked else 0.0,
        references=len(observation.references) if attack.references else 0,
        cpu_seconds=seconds,
    )


def _refuse(attack: Attack, observation: Observation) -> None:
    has = {
        "model to query": attack.needs != "oracle" or observation.oracle is not None,
        "reference models": not attack.references or len(observation.references) > 0,
        "training rounds": attack.needs == "oracle" or len(observation.rounds) > 0,
        "updates of single clients": attack.needs != "updates" or any(seen.updates for seen in observation.rounds),
        "model architecture": attack.needs == "oracle" or observation.architecture is not None,
        "client that the candidates belong to": not attack.client or observation.client is not None,
        "candidates": len(observation.candidates) > 0,
    }
    for thing in (thing for thing, there in has.items() if not there):
        raise VantageLacksError(f"attack '{attack.name}' needs {thing}, vantage '{observation.vantage}' has no {thing}")
