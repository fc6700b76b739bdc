"""Which records a malicious server probes each client for, and which of its probes tell about them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable

import numpy as np
from jaxtyping import Float, Int

from attacks.observation import Guess, Observation, Probe, Records, VantageLacksError

Owners = Int[np.ndarray, " records"]
Scores = Float[np.ndarray, " records"]
NOBODY = -1  # whose the attacker's own records are where no client can be probed


def in_order(records: Records) -> Int[np.ndarray, " records"]:
    """Positions of the records in an order that follows from their content alone, and tells nothing about them.

    So the server finds its target of a unit again, in whatever order it is handed the records later.
    """
    keys = [hashlib.blake2b(x.tobytes() + int(y).to_bytes(8, "little")).digest() for x, y in _rows(records)]
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.int64)


def owners(candidates: Owners, population: Records, clients: Iterable[int]) -> Owners:
    """Whose record each candidate is, and then for each of the attacker's own records the client it is probed with.

    Those are dealt out evenly among those of `clients` that have candidates: they are non-members of whichever client
    they are tried on, and set the threshold.
    """
    asked = np.intersect1d(candidates, list(clients))
    dealt = np.full(len(population), NOBODY)
    if len(asked):
        dealt[in_order(population)] = asked[np.arange(len(population)) % len(asked)]
    return np.concatenate([np.asarray(candidates, dtype=np.int64), dealt])


def probes_of(attack: str, observation: Observation) -> list[Probe]:
    """The probes of one attack that were answered.

    Raises:
        VantageLacksError: none was made, or none was answered; then it says why not.
    """
    made = [probe for probe in observation.probes if probe.attack == attack]
    answered = [probe for probe in made if not probe.refused]
    if not answered:
        why = made[-1].refused if made else "none was sent"
        raise VantageLacksError(
            f"attack '{attack}' needs answers to broadcasts of its own making, "
            f"vantage '{observation.vantage}' has none: {why}"
        )
    return answered


def score_each(
    attack: str,
    observation: Observation,
    measure: Callable[[Probe, int, Records], Scores],
    neutral: float | None = None,
) -> Guess:
    """Score records probe by probe: `measure` is asked about all records that one answer tells about.

    A record that no probe tells about scores `neutral`, by default the median of the attacker's own records; an own
    record is NaN then. A measure may answer NaN for a record that its probe does not tell about. Scores of several
    probes are averaged.
    """
    assert observation.client is not None
    probes = probes_of(attack, observation)
    both = observation.candidates.joined(observation.population)
    owner = owners(observation.client, observation.population, probes[0].sent)
    total, seen = np.zeros(len(both)), np.zeros(len(both))
    for probe in probes:
        for client, rows in _told(probe, owner):
            found = measure(probe, client, both[rows])
            told = np.isfinite(found)
            total[rows[told]] += found[told]
            seen[rows[told]] += 1
    scores = np.divide(total, seen, out=np.full(len(both), np.nan), where=seen > 0)
    count = len(observation.candidates)
    return Guess(_filled(scores[:count], scores[count:], neutral), scores[count:])


def answer(probe: Probe, client: int) -> Float[np.ndarray, " params"]:
    """A client's update, or the mean of all where single ones cannot be seen."""
    update = probe.updates.get(client, probe.mean)
    assert update is not None
    return update


def _told(probe: Probe, owner: Owners) -> list[tuple[int, Int[np.ndarray, " rows"]]]:
    """Which records a probe's answers tell about: for each client that answered its own, or of a sum all at once."""
    if not (probe.updates or probe.personal):
        return [(min(probe.sent), np.arange(len(owner)))]
    rows = {client: np.flatnonzero(owner == client) for client in sorted({*probe.updates, *probe.personal})}
    return [(client, found) for client, found in rows.items() if len(found)]


def _filled(scores: Scores, own: Scores, neutral: float | None) -> Scores:
    if neutral is None:
        neutral = float(np.median(own[np.isfinite(own)])) if np.isfinite(own).any() else 0.0
    return np.where(np.isfinite(scores), scores, neutral)


def _rows(records: Records) -> Iterable[tuple[np.ndarray, int]]:
    return zip(np.ascontiguousarray(records.x), records.y, strict=True)
