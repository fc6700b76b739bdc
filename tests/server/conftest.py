"""Replies as they reach the server, without the clients that would send them."""

from __future__ import annotations

import numpy as np
from flwr.app import Array, ArrayRecord, Error, Message, MetricRecord, RecordDict

NODES = {0: 907, 1: 12, 2: 555, 3: 31}  # client -> node: the two orders differ
COUNTS = {0: 10, 1: 30, 2: 5, 3: 55}
BROADCAST = np.arange(6, dtype=np.float32)


def arrays(values):
    """A model of six weights, in two arrays."""
    values = np.asarray(values, dtype=np.float32)
    return ArrayRecord({"weight": Array(values[:4].reshape(2, 2)), "bias": Array(values[4:])})


def local(client):
    """One client's weights: of unlike sizes, so that the order of a float32 sum shows."""
    return (np.random.default_rng(client).normal(size=6) * 10.0 ** (3 * client - 4)).astype(np.float32)


def asked(client):
    """The message that a client answers."""
    return Message(RecordDict(), dst_node_id=NODES[client], message_type="train")


def answer(client, **records):
    """A reply with these records, whatever they are."""
    return Message(RecordDict(records), reply_to=asked(client))


def reply(client, weights=None, **metrics):
    """What a client sends; `metrics` replace or add to what it reports."""
    said = MetricRecord({"num-examples": COUNTS[client], "loss": client / 4, **metrics})
    return answer(client, metrics=said, arrays=arrays(local(client) if weights is None else weights))


def failed(client, reason="ValueError: no"):
    """An error in the place of a reply."""
    return Message(Error(code=2, reason=reason), reply_to=asked(client))
