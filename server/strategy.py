"""Federated averaging whose sampling and summation order depend on the seed alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field

from clients.privacy import BudgetSpentError
from clients.randomness import noise_generator
from clients.weights import flatten, unflatten
from server.aggregation import RoundRefusedError, is_sum, received_sum
from server.received import NO_REPLY, Received, reason, receive

MOST_NAMED = 12  # of the clients that failed, in a message
ROUNDING = 1e-9  # so that a third of three clients is one

Vector = Float[np.ndarray, " params"]


class FederationConfig(BaseModel):
    """How often the server asks, and whom."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    rounds: int = Field(20, ge=1, le=100_000, description="rounds of federated averaging")
    participation: float = Field(1.0, gt=0, le=1, description="share of the clients sampled in each round")
    sampling: Literal["fixed", "poisson"] = Field(
        "fixed",
        description="fixed: the same number of clients in each round; poisson: each client by a coin of its own, as "
        "client-level differential privacy needs it",
    )
    combine: Literal["mean", "median", "trimmed-mean", "krum", "multi-krum", "bulyan"] = Field(
        "mean", description="what is made of a round's updates; all but the mean withstand some tampering clients"
    )
    tampering_allowed: int = Field(
        1, ge=0, le=100_000, description="all rules but the mean: how many tampering clients a round is to withstand"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundRecord:
    """What the server held in one round: under secure aggregation the mean of the updates and no single one."""

    number: int
    weights: Vector  # broadcast at the start of the round
    clients: tuple[int, ...]  # whose updates are in the mean
    mean: Vector  # weighted mean of the updates, before any noise of the server's
    updates: dict[int, Vector]  # client -> broadcast minus returned weights
    metrics: dict[int, dict[str, float]]  # client -> what it reported
    dropped: dict[int, str]  # client -> why
    refused: str = ""  # why the round changed nothing, if it did not


class ClientFailedError(Exception):
    """A client answered with an error."""


class NothingReleasedError(ClientFailedError):
    """Not one round changed the model: nobody was sampled, or too few for what protects them."""


Release = Callable[[int, Received], Vector]  # round and contributions -> what is taken off the global weights


def weighted_mean(server_round: int, received: Received) -> Vector:
    """McMahan et al. 2017 (arXiv 1602.05629): every update counts as much as its client has records."""
    if not received.clients:
        raise RoundRefusedError(f"no client was sampled in round {server_round}")
    return received.mean


class SeededFedAvg(FedAvg):
    """Flower's FedAvg with changes that make runs repeatable, and drop-outs and protections possible.

    Flower samples with the global `random` over random node ids and sums replies in order of arrival. Here the sample
    comes from (seed, round) over client numbers, and updates are summed in order of client number. A client that errs,
    or sends what cannot be used, is left out of the round. `release` turns what came in into what goes out. With
    `hides_failures` a round in which all clients fail is no end: users of the model would learn of it.
    """

    def __init__(
        self,
        nodes: dict[int, int],
        plan: FederationConfig,
        seed: int | None,
        observe: Callable[[RoundRecord], None],
        release: Release = weighted_mean,
        *,
        hides_failures: bool = False,
    ) -> None:
        super().__init__(fraction_train=plan.participation)
        self._nodes = nodes
        self._clients = {node: client for client, node in nodes.items()}
        self._plan = plan
        self._seed = seed
        self._observe = observe
        self._release = release
        self._hides_failures = hides_failures
        self._broadcast = ArrayRecord()
        self._sampled: list[int] = []

    def configure_train(
        self,
        server_round: int,
        arrays: ArrayRecord,
        config: ConfigRecord,
        grid: Grid,  # noqa: ARG002  # part of Flower's signature
    ) -> Iterable[Message]:
        """Messages to this round's sampled clients."""
        self._broadcast = arrays
        config["server-round"] = server_round
        self._sampled = sample_clients(len(self._nodes), self._plan, self._seed, server_round)
        record = RecordDict({"arrays": arrays, "config": config})
        return self._construct_messages(record, [self._nodes[client] for client in self._sampled], MessageType.TRAIN)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """The new global weights; the round is handed to the observer first.

        Raises:
            BudgetSpentError: every client that was asked declined, because its budget is spent.
            ClientFailedError: every client that was asked failed.
            RoundRefusedError: there is nothing to release.
        """
        replies = list(replies)
        if is_sum(replies):
            received = received_sum(replies[0], self._clients)
        else:
            received = receive(replies, self._broadcast, self._clients, self._sampled)
        if self._sampled and not received.clients and not self._goes_on(received.dropped):
            raise self._all_lost(received.dropped)
        step = self._release(server_round, received)
        weights = flatten(self._broadcast)
        self._observe(
            RoundRecord(
                number=server_round,
                weights=weights,
                clients=received.clients,
                mean=received.mean.astype(np.float32),
                updates=received.updates,
                metrics=received.metrics,
                dropped=received.dropped,
            )
        )
        return unflatten(weights - step, self._broadcast), None

    def refuse(self, server_round: int, refusal: RoundRefusedError) -> None:
        """Note that a round changed nothing. Raises as `aggregate_train` does where every client failed."""
        dropped = dict(sorted((self._clients[node], why) for node, why in refusal.dropped.items()))
        if self._sampled and len(dropped) == len(self._sampled):
            raise self._all_lost(dropped)
        weights = flatten(self._broadcast)
        self._observe(
            RoundRecord(
                number=server_round,
                weights=weights,
                clients=(),
                mean=np.zeros_like(weights),
                updates={},
                metrics={},
                dropped=dropped,
                refused=str(refusal),
            )
        )

    def _goes_on(self, dropped: Mapping[int, str]) -> bool:
        """Whether a round in which everybody failed passes as one in which all updates were zero."""
        return self._hides_failures and not all(BudgetSpentError.__name__ in why for why in dropped.values())

    def _all_lost(self, dropped: Mapping[int, str]) -> Exception:
        """Nobody is left: because their budgets are spent, or because something is broken. Clients that were not asked
        may have some budget left, so then only the round is lost.
        """
        if not all(BudgetSpentError.__name__ in why for why in dropped.values()):
            return _failed(dropped)
        spent = f"all {len(dropped)} clients that were asked have spent their budget"
        return BudgetSpentError(spent) if len(dropped) == len(self._nodes) else RoundRefusedError(spent)


def sample_clients(clients: int, plan: FederationConfig, seed: int | None, server_round: int) -> list[int]:
    """The client numbers sampled in a round, in increasing order: it follows from the seed, not from anybody's data.
    Without a seed it follows from the operating system's randomness.

    Raises:
        ValueError: a fixed sample would hold less than one client.
    """
    rng = noise_generator(seed, "sample", server_round)
    if plan.sampling == "poisson":
        return [client for client, coin in enumerate(rng.random(clients)) if coin < plan.participation]
    if clients * plan.participation < 1 - ROUNDING:
        raise ValueError(f"an empty round: {plan.participation} of {clients} clients is less than one")
    count = round(clients * plan.participation)
    return sorted(int(c) for c in rng.choice(clients, count, replace=False))


def fail_on_errors(replies: Mapping[int, Message], asked: Iterable[int], who: str = "client") -> None:
    """Raise ClientFailedError naming every client in `asked` that answered with an error, or not in time.

    The last line of each reason goes into the message, the rest is a note.
    """
    errors = {number: reply for number, reply in replies.items() if reply.has_error()}
    failed = {number: reason(reply) for number, reply in errors.items()}
    failed |= {number: NO_REPLY for number in asked if number not in replies}
    if failed:
        error = _failed(failed, who)
        error.add_note("\n".join(reply.error.reason or "" for reply in errors.values()))
        raise error


def _failed(failed: Mapping[int, str], who: str = "client") -> ClientFailedError:
    told = [f"{who} {number} failed: {why}" for number, why in failed.items()]
    more = [f"and {len(told) - MOST_NAMED:,} more {who}s failed"] if len(told) > MOST_NAMED else []
    return ClientFailedError("; ".join([*told[:MOST_NAMED], *more]))
