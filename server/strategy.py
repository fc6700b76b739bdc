"""Federated averaging whose sampling and summation order depend on the seed alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field

from clients.randomness import generator
from clients.weights import flatten

ROUNDING = 1e-9  # so that a third of three clients is one


class FederationConfig(BaseModel):
    """How often the server asks, and whom."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rounds: int = Field(20, ge=1, le=100_000, description="rounds of federated averaging")
    participation: float = Field(1.0, gt=0, le=1, description="share of the clients sampled in each round")


@dataclass(frozen=True, slots=True)
class RoundRecord:
    """What the server held in one round: it sees every client's update."""

    number: int
    weights: Float[np.ndarray, " params"]  # broadcast at the start of the round
    updates: dict[int, Float[np.ndarray, " params"]]  # client -> broadcast minus returned weights
    metrics: dict[int, dict[str, float]]  # client -> what it reported


class ClientFailedError(Exception):
    """A client answered with an error."""


class SeededFedAvg(FedAvg):
    """McMahan et al. 2017, weighted by member count, as in Flower, with two changes that make runs repeatable.

    Flower samples with the global `random` over random node ids and sums replies in order of arrival. Here the
    sample comes from (seed, round) over client numbers, and replies are summed in order of client number.
    """

    def __init__(
        self, nodes: dict[int, int], plan: FederationConfig, seed: int, observe: Callable[[RoundRecord], None]
    ) -> None:
        super().__init__(fraction_train=plan.participation, fraction_evaluate=0.0)
        self._nodes = nodes
        self._clients = {node: client for client, node in nodes.items()}
        self._seed = seed
        self._observe = observe
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
        self._sampled = sample_clients(len(self._nodes), self.fraction_train, self._seed, server_round)
        record = RecordDict({"arrays": arrays, "config": config})
        return self._construct_messages(record, [self._nodes[client] for client in self._sampled], MessageType.TRAIN)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """The weighted mean of the replies, in order of client number; the round is handed to the observer first."""
        by_client = dict(sorted((self._clients[reply.metadata.src_node_id], reply) for reply in replies))
        fail_on_errors(by_client, self._sampled)
        weights = flatten(self._broadcast)
        self._observe(
            RoundRecord(
                server_round,
                weights,
                {c: weights - flatten(next(iter(r.content.array_records.values()))) for c, r in by_client.items()},
                {c: reported(reply) for c, reply in by_client.items()},
            )
        )
        return super().aggregate_train(server_round, list(by_client.values()))


def sample_clients(clients: int, participation: float, seed: int, server_round: int) -> list[int]:
    """The client numbers sampled in a round, without replacement, in increasing order.

    Raises:
        ValueError: less than one client would be sampled.
    """
    if clients * participation < 1 - ROUNDING:
        raise ValueError(f"an empty round: {participation} of {clients} clients is less than one")
    count = round(clients * participation)
    rng = generator(seed, "sample", server_round)
    return sorted(int(c) for c in rng.choice(clients, count, replace=False))


def fail_on_errors(replies: Mapping[int, Message], asked: Iterable[int], who: str = "client") -> None:
    """Raise ClientFailedError naming every client in `asked` that answered with an error, or not in time.

    A reason can be a whole traceback from another process: the last line goes into the message, the rest is a note.
    """
    errors = {number: reply.error.reason or "" for number, reply in replies.items() if reply.has_error()}
    failed = errors | {number: "it sent no reply" for number in asked if number not in replies}
    if failed:
        last = {number: reason.strip("<>'\n ").splitlines()[-1:] or ["?"] for number, reason in failed.items()}
        error = ClientFailedError("; ".join(f"{who} {number} failed: {line}" for number, (line,) in last.items()))
        error.add_note("\n".join(errors.values()))
        raise error


def reported(reply: Message) -> dict[str, float]:
    """A reply's metrics as plain floats."""
    metrics = next(iter(reply.content.metric_records.values()))
    return {name: float(value) for name, value in metrics.items() if isinstance(value, int | float)}
