"""Every attack that the auditor's means allow, on the file, on its float parent and on both, judged with the truth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float

from attacks.attack import Attack, carry_out
from attacks.audited import AUDITED
from attacks.augmented import COPIES
from attacks.label_only import FEWEST_OWN
from attacks.observation import Observation, Oracle, Reference, VantageLacksError
from attacks.registry import ATTACKS
from clients.randomness import generator
from sim.audit.ask import Asked
from sim.audit.records import Case
from sim.audit.results import Answered, AuditAttack, Untried, Which
from sim.audit.task import Form
from sim.observe import named
from sim.progress import Progress
from sim.score import score
from sim.verdict import Tried, adjusted, by_person, by_record, luck

PLAIN = ("loss", "confidence", "entropy", "modified-entropy")
OWN = ("loss-per-class", "quantile")  # need records of the attacker's own
CALIBRATED = ("rmia", "lira", "bavaria", "calibration")
LABELS = ("gap", "label-copies")
ADAPTIVE = ("label-noise", "label-boundary")  # each question depends on the last answer: only with --slow
PAIR = ("pair-joint", "pair-difference", "pair-ratio")
NUMBERS = ("error", "error-relative")
NUMBERS_CALIBRATED = ("error-calibrated", "error-likelihood")
NUMBERS_PAIR = ("pair-error-joint", "pair-error-ratio")
KNOWN: dict[str, Attack] = {**ATTACKS, **AUDITED}

FEWEST_FOR_OWN = 20
PATIENCE = 300.0  # seconds that one label-only attack may ask for without --slow
SEVERAL = 8  # numbers in a target that has a variance worth speaking of

Scores = Float[np.ndarray, " records"]


@dataclass(frozen=True, slots=True)
class Target:
    """One model that is attacked, and how it is read."""

    which: Which
    asked: Asked
    form: Form

    def oracle(self) -> Oracle:
        """The model as attacks ask it."""
        return Oracle(lambda x: self.form.read(self.asked(x)), self.form.output, self.form.resolution)


@dataclass(frozen=True, slots=True)
class Means:
    """What the auditor has beside the file."""

    references: tuple[Reference, ...]
    float_model: Target | None
    slow: bool
    seed: int


@dataclass(frozen=True, slots=True)
class Judged:
    """One attack's figures, and its score of every candidate."""

    result: AuditAttack
    scores: Scores


@dataclass(frozen=True, slots=True)
class _Try:
    attack: str
    which: Which
    output: Answered
    observation: Observation


def attempt(case: Case, target: Target, means: Means, progress: Progress) -> tuple[list[Judged], list[Untried]]:
    """All attacks, strongest means first asked for last; and those that could not be made, with the reason."""
    tries, judged, untried = list(_tries(case, target, means)), list[Judged](), list(_without(case, target, means))
    with progress.stage("attacking", len(tries)):
        for each in tries:
            try:
                judged.append(_judge(case, each, means.seed))
                progress.step(f"{each.attack}: AUC {judged[-1].result.auc:.3f}")
            except VantageLacksError as lack:
                untried.append(Untried(attack=each.attack, reason=str(lack)))
                progress.step()
    return _counted(case, judged, means.seed), untried


def _tries(case: Case, target: Target, means: Means) -> Iterator[_Try]:
    seen = Observation(
        vantage="query",
        candidates=case.candidates,
        population=case.population,
        oracle=target.oracle(),
        references=means.references,
    )
    classes = case.task in ("classes", "binary")
    output: Answered = target.form.output if classes else "numbers"
    for name in _names(case, means):
        yield _Try(name, target.which, output, seen)
    if classes:
        labels = replace(seen, oracle=named(seen.oracle), references=_labelling(seen.references))
        for name in (*LABELS[:1], *([] if _too_slow(case, target, means) else LABELS[1:]), *_adaptive(means)):
            yield _Try(name, target.which, "label", labels)
    if parent := means.float_model:
        alone = replace(seen, oracle=parent.oracle(), references=())
        parents: Answered = parent.form.output if classes else "numbers"
        yield _Try("loss" if classes else "error", parent.which, parents, alone)
        pair = replace(alone, before=seen.oracle)
        for name in PAIR if classes else NUMBERS_PAIR:
            yield _Try(name, "pair", parents, pair)


def _names(case: Case, means: Means) -> list[str]:
    if case.task in ("classes", "binary"):
        own = OWN if len(case.population) >= FEWEST_FOR_OWN else ()
        return [*PLAIN, *own, *(CALIBRATED if means.references else ())]
    relative = NUMBERS if case.candidates.y.shape[1] >= SEVERAL else NUMBERS[:1]
    return [*relative, *(NUMBERS_CALIBRATED if means.references else ())]


def _adaptive(means: Means) -> tuple[str, ...]:
    return ADAPTIVE if means.slow else ()


def _labelling(references: tuple[Reference, ...]) -> tuple[Reference, ...]:
    """The same references, naming labels and nothing else."""
    found = []
    for each in references:
        labels = named(Oracle(each.predict))
        assert labels is not None
        found.append(replace(each, predict=labels))
    return tuple(found)


def _seconds_for_copies(case: Case, target: Target) -> float:
    own = min(len(case.population), max(len(case.candidates), FEWEST_OWN))
    return (len(case.candidates) + own) * (COPIES + 1) * target.asked.pace


def _too_slow(case: Case, target: Target, means: Means) -> bool:
    return not means.slow and _seconds_for_copies(case, target) > PATIENCE


def _without(case: Case, target: Target, means: Means) -> Iterator[Untried]:
    """What was left out for want of something that the user can give."""
    classes = case.task in ("classes", "binary")
    if not means.references:
        reason = "needs models that never saw the members: give --reference-model FILE, or --recipe with --population"
        for name in CALIBRATED if classes else NUMBERS_CALIBRATED:
            yield Untried(attack=name, reason=reason)
    if classes and len(case.population) < FEWEST_FOR_OWN:
        for name in OWN:
            reason = f"needs {FEWEST_FOR_OWN} or more records that are in neither file: give --population"
            yield Untried(attack=name, reason=reason)
    if classes and _too_slow(case, target, means):
        seconds = _seconds_for_copies(case, target)
        yield Untried(attack=LABELS[1], reason=f"would take about {seconds / 60:.0f} minutes of queries: give --slow")
    if classes and not means.slow:
        for name in ADAPTIVE:
            yield Untried(attack=name, reason="each question depends on the last answer: give --slow")
    if means.float_model is None:
        yield Untried(attack="pair attacks", reason="need the model before it was quantised: give --float-model FILE")


def _judge(case: Case, each: _Try, seed: int) -> Judged:
    purpose = (each.which, each.attack)
    guess = carry_out(KNOWN[each.attack], each.observation, generator(seed, "audit", "attack", *purpose))
    found = score(
        guess.scores,
        case.member,
        case.person,
        np.zeros(len(case.member), dtype=np.int64),
        generator(seed, "audit", "bootstrap", *purpose),
        population_scores=guess.population_scores if len(case.population) else None,
    )
    result = AuditAttack(
        attack=each.attack,
        model=each.which,
        output=each.output,
        auc=found.auc,
        auc_ci=found.auc_ci,
        auc_ci_adjusted=found.auc_ci,
        tpr_at_fpr=found.tpr_at_fpr,
        tpr_low_adjusted=None,
        own_threshold=found.own_threshold,
        members=found.members,
        nonmembers=found.nonmembers,
        queries_per_record=guess.queries_per_record,
        references=guess.references,
        cpu_seconds=round(guess.cpu_seconds, 3),
    )
    return Judged(result, guess.scores)


def _counted(case: Case, judged: list[Judged], seed: int) -> list[Judged]:
    """The same, with figures that hold for all of these attacks at once."""
    if not judged:
        return []
    everybody = np.ones(len(case.member), dtype=bool)
    design = by_person(case.person, case.member) if case.people else by_record(np.zeros(len(case.member), dtype=int))
    tried = [Tried(each.scores, case.member, everybody) for each in judged]
    found = adjusted([each.result for each in judged], luck(tried, design, generator(seed, "audit", "deals")))
    return [
        Judged(
            each.result.model_copy(update={"auc_ci_adjusted": one.auc_ci, "tpr_low_adjusted": one.tpr_low}), each.scores
        )
        for each, one in zip(judged, found, strict=True)
    ]


def right(case: Case, target: Target) -> Bool[np.ndarray, " candidates"]:
    """Whether the model names each candidate's class; of equal answers the first counts, as on a device."""
    return np.asarray(target.form.read(target.asked(case.candidates.x)).argmax(axis=1) == case.candidates.y)
