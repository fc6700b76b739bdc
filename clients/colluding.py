"""A client in league with the server: it takes part like any other, and hands over the keys of the masks it shares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from flwr.app import ConfigRecord, Context, Message

from clients.aggregation import masks, wire
from clients.aggregation.masks import KEY_BYTES
from clients.aggregation.secagg import MASK_KEY
from clients.messages import CallNext, is_training

Secrets = Mapping[int, bytes]  # neighbour, as the protocol names it -> key of the mask shared with it


@dataclass(frozen=True, slots=True, kw_only=True)
class Colluding:
    """A Flower mod, the outermost one. It hands over when a client is asked to train: keys are there by then, and a
    protocol that forgets them does so once the vector is masked.
    """

    clients: frozenset[int]  # who colludes; the others are left alone
    server_round: int
    secrets: Callable[[Context], Secrets]  # how to find them in the client's state
    tell: Callable[[int, Secrets], None]  # the way to the server, outside the protocol; takes the client's number

    def __call__(self, message: Message, context: Context, call_next: CallNext) -> Message:
        """Answer one message as an honest client does."""
        client = int(context.node_config["partition-id"])
        if client in self.clients and self._trains(message):
            self.tell(client, self.secrets(context))
        return call_next(message, context)

    def _trains(self, message: Message) -> bool:
        config = message.content.config_records.get("config", ConfigRecord())
        return is_training(message) and config.get("server-round") == self.server_round


def secagg_secrets(context: Context) -> Secrets:
    """A client's mask keys in our secure aggregation (clients.aggregation.secagg), by client number.

    They are there from the shares to the masked vector, and then deleted. Raises ProtocolError at any other time.
    """
    state = context.state.config_records[wire.RECORD]
    own, number = wire.read_bytes(state, MASK_KEY, KEY_BYTES), wire.read_integer(state, wire.ROUND)
    client = int(context.node_config["partition-id"])
    return {
        other: masks.pair_key(own, keys[:KEY_BYTES], (client, other), number)
        for other, keys in wire.read_mapping(state, wire.KEYS, wire.KEYS_BYTES).items()
    }
