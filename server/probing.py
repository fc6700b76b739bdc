"""Rounds beside the protocol: a server that sends each client weights of its choice, in ordinary messages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid

from clients.messages import PERSONALIZE
from server.aggregation import Exchange, is_sum, received_sum
from server.received import NO_REPLY, Received, reason, receive


@dataclass(frozen=True, slots=True)
class Line:
    """A server's line to its clients, as in honest rounds: the same messages, the same exchange, the same settings.

    Clients cannot tell such a round from another but by the weights that it brings. It counts against their budgets as
    any other does, so numbers must go on where the protocol's ended: noise and masks depend on them.
    """

    grid: Grid
    nodes: Mapping[int, int]  # client -> node id
    exchange: Exchange
    settings: Callable[[], dict[str, float]]

    def train(self, weights: Mapping[int, ArrayRecord], server_round: int) -> Received:
        """What comes back when each client trains on its own weights: updates are sent less returned weights.

        Raises:
            BudgetSpentError, RoundRefusedError: as the exchange does.
        """
        messages = self._messages(weights, server_round, MessageType.TRAIN)
        replies = self.exchange(self.grid, messages)
        if is_sum(replies):
            return received_sum(replies[0], self._clients)
        return _merged(self._received(weights, replies))

    def personalize(self, weights: Mapping[int, ArrayRecord], server_round: int) -> dict[int, str]:
        """Have each client personalise its own weights; client -> why it did not, or nothing where it did."""
        messages = self._messages(weights, server_round, f"{MessageType.TRAIN}.{PERSONALIZE}")
        replies = {self._clients[r.metadata.src_node_id]: r for r in self.grid.send_and_receive(messages)}
        answers = {client: replies.get(client) for client in weights}
        return {c: (reason(r) if r.has_error() else "") if r else NO_REPLY for c, r in answers.items()}

    @property
    def _clients(self) -> dict[int, int]:
        return {node: client for client, node in self.nodes.items()}

    def _messages(self, weights: Mapping[int, ArrayRecord], server_round: int, kind: str) -> list[Message]:
        settings: dict[str, Any] = {**self.settings(), "server-round": server_round}
        return [
            Message(
                RecordDict({"arrays": arrays, "config": ConfigRecord(settings)}),
                dst_node_id=self.nodes[client],
                message_type=kind,
            )
            for client, arrays in sorted(weights.items())
        ]

    def _received(self, weights: Mapping[int, ArrayRecord], replies: Iterable[Message]) -> list[Received]:
        """Each client's reply against what that client was sent."""
        by_client = {self._clients[reply.metadata.src_node_id]: [reply] for reply in replies}
        return [receive(by_client.get(c, []), weights[c], self._clients, [c]) for c in sorted(weights)]


def _merged(parts: list[Received]) -> Received:
    return Received(
        clients=tuple(client for part in parts for client in part.clients),
        total=np.sum([part.total for part in parts], axis=0),
        weight=sum(part.weight for part in parts),
        dropped={client: why for part in parts for client, why in part.dropped.items()},
        updates={client: update for part in parts for client, update in part.updates.items()},
        metrics={client: said for part in parts for client, said in part.metrics.items()},
    )
