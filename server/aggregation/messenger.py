"""The five exchanges of our secure aggregation as messages: replies that can be read, and who dropped out, and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from clients.aggregation.wire import ProtocolError
from server.aggregation import RoundRefusedError
from server.received import NO_REPLY, reason

T = TypeVar("T")
STAGES = ("advertise keys", "share keys", "masked input", "consistency", "unmask")


@dataclass(frozen=True, slots=True)
class Messenger:
    """Reaches one round's clients, and notes in `dropped` whoever is lost, and at which stage."""

    grid: Grid
    nodes: Mapping[int, int]  # client -> node id
    number: int
    timeout: float | None
    dropped: dict[int, str] = field(default_factory=dict)  # node id -> stage and reason

    def ask(
        self, stage: int, kind: str, contents: Mapping[int, RecordDict], read: Callable[[int, RecordDict], T]
    ) -> dict[int, T]:
        """Send each client its message and read the replies; whoever sends none that can be read is dropped."""
        group = str(self.number)
        sent = [Message(content, self.nodes[c], kind, group_id=group) for c, content in contents.items()]
        replies = {
            reply.metadata.src_node_id: reply for reply in self.grid.send_and_receive(sent, timeout=self.timeout)
        }
        answers: dict[int, T] = {}
        for client in contents:
            try:
                answers[client] = _read(replies.get(self.nodes[client]), client, read)
            except ProtocolError as error:
                self.dropped[self.nodes[client]] = f"{STAGES[stage]}: {error}"
        return answers

    def refusal(self, stage: int, why: str) -> RoundRefusedError:
        """Why this round gives no sum, at which stage, and who had dropped out."""
        lost = "; ".join(f"node {node} at {what}" for node, what in self.dropped.items())
        text = f"round {self.number} of secure aggregation is refused at stage {stage}, {STAGES[stage]}: {why}"
        return RoundRefusedError(text + (f". Dropped out: {lost}" if lost else ""), self.dropped)


def _read(reply: Message | None, client: int, read: Callable[[int, RecordDict], T]) -> T:
    if reply is None:
        raise ProtocolError(NO_REPLY)
    if reply.has_error():
        raise ProtocolError(reason(reply))
    try:
        return read(client, reply.content)
    except ProtocolError:
        raise
    except Exception as error:  # whatever a client sends must not end the round for the others
        raise ProtocolError(f"its reply cannot be read: {type(error).__name__}") from error
