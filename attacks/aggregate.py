"""Tests on the mean update alone, which is all that an aggregator sees under secure aggregation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from attacks.alignment import align
from attacks.broadcast import MAX_ROUNDS, evenly_spaced, resting
from attacks.observation import Guess, Observation, Records, VantageLacksError

PROLIN_ROUNDS = 100  # a regression needs as many rounds as clients, and is the better for more


def cosine(observation: Observation, rng: np.random.Generator, max_rounds: int = MAX_ROUNDS) -> Guess:  # noqa: ARG001
    """Score: mean over rounds of cos(g_x, mean update), g_x the record's gradient at the broadcast model.

    The test of Li et al. 2023 (arXiv 2202.12232) on the one update there is: did anybody train on the record? At most
    `max_rounds`, evenly spaced over the rounds in which somebody took part, and the last of them. Unit: record.
    Vantage: whoever sees the secure sum. Raises VantageLacksError where nobody ever took part.
    """
    both = observation.candidates.joined(observation.population)
    picked = evenly_spaced(list(_present("aggregate-cosine", observation)), max_rounds)
    scores = _cosines(observation, picked, both).mean(axis=0)
    return Guess(scores[: len(observation.candidates)], scores[len(observation.candidates) :])


def prolin(observation: Observation, rng: np.random.Generator, max_rounds: int = PROLIN_ROUNDS) -> Guess:
    """Score: how much more the sum points along the record's gradient when the record's client takes part.

    For each record, y_t = cos(g_x, sum of round t's updates) is regressed on P, where P_tc = 1 if client c took part in
    round t; the score is the coefficient of the record's client. After PROLIN (Kerkouche et al. 2023, arXiv
    2303.03908), which takes sums apart by who took part. The sum is known up to a factor only, for what is seen is a
    mean with unknown weights; as a direction it is known, and rounds with large updates count no more than others. No
    intercept: an empty sum is zero, and where equally many take part each round, none could be told from P.

    Rounds: `max_rounds`, or twice as many as there are clients, evenly spaced over those in which somebody took part.
    Records of a client that never did score 0. Each population record is held against one client drawn by `rng` from
    those asked about: that is a non-member of that client.

    Unit: record. Vantage: whoever sees the secure sum and who is in it. Raises VantageLacksError where no client asked
    about ever took part, or P has not full column rank, as when everybody always takes part.
    """
    assert observation.client is not None
    present = _present("prolin", observation)
    clients = np.unique(np.concatenate(list(present.values())))
    picked = evenly_spaced(list(present), max(max_rounds, 2 * len(clients)))
    took = np.array([np.isin(clients, present[position]) for position in picked])
    _refuse_confounded(observation, took)
    both = observation.candidates.joined(observation.population)
    held_against = rng.choice(_asked(observation, clients), len(observation.population))
    owners = np.concatenate([observation.client, held_against])
    beta = np.linalg.lstsq(took.astype(np.float64), _cosines(observation, picked, both), rcond=None)[0]
    scores = ((owners == clients[:, None]) * beta).sum(axis=0)
    return Guess(scores[: len(observation.candidates)], scores[len(observation.candidates) :])


def _present(attack: str, observation: Observation) -> dict[int, tuple[int, ...]]:
    """Who took part, by the round's position; only rounds in which somebody did."""
    seen = {position: each.clients for position, each in enumerate(observation.rounds) if each.clients}
    if not seen:
        raise VantageLacksError(f"attack '{attack}' needs a round in which a client took part: nobody ever did")
    return seen


def _asked(observation: Observation, clients: Int[np.ndarray, " clients"]) -> Int[np.ndarray, " asked"]:
    """The clients that the candidates belong to, of those that took part."""
    assert observation.client is not None
    asked = np.intersect1d(clients, observation.client)
    if not len(asked):
        raise VantageLacksError("attack 'prolin' needs a round with a client of the candidates: none ever took part")
    return np.asarray(asked)


def _cosines(observation: Observation, picked: Sequence[int], records: Records) -> Float[np.ndarray, "rounds records"]:
    assert observation.architecture is not None
    model = resting(observation.architecture)
    seen = (observation.rounds[position] for position in picked)
    return np.stack([align(model, each.weights, [each.mean], records).cosine[:, 0] for each in seen])


def _refuse_confounded(observation: Observation, took: Bool[np.ndarray, "rounds clients"]) -> None:
    rounds, clients = took.shape
    rank = int(np.linalg.matrix_rank(took))
    if rank < clients:
        why = "all clients take part in every round" if took.all() else "too few rounds with different participants"
        raise VantageLacksError(
            f"attack 'prolin' needs to tell {clients} clients apart by who took part, vantage '{observation.vantage}' "
            f"can tell {rank} in {rounds} rounds: {why}. It takes a sample of the clients per round, and at least "
            f"{clients} rounds"
        )
