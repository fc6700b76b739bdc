"""Source inference: whose record is it? The client whose local training left the smallest loss on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from attacks.broadcast import MAX_ROUNDS, evenly_spaced, resting
from attacks.cosine import cosines
from attacks.held import Column, Scores, Signal, mean_over_rounds, own
from attacks.observation import Guess, Observation, Records, VantageLacksError
from attacks.update_loss import minus_losses

_SIGNALS = {"loss": minus_losses, "cosine": cosines}


@dataclass(frozen=True, slots=True)
class Sources:
    """For each record the client it is taken to be from, among `clients`; guessing is right with 1 / len(clients)."""

    client: Int[np.ndarray, " records"]
    clients: tuple[int, ...]
    evidence: Float[np.ndarray, "records clients"]  # larger: likelier this client's; columns as in `clients`

    @property
    def chance(self) -> float:
        """How often a client drawn blindly is the right one."""
        return 1 / len(self.clients)

    def accuracy(self, client: Int[np.ndarray, " records"]) -> float:
        """How often the answer was right, told whose the records are; meaningful for members only."""
        return float(np.mean(self.client == client))


def infer(
    observation: Observation,
    records: Records | None = None,
    signal: Literal["loss", "cosine"] = "loss",
    max_rounds: int | None = None,
) -> Sources:
    """Which client each record (the candidates, unless others are given) was trained on by, if it was by any.

    Hu et al. 2021 (arXiv 2109.05659): the client c with the smallest loss l(x; w_c), which is Bayes-optimal where every
    client is as likely; or (`cosine`) the one whose update points most along the record's gradient. Each round's
    evidence is taken relative to that round's mean before it is averaged over the rounds a client took part in, for
    losses fall from round to round. `max_rounds` are evenly spaced over those with two clients or more; all by default.

    Vantage: a server that sees single updates. Raises VantageLacksError where no round has two clients.
    """
    assert observation.architecture is not None
    rounds = [position for position, seen in enumerate(observation.rounds) if len(seen.updates) > 1]
    if not rounds:
        raise VantageLacksError(
            f"source inference compares clients, vantage '{observation.vantage}' has no round with two updates or more"
        )
    records, model = records or observation.candidates, resting(observation.architecture)
    total: dict[int, Float[np.ndarray, " records"]] = {}
    times: dict[int, int] = {}
    for position in evenly_spaced(rounds, max_rounds or len(rounds)):
        seen = observation.rounds[position]
        clients = sorted(seen.updates)
        evidence = _SIGNALS[signal](model, seen, clients, records)
        for client, column in zip(clients, (evidence - evidence.mean(axis=1, keepdims=True)).T, strict=True):
            total[client], times[client] = total.get(client, 0) + column, times.get(client, 0) + 1
    known = sorted(total)
    mean = np.stack([total[client] / times[client] for client in known], axis=1)
    return Sources(np.array(known)[mean.argmax(axis=1)], tuple(known), mean)


def run(observation: Observation, rng: np.random.Generator, max_rounds: int = MAX_ROUNDS) -> Guess:
    """As a membership score: mean over rounds of the smallest loss at another client's model minus that at the claimed.

    Above zero where the claimed client would be named. Unit: record. Vantage: a server that sees single updates, two or
    more in a round. Rounds, clients without any, and errors as for `held.mean_over_rounds`.
    """
    return mean_over_rounds("source", observation, rng, minus_losses, _margin, others=1, max_rounds=max_rounds)


def _margin(signal: Signal, column: Column) -> Scores:
    others = signal.copy()
    others[np.arange(len(signal)), column] = -np.inf
    return np.asarray(own(signal, column) - others.max(axis=1))
