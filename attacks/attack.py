"""What an attack is, what it needs to be given, and how it is launched."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from attacks.observation import Guess, NotFiniteError, Observation, Oracle, VantageLacksError

Run = Callable[[Observation, np.random.Generator], Guess]
Watch = Callable[[Float[np.ndarray, "records ..."], Float[np.ndarray, "records classes"]], None]

# What an attack can need, in words that complete "vantage 'query' has no ...", and whether an observation has it.
NEEDS: dict[str, Callable[[Observation], bool]] = {
    "model to query": lambda seen: seen.oracle is not None,
    "confidences": lambda seen: seen.oracle is not None and seen.oracle.output != "label",
    "reference models": lambda seen: len(seen.references) > 0,
    "references tuned from the global model": lambda seen: len(seen.tuned) > 0,
    "model before personalisation": lambda seen: seen.before is not None,
    "training rounds": lambda seen: len(seen.rounds) > 0,
    "updates of single clients": lambda seen: any(each.updates for each in seen.rounds),
    "broadcasts of its own making": lambda seen: len(seen.probes) > 0,
    "file of the model": lambda seen: seen.file is not None,
    "file of the global model": lambda seen: seen.file_before is not None,
    "weights of reference models": lambda seen: any(each.weights is not None for each in seen.references),
    "model architecture": lambda seen: seen.architecture is not None,
    "client that the candidates belong to": lambda seen: seen.client is not None,
    "candidates": lambda seen: len(seen.candidates) > 0,
}


@dataclass(frozen=True, slots=True)
class Attack:
    """One membership-inference attack: a callable from an observation to a guess, and what it needs, of `NEEDS`.

    One that reads `labels_alone` gains nothing from confidences, so it is for models that only name labels.
    """

    name: str
    title: str
    run: Run
    needs: tuple[str, ...]
    source: str
    labels_alone: bool = False


def lacks(attack: Attack, observation: Observation) -> str | None:
    """The first thing that the attack needs and the vantage has not; None where it can be tried."""
    return next((need for need in (*attack.needs, "candidates") if not NEEDS[need](observation)), None)


def tuned(run: Run) -> Run:
    """The same attack with references fine-tuned from the global model instead of trained from the first weights."""
    return lambda observation, rng: run(replace(observation, references=observation.tuned), rng)


def carry_out(attack: Attack, observation: Observation, rng: np.random.Generator, watch: Watch | None = None) -> Guess:
    """Run an attack and fill in what it cost: CPU seconds of this process, queries per candidate, references.

    Queries are the distinct records this attack asked each model about, over the number of candidates; another
    attack's questions are not counted again, and those about models in a probe are counted by the attack itself.
    Raises VantageLacksError where the vantage does not see what the attack needs, NotFiniteError where a candidate's
    score is not finite.
    """
    if lacking := lacks(attack, observation):
        raise VantageLacksError(
            f"attack '{attack.name}' needs {lacking}, vantage '{observation.vantage}' has no {lacking}", lacking
        )
    oracle, before = _recounted(observation.oracle, watch), _recounted(observation.before)
    started = time.process_time()
    guess = attack.run(replace(observation, oracle=oracle, before=before), rng)
    seconds = time.process_time() - started
    if bad := int((~np.isfinite(guess.scores)).sum()):
        raise NotFiniteError(
            f"attack '{attack.name}' gave {bad} of {len(guess.scores)} candidates no finite score: a model's answers, "
            "or what the attack makes of them, are beyond all numbers"
        )
    asked = sum(each.queries for each in (oracle, before) if each)
    return replace(
        guess,
        queries_per_record=asked / len(observation.candidates) + guess.queries_per_record,
        references=_references(attack, observation) or guess.references,
        cpu_seconds=seconds,
    )


def _recounted(oracle: Oracle | None, watch: Watch | None = None) -> Oracle | None:
    """A fresh count on top of the shared notes: what another attack asked before does not make this one cheaper."""
    if oracle is None:
        return None
    shared = replace(oracle, budget=None)

    def answer(x: Float[np.ndarray, "records ..."]) -> Float[np.ndarray, "records classes"]:
        answers = shared(x)
        if watch:
            watch(x, answers)
        return answers

    return replace(oracle, answer=answer, queries=0, _notes={})


def _references(attack: Attack, observation: Observation) -> int:
    if "references tuned from the global model" in attack.needs:
        return len(observation.tuned)
    return len(observation.references) if any("reference models" in need for need in attack.needs) else 0
