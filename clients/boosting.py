"""A tampering client that shouts: it sends its update several times as large, to outweigh the others in the mean."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from flwr.app import Context, Message, RecordDict

from clients.messages import CallNext, is_training, sent_weights
from clients.weights import flatten, unflatten


@dataclass(frozen=True, slots=True, kw_only=True)
class Boost:
    """A Flower mod around `train`: the update times `factor` (model replacement, Bagdasaryan et al. 2020, arXiv
    1807.00459, equation 3; with as many clients as `factor` in a mean, the tampering client's model replaces it).

    It stands outside whatever clips the client's update: nobody can make a device clip. Other clients are left alone.
    """

    clients: frozenset[int]
    factor: float

    def __call__(self, message: Message, context: Context, call_next: CallNext) -> Message:
        """Pass the message on, and scale what comes back."""
        reply = call_next(message, context)
        boosts = int(context.node_config["partition-id"]) in self.clients
        if not boosts or not is_training(message) or reply.has_error():
            return reply
        arrays = sent_weights(message)
        before = flatten(arrays).astype(np.float64)
        after = flatten(next(iter(reply.content.array_records.values())))
        boosted = unflatten(before - self.factor * (before - after), arrays)
        metrics = next(iter(reply.content.metric_records.values()))
        return Message(RecordDict({"arrays": boosted, "metrics": metrics}), reply_to=message)
