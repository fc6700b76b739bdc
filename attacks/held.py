"""Records held against their clients, round after round: the frame of a curious server's attacks on updates."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int
from torch import nn

from attacks.broadcast import MAX_ROUNDS, evenly_spaced, resting
from attacks.observation import Guess, Observation, Records, ServerRound, VantageLacksError

Signal = Float[np.ndarray, "records clients"]  # larger where a client is likelier to have trained on a record
Column = Int[np.ndarray, " records"]
Scores = Float[np.ndarray, " records"]
Measure = Callable[[nn.Module, ServerRound, Sequence[int], Records], Signal]
Judge = Callable[[Signal, Column], Scores]


def own(signal: Signal, column: Column) -> Scores:
    """The signal of each record's own client."""
    return np.asarray(signal[np.arange(len(signal)), column])


def mean_over_rounds(
    attack: str,
    observation: Observation,
    rng: np.random.Generator,
    measure: Measure,
    judge: Judge = own,
    *,
    others: int = 0,
    neutral: float = 0.0,
    max_rounds: int = MAX_ROUNDS,
) -> Guess:
    """Score: the mean over rounds of what `judge` makes of `measure`, for each record and the client it belongs to.

    At most `max_rounds` rounds per client, evenly spaced over those in which it took part together with at least
    `others` more. With `others`, all participants are measured; else only the clients asked about. Records of a client
    without such a round score `neutral`: no update, no signal. Each population record is held against one client drawn
    by `rng`: that is a non-member of that client. Raises VantageLacksError where no client asked about has a round.
    """
    assert observation.client is not None
    assert observation.architecture is not None
    joined = took_part(attack, observation, others)
    owners = np.concatenate([observation.client, rng.choice(sorted(joined), len(observation.population))])
    both, model = observation.candidates.joined(observation.population), resting(observation.architecture)
    total, rounds = np.zeros(len(both)), np.zeros(len(both))
    for position, picked in plan(joined, max_rounds).items():
        rows, seen = np.flatnonzero(np.isin(owners, picked)), observation.rounds[position]
        clients = np.array(sorted(seen.updates)) if others else np.unique(owners[rows])
        signal = measure(model, seen, clients.tolist(), both[rows])
        total[rows] += judge(signal, np.searchsorted(clients, owners[rows]))
        rounds[rows] += 1
    scores = np.divide(total, rounds, out=np.full(len(both), neutral), where=rounds > 0)
    return Guess(scores[: len(observation.candidates)], scores[len(observation.candidates) :])


def took_part(attack: str, observation: Observation, others: int = 0) -> dict[int, list[int]]:
    """Client -> positions of its rounds with `others` or more beside it; only clients asked about that have any."""
    assert observation.client is not None
    asked, joined = set(np.unique(observation.client).tolist()), defaultdict(list)
    for position, seen in enumerate(observation.rounds):
        if len(seen.updates) > others:
            for client in sorted(asked & seen.updates.keys()):
                joined[client].append(position)
    if not joined:
        raise VantageLacksError(_lack(attack, observation, asked, others))
    return joined


def _lack(attack: str, observation: Observation, asked: set[int], others: int) -> str:
    company = f" in a round with {others} or more others" if others else ""
    instead = "'cosine' needs no others; or sample more clients per round" if others else "Or train for more rounds"
    return (
        f"attack '{attack}' needs updates of the candidates' clients, vantage '{observation.vantage}' has none: "
        f"{', '.join(map(str, sorted(asked)))} never took part{company}. Leave '{attack}' out. {instead}"
    )


def plan(joined: dict[int, list[int]], max_rounds: int) -> dict[int, list[int]]:
    """Which clients are looked at in which round: round position -> clients."""
    chosen: dict[int, list[int]] = defaultdict(list)
    for client in sorted(joined):
        for position in evenly_spaced(joined[client], max_rounds):
            chosen[position].append(client)
    return chosen
