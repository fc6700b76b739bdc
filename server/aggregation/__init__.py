"""The server's half of secure aggregation: it collects a round's sum and learns nothing else about any client."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid
from jaxtyping import Float

from clients.aggregation.payload import unpack
from server.received import Received

_SUM = "sum"

Exchange = Callable[[Grid, list[Message]], list[Message]]


@dataclass(frozen=True, slots=True)
class Collected:
    """What a protocol hands over: the sum of the survivors' payloads, and who they are, by node id."""

    total: Float[np.ndarray, " values"]  # float64, layout of clients.aggregation.payload
    survivors: list[int]
    dropped: dict[int, str] = field(default_factory=dict)  # node id -> at which stage, and why


class RoundRefusedError(Exception):
    """No sum can be had from this round without weakening somebody's protection; the global model stays as it is.

    `dropped` tells by node id who was lost, and why.
    """

    def __init__(self, message: str, dropped: Mapping[int, str] | None = None) -> None:
        super().__init__(message)
        self.dropped = dict(dropped or {})


def in_the_open(grid: Grid, messages: list[Message]) -> list[Message]:
    """No secure aggregation: every client's reply reaches the server."""
    return list(grid.send_and_receive(messages))


def as_reply(collected: Collected, metrics: Iterable[str], messages: list[Message]) -> Message:
    """A secure sum in the place of the replies it was made from, so that a strategy can take it like any reply."""
    by_node = {message.metadata.dst_node_id: message for message in messages}
    content = RecordDict(
        {
            _SUM: ArrayRecord({"total": Array(collected.total)}),
            "about": ConfigRecord(
                {
                    "metrics": list(metrics),
                    "survivors": collected.survivors,
                    "dropped": list(collected.dropped),
                    "reasons": list(collected.dropped.values()),
                }
            ),
        }
    )
    return Message(content, reply_to=by_node[collected.survivors[0]])


def is_sum(replies: list[Message]) -> bool:
    """Whether a round's only reply is a secure sum."""
    return len(replies) == 1 and replies[0].has_content() and _SUM in replies[0].content


def received_sum(reply: Message, clients: Mapping[int, int]) -> Received:
    """A secure sum as the strategy takes it in (`clients`: node id -> client)."""
    about: Any = reply.content["about"]  # as `as_reply` put it there
    sums = unpack(reply.content.array_records[_SUM]["total"].numpy(), tuple(about["metrics"]))
    return Received(
        clients=tuple(sorted(clients[node] for node in about["survivors"])),
        total=sums.update,
        weight=sums.weight,
        dropped=dict(sorted((clients[n], why) for n, why in zip(about["dropped"], about["reasons"], strict=True))),
        sums=sums.metrics,
    )
