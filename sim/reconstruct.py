"""Records out of updates: the attacks on the real transcript, then the comparison with the truth only this side has."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from attacks.observation import Observation, Records, ServerRound, VantageLacksError
from attacks.reconstruction.class_mean import invert
from attacks.reconstruction.fidelity import Fidelity, fidelity, mse, nearest, paired
from attacks.reconstruction.update import ATTEMPTS, SeenUpdate, guessed_labels, recovered_labels
from clients.randomness import generator
from clients.weights import to_vector
from sim.data.federation import ClientData, Federation
from sim.federate import GLOBAL
from sim.folder import RunFolder
from sim.given import federation_of, stored_model
from sim.report.pictures import picture
from sim.results import LabelResult, ReconstructionResult, Spread, Triple
from sim.scenario import Scenario

LABELS, CLASSES = "label-recovery", "class-inversion"
EXACT = 1e-5  # of the range of values
MOST_PICTURES = 8
MOST_DECIBELS = 200.0  # stands for no difference at all

Record = Float[np.ndarray, "..."]
Images = Float[np.ndarray, "records ..."]
Vector = Float[np.ndarray, " params"]


@dataclass(frozen=True, slots=True)
class Victim:
    """One update that the attacker takes apart, of one client or the mean of a round's, and the truth behind it."""

    clients: tuple[int, ...]
    round: ServerRound
    update: Vector
    truth: Records
    steps: int

    @property
    def client(self) -> int | None:
        """Whose update it is; None where it is of several."""
        return self.clients[0] if len(self.clients) == 1 else None


@dataclass(frozen=True, slots=True)
class Pair:
    """Something recovered, the true record that it fits best, and what the attacker had that is nearest to either."""

    recovered: Record
    true: Record
    public: Record  # nearest to the true one
    lookalike: Record  # nearest to the recovered one
    span: float  # the largest less the smallest value

    @property
    def likeness(self) -> Fidelity:
        """How close both come."""
        return fidelity(self.recovered, self.true, self.public[None], self.span)

    @property
    def learnt(self) -> bool:
        """Whether it is closer to the true record than what the attacker had before is to either of the two.

        Something unrelated would pass now and then if it were only to beat the public record: it may choose among the
        victim's records. That it has to be this record's and not a public one's leaves it one chance in as many as the
        attacker has records, times the victim's.
        """
        return mse(self.recovered, self.true) < min(mse(self.public, self.true), mse(self.recovered, self.lookalike))

    @property
    def exact(self) -> bool:
        """Whether no value is further off than rounding takes it."""
        return bool(np.abs(self.recovered - self.true).max() < EXACT * self.span)


def participants(federation: Federation) -> list[ClientData]:
    """The clients whose updates there are: not the newcomers."""
    return [client for client in federation.clients if client.client < federation.participants]


def victims(scenario: Scenario, observation: Observation, federation: Federation) -> list[Victim]:
    """The first updates of some clients, from the one with the fewest members to the one with the most.

    Where single updates are hidden, the mean of the first round stands for all. Raises VantageLacksError where no round
    went through.
    """
    size = {client.client: int(client.member.sum()) for client in participants(federation)}
    first: dict[int, ServerRound] = {}
    for seen in observation.rounds:
        if seen.clients and not seen.updates:
            return [_victim(scenario, federation_of(scenario), seen, seen.clients, seen.mean)]
        for client in size.keys() & seen.updates.keys():
            first.setdefault(client, seen)
        if len(first) == len(size):
            break
    if not first:
        raise VantageLacksError(
            f"there is no round that went through, so vantage '{observation.vantage}' saw no update"
        )
    order = sorted(first, key=lambda client: (size[client], client))
    picked = np.linspace(0, len(order) - 1, min(scenario.attacks.victims, len(order))).round().astype(int)
    return [_victim(scenario, federation, first[c], (c,), first[c].updates[c]) for c in (order[i] for i in picked)]


def reconstruct(
    scenario: Scenario, attack: str, observation: Observation, federation: Federation
) -> Iterator[ReconstructionResult]:
    """One of `ATTEMPTS` on each victim's update, compared with the records that the victim really trained on."""
    known = _known(observation.population)
    for victim in victims(scenario, observation, federation):
        seen = _seen(scenario, observation, victim, len(federation.classes))
        rng = generator(scenario.seed, "attack", attack, victim.round.number, victim.clients[0])
        started = time.process_time()
        found = ATTEMPTS[attack](seen, rng)
        seconds = time.process_time() - started
        yield _summary(
            _pairs(found, victim.truth.x, known),
            attack=attack,
            vantage=observation.vantage,
            unit="record",
            client=victim.client,
            round=victim.round.number,
            records=len(victim.truth),
            steps=victim.steps,
            cpu_seconds=round(seconds, 3),
        )


def recover_labels(scenario: Scenario, observation: Observation, federation: Federation) -> Iterator[LabelResult]:
    """How many labels of each victim's records its update tells, beside a guess without the update."""
    for victim in victims(scenario, observation, federation):
        seen = _seen(scenario, observation, victim, len(federation.classes))
        true = np.bincount(victim.truth.y, minlength=seen.classes)
        right, guessed = (int(np.minimum(told, true).sum()) for told in (recovered_labels(seen), guessed_labels(seen)))
        yield LabelResult(
            attack=LABELS,
            vantage=observation.vantage,
            client=victim.client,
            round=victim.round.number,
            records=len(victim.truth),
            right=right,
            guessed=guessed,
        )


def invert_classes(
    scenario: Scenario, folder: RunFolder, observation: Observation, federation: Federation
) -> ReconstructionResult:
    """What the final model takes for each class, against the members' mean, with the population's mean beside it."""
    model, own = stored_model(scenario, folder.models / GLOBAL), observation.population
    members = _members(federation, [client.client for client in participants(federation)])
    labels = [int(label) for label in np.unique(members.y) if (own.y == label).any()]
    started = time.process_time()
    found = [invert(model, to_vector(model), label, own) for label in labels]
    seconds = time.process_time() - started
    means = [members.x[members.y == label].mean(axis=0) for label in labels]
    return _summary(
        [
            Pair(each.record, mean, each.class_mean, each.class_mean, _span(own.x))
            for each, mean in zip(found, means, strict=True)
        ],
        attack=CLASSES,
        vantage=observation.vantage,
        unit="class",
        client=None,
        round=None,
        records=len(labels),
        steps=None,
        cpu_seconds=round(seconds, 3),
    )


def _victim(
    scenario: Scenario, federation: Federation, seen: ServerRound, clients: tuple[int, ...], update: Vector
) -> Victim:
    largest = max(len(_members(federation, [client])) for client in clients)
    return Victim(clients, seen, update, _members(federation, clients), _steps(scenario, largest))


def _members(federation: Federation, clients: Sequence[int]) -> Records:
    """The members of these clients, one client after the other."""
    parts = [client.members for client in federation.clients if client.client in clients]
    empty = Records(np.empty((0, *federation.shape), np.float32), np.empty(0, np.int64))
    return Records(*map(np.concatenate, zip(*parts, strict=True))) if parts else empty


def _steps(scenario: Scenario, records: int) -> int:
    """Local steps of a client with so many records, in one round."""
    training, private = scenario.training, scenario.privacy.record
    if private is not None:
        return private.steps(training.epochs)
    return training.epochs * math.ceil(records / training.batch_size)


def _seen(scenario: Scenario, observation: Observation, victim: Victim, classes: int) -> SeenUpdate:
    """What the attacker is told, beyond the update: how many records there are, and the recipe.

    A client says its number of records to be weighted by it. Where protection hides that number the attacker is given
    it all the same, so that what stops the attack is the protection of the records.
    """
    assert observation.architecture is not None
    records = len(victim.truth)
    return SeenUpdate(
        architecture=observation.architecture,
        weights=victim.round.weights,
        gradient=_gradient(scenario, victim),
        population=observation.population,
        records=records,
        sought=min(scenario.attacks.victim_records, records),
        classes=classes,
    )


def _gradient(scenario: Scenario, victim: Victim) -> Vector:
    """The update as the gradient of a mean loss, as if all local steps had been one of plain SGD."""
    training, private = scenario.training, scenario.privacy.record
    gradient = victim.update.astype(np.float64) / (training.learning_rate * victim.steps)
    if training.optimizer == "sgd":
        gradient -= training.weight_decay * victim.round.weights
    if private is not None:  # its normaliser is the public batch size, whatever the step really used
        gradient *= training.batch_size / (len(victim.truth) * private.sampling_rate)
    return np.asarray(gradient, dtype=np.float32)


def _known(population: Records) -> Images:
    """What the attacker could name without any update: its own records, and the means of their classes.

    The means, because a blur lies nearer to a noisy record than other records do.
    """
    means = [population.x[population.y == label].mean(axis=0) for label in np.unique(population.y)]
    return np.concatenate([population.x, np.stack(means)])


def _span(x: Images) -> float:
    return float(x.max() - x.min())


def _pairs(found: Images, true: Images, known: Images) -> list[Pair]:
    """Each of what was found with the true record that it stands for, so that all together fit best."""
    if not len(found):
        return []
    span = _span(known)
    return [
        Pair(mine, its, known[nearest(its, known)], known[nearest(mine, known)], span)
        for mine, its in zip(found, true[paired(true, found)], strict=True)
    ]


def _summary(pairs: list[Pair], **named: Any) -> ReconstructionResult:  # noqa: ANN401  # the fields that are no likeness
    likeness = [pair.likeness for pair in pairs]
    return ReconstructionResult(
        sought=len(pairs),
        recovered=sum(pair.learnt for pair in pairs),
        exact=sum(pair.exact for pair in pairs),
        psnr=_spread([each.psnr for each in likeness]),
        ssim=_spread([each.ssim for each in likeness]),
        public_psnr=_spread([each.public_psnr for each in likeness]),
        public_ssim=_spread([each.public_ssim for each in likeness]),
        pictures=[
            _triple(*each) for each in zip(pairs[:MOST_PICTURES], likeness, strict=False) if each[0].true.ndim > 1
        ],
        **named,
    )


def _spread(values: list[float]) -> Spread | None:
    """None where there are no values, or where they are no numbers."""
    if not values or np.isnan(values).any():
        return None
    shown = np.minimum(values, MOST_DECIBELS)
    return Spread(median=float(np.median(shown)), low=float(shown.min()), high=float(shown.max()))


def _triple(pair: Pair, likeness: Fidelity) -> Triple:
    lowest = float(min(pair.true.min(), pair.public.min()))
    highest = float(max(pair.true.max(), pair.public.max()))
    true, recovered, public = (picture(each, lowest, highest) for each in (pair.true, pair.recovered, pair.public))
    return Triple(
        true=true,
        recovered=recovered,
        public=public,
        psnr=min(likeness.psnr, MOST_DECIBELS),
        public_psnr=min(likeness.public_psnr, MOST_DECIBELS),
        exact=pair.exact,
    )
