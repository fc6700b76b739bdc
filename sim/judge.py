"""The attack stage: launch every attack on every target, then score the guesses with the truth only this side has."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Int, Shaped

from attacks.malicious.making import MAKERS
from attacks.observation import Guess, Observation, VantageLacksError
from attacks.registry import ATTACKS
from clients.randomness import generator
from sim.data.federation import Federation
from sim.given import federation_of
from sim.observe import Target
from sim.owner import flagged, launch_watched
from sim.progress import Progress
from sim.results import Arm, AttackResult, Refusal
from sim.scenario import Scenario
from sim.score import Score, score
from sim.verdict import adjusted, luck_by_client

Scores = Float[np.ndarray, " records"]


@dataclass(frozen=True, slots=True)
class Truth:
    """Who was a member, for all clients' records in client order. It never enters an Observation.

    A coin says whether a client trains on a record, if it trains. A record is a member of what is attacked if its coin
    says so and its client is one of those that trained it: `of_model`.
    """

    member: Bool[np.ndarray, " records"]
    trained: Bool[np.ndarray, " records"]  # whether the record's client trained what is attacked
    client: Int[np.ndarray, " records"]
    person: Shaped[np.ndarray, " records"]
    label: Int[np.ndarray, " records"]
    row: Int[np.ndarray, " records"]  # in the data set as it was loaded
    classes: tuple[str, ...]

    def of(self, rows: Bool[np.ndarray, " records"]) -> Truth:
        """The part of some records."""
        return Truth(
            member=self.member[rows],
            trained=self.trained[rows],
            client=self.client[rows],
            person=self.person[rows],
            label=self.label[rows],
            row=self.row[rows],
            classes=self.classes,
        )

    def of_model(self, trained: Collection[int]) -> Truth:
        """Against something that only the clients `trained` trained: all records of other clients are non-members."""
        rows = self.trained & np.isin(self.client, list(trained))
        return replace(self, member=self.member & rows, trained=rows)

    @property
    def both_sides(self) -> bool:
        """Whether there are members and non-members: without either nothing can be told apart."""
        return bool(self.member.any() and not self.member.all())


@dataclass(frozen=True, slots=True)
class Judged:
    """One attack on one target: its figures, and the score of every record."""

    result: AttackResult
    scores: Scores
    truth: Truth  # of these records


def truth_of(federation: Federation) -> Truth:
    """The coins of all clients: the truth of their personal models, which each made of its own members."""
    clients = federation.clients
    member = np.concatenate([c.member for c in clients])
    return Truth(
        member=member,
        trained=np.ones_like(member),
        client=np.repeat([c.client for c in clients], [len(c.y) for c in clients]),
        person=np.repeat([c.person for c in clients], [len(c.y) for c in clients]),
        label=np.concatenate([c.y for c in clients]),
        row=np.concatenate([c.row for c in clients]),
        classes=federation.classes,
    )


def judge(
    scenario: Scenario, targets: list[Target], truth: Truth, progress: Progress
) -> tuple[list[Judged], list[Refusal]]:
    """Every attack of the scenario on every target, and the pairs where the vantage lacks what the attack needs."""
    pairs = list(_pairs(scenario, targets))
    judged: list[Judged] = []
    refused: list[Refusal] = []
    with progress.stage("attacking", len(pairs)):
        for target, attack in pairs:
            where = f"{attack} on {target.target} {target.precision}"
            try:
                judged.append(_judge(scenario, target, attack, truth))
            except VantageLacksError as lack:
                refused.append(_refusal(target, attack, lack))
                progress.step()
            else:
                progress.step(f"{where}: AUC {judged[-1].result.auc:.3f}")
    return all_counted(judged, generator(scenario.seed, "deals")), refused


def _refusal(target: Target, attack: str, lack: VantageLacksError) -> Refusal:
    return Refusal(
        attack=attack,
        vantage=target.vantage,
        target=target.target,
        precision=target.precision,
        output=target.output,
        lacks=lack.need,
        reason=str(lack),
    )


def all_counted(judged: list[Judged], rng: np.random.Generator) -> list[Judged]:
    """The same, with figures that hold for all of these attacks at once."""
    if not judged:
        return []
    rows = [each.result for each in judged]
    by_luck = luck_by_client([(each.scores, each.truth.member, each.truth.client) for each in judged], rng)
    return [
        replace(
            each,
            result=each.result.model_copy(
                update={"auc_ci_adjusted": found.auc_ci, "tpr_low_adjusted": found.tpr_low},
            ),
        )
        for each, found in zip(judged, adjusted(rows, by_luck), strict=True)
    ]


def guess_all(scenario: Scenario, attack: str, observations: tuple[Observation, ...], purpose: str) -> list[Guess]:
    """One guess per observation, each with its own generator."""
    return [
        launch_watched(scenario, attack, observation, generator(scenario.seed, "attack", purpose, attack, number))
        for number, observation in enumerate(observations)
    ]


def score_guesses(scenario: Scenario, guesses: list[Guess], truth: Truth, purpose: str) -> Score:
    """Score guesses that together cover all records; with one guess per client, thresholds are per client too."""
    scores = np.concatenate([guess.scores for guess in guesses])
    alone, clients = len(guesses) == 1, np.unique(truth.client).tolist()
    pairs = zip(clients[: len(guesses)], guesses, strict=True)
    own = {client: guess.population_scores for client, guess in pairs if guess.population_scores is not None}
    everyone = guesses[0].population_scores if alone else own or None
    rng = generator(scenario.seed, "bootstrap", purpose)
    return score(scores, truth.member, truth.person, truth.client, rng, population_scores=everyone)


def table(judged: list[Judged]) -> pa.Table:
    """One row per attack, target and record."""
    parts = []
    for each in judged:
        r, n, truth = each.result, len(each.scores), each.truth
        record = np.concatenate([np.arange(count) for count in np.unique(truth.client, return_counts=True)[1]])
        parts.append(
            pa.table(
                {
                    **{key: [getattr(r, key)] * n for key in ("attack", "vantage", "target", "precision", "output")},
                    "client": truth.client,
                    "person": truth.person.tolist(),
                    "record": record,
                    "row": truth.row,
                    "label": truth.label,
                    "slice": [truth.classes[label] for label in truth.label],
                    "score": each.scores.astype(np.float64),
                    "member": truth.member,
                },
                schema=SCHEMA,
            )
        )
    return pa.concat_tables(parts)


SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("attack", "vantage", "target", "precision", "output")),
        ("client", pa.int64()),
        ("person", pa.string()),
        ("record", pa.int64()),  # among its client's
        ("row", pa.int64()),  # in the data set as it was loaded, such as the user's own file
        ("label", pa.int64()),
        ("slice", pa.string()),
        ("score", pa.float64()),
        ("member", pa.bool_()),
    ]
)


def _pairs(scenario: Scenario, targets: list[Target]) -> Iterator[tuple[Target, str]]:
    for target in targets:
        for attack in scenario.attacks.names:
            if attack in ATTACKS and _meant_for(attack, target):
                yield target, attack


def _meant_for(attack: str, target: Target) -> bool:
    """A server that deviates does so for one attack; all others can be made without, and are tried where they are.

    The holder of a file may query it too; what needs no more is tried by whoever may only query, with the same result.
    What reads nothing but labels is tried on models that name nothing else. Everywhere else every attack is tried, so
    that what a vantage lacks is on record.
    """
    if ATTACKS[attack].labels_alone and target.output not in (None, "label"):
        return False
    if target.vantage == "device":
        return "file of the model" in ATTACKS[attack].needs
    if target.vantage == "malicious-server":
        return attack in MAKERS and target.target == ("personal" if MAKERS[attack].kind == "personalize" else "global")
    return True


def _arms(scenario: Scenario, target: Target, scores: Scores, truth: Truth, purpose: str) -> list[Arm]:
    """Those who helped to train the global model and those who only fine-tuned it, each alone; if there are both."""
    participants = federation_of(scenario).participants
    if target.clients == participants:
        return []
    sides: tuple[tuple[Literal["participants", "newcomers"], Bool[np.ndarray, " records"]], ...] = (
        ("participants", truth.client < participants),
        ("newcomers", truth.client >= participants),
    )
    if not all(truth.of(rows).both_sides for _, rows in sides):
        return []
    arms = []
    for who, rows in sides:
        part, rng = truth.of(rows), generator(scenario.seed, "bootstrap", purpose, who)
        found = score(scores[rows], part.member, part.person, part.client, rng)
        arms.append(
            Arm(
                who=who,
                clients=len(np.unique(part.client)),
                members=found.members,
                nonmembers=found.nonmembers,
                auc=found.auc,
                auc_ci=found.auc_ci,
                tpr_at_fpr=found.tpr_at_fpr,
            )
        )
    return arms


def _judge(scenario: Scenario, target: Target, attack: str, truth: Truth) -> Judged:
    """Raises VantageLacksError also where nothing of the clients that are scored was trained on."""
    truth = truth.of(truth.client < target.clients).of_model(target.trained)
    if not truth.both_sides:
        raise VantageLacksError(
            f"attack '{attack}' tells members from non-members, and no round released anything that the clients that "
            "are scored had trained: the model has no members among their records"
        )
    purpose = f"{target.vantage}/{target.target}/{target.precision}{'/label' if target.output == 'label' else ''}"
    guesses = guess_all(scenario, attack, target.observations, purpose)
    scored = score_guesses(scenario, guesses, truth, f"{purpose}/{attack}")
    scores = np.concatenate([guess.scores for guess in guesses])
    sizes = [len(guess.scores) for guess in guesses]
    result = AttackResult(
        attack=attack,
        vantage=target.vantage,
        target=target.target,
        precision=target.precision,
        output=target.output,
        auc=scored.auc,
        auc_ci=scored.auc_ci,
        auc_ci_adjusted=scored.auc_ci,
        tpr_at_fpr=scored.tpr_at_fpr,
        tpr_low_adjusted=None,
        arms=_arms(scenario, target, scores, truth, f"{purpose}/{attack}"),
        own_threshold=scored.own_threshold,
        members=int(truth.member.sum()),
        nonmembers=int((~truth.member).sum()),
        queries_per_record=float(np.average([guess.queries_per_record for guess in guesses], weights=sizes)),
        references=guesses[0].references,
        cpu_seconds=round(sum(guess.cpu_seconds for guess in guesses), 3),
        flagged=flagged(guesses),
    )
    return Judged(result, scores, truth)
