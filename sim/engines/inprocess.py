"""Flower's two apps in one process: a Grid that hands each message to the ClientApp and returns its reply."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from uuid import uuid4

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode
from flwr.serverapp import Grid, ServerApp
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

RUN_ID = 1
FIRST_NODE_ID = 1000


class InProcessGrid(Grid):
    """Flower's Grid without a SuperLink: `clients` nodes, each with its own context, answering in sending order."""

    def __init__(self, client: ClientApp, clients: int) -> None:
        self._client = client
        self._run = Run.create_empty(run_id=RUN_ID)
        self._replies: dict[str, Message] = {}
        self._contexts = {
            FIRST_NODE_ID + number: Context(
                run_id=RUN_ID,
                node_id=FIRST_NODE_ID + number,
                node_config={"partition-id": number, "num-partitions": clients},
                state=RecordDict(),
                run_config={},
            )
            for number in range(clients)
        }

    def set_run(self, run: Run) -> None:
        """Replace the run this grid belongs to."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run this grid belongs to."""
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """A message to a node (Flower's older way of making one)."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> list[int]:
        """All nodes: they are there from the start."""
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Deliver the messages; the ids are good for `pull_messages`."""
        ids = []
        for message in messages:
            reply = self._deliver(message)
            ids.append(message.metadata.message_id)
            self._replies[message.metadata.message_id] = reply
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """The replies to messages pushed before, each once."""
        return [self._replies.pop(i) for i in list(message_ids) if i in self._replies]

    def send_and_receive(
        self,
        messages: Iterable[Message],
        *,
        timeout: float | None = None,  # noqa: ARG002  # delivery is immediate
    ) -> list[Message]:
        """Deliver the messages and return the replies in the same order."""
        return [self._deliver(message) for message in messages]

    def _deliver(self, message: Message) -> Message:
        _stamp(message)
        try:
            reply = self._client(_isolated(message), self._contexts[message.metadata.dst_node_id])
        except Exception as error:  # noqa: BLE001  # as in Flower: whatever a client raises reaches the server as an error
            reply = Message(
                Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, f"{type(error).__name__}: {error}"), reply_to=message
            )
        else:
            reply = _isolated(reply)
        _stamp(reply)
        return reply


def _stamp(message: Message) -> None:
    """Give the message an id, which Flower's link state does elsewhere."""
    message.metadata.__dict__["_message_id"] = str(uuid4())


def _isolated(message: Message) -> Message:
    """A copy, as if it had crossed the network: Flower puts one RecordDict into every client's message."""
    return copy.deepcopy(message)


def run(server: ServerApp, client: ClientApp, clients: int) -> None:
    """Run the server app to its end against `clients` in-process nodes."""
    # Message() reads the identity of the current task, which only Flower's own launchers set.
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, RUN_ID, SUPERLINK_NODE_ID
    context = Context(run_id=RUN_ID, node_id=0, node_config={}, state=RecordDict(), run_config={})
    server(InProcessGrid(client, clients), context)
