"""Client-level protection on the device: the update is clipped before it leaves, and where asked, noised as well."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from jaxtyping import Float

from clients.aggregation.payload import WEIGHT
from clients.messages import (
    CallNext,
    TrainingFailedError,
    answer_once,
    answered_quietly,
    is_training,
    sent_weights,
    server_round,
    without_update,
)
from clients.randomness import noise_generator
from clients.weights import flatten, unflatten

CLIPPING_NORM = "clipping-norm"  # in the server's config, where the norm adapts
WITHIN = "within"  # metric: 1 where the update was not longer than the clipping norm, else 0
SLACK = 1e-4  # room for rounding to float32 and to fixed point, which must not make an update longer than the norm

Mod: TypeAlias = Callable[[Message, Context, CallNext], Message]
Vector = Float[np.ndarray, " params"]


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdatePrivacy:
    """A Flower mod around `train`: clips the update to an L2 norm, and adds Gaussian noise where it is local.

    Unit: client. With `noise_multiplier` z > 0 (local noise) whatever leaves is private against everybody: sensitivity
    2C under replacing all of the client's records by any others, noise zC. With z = 0 it only bounds what one client
    can do to the sum; whoever adds noise to the sum makes it private. Every client weighs the same, and reports nothing
    else: its number of records and its loss would be releases of their own, and so would the failure of its training,
    which leaves as an update of zero.
    Each round number is answered once, since the noise follows from it.
    """

    seed: int | None  # None: noise from the operating system's randomness
    clipping_norm: float
    noise_multiplier: float = 0.0
    adaptive: bool = False  # the norm comes with the server's message, and one bit goes back

    def __call__(self, message: Message, context: Context, call_next: CallNext) -> Message:
        """Pass the message on, and clip and noise what comes back.

        Raises:
            AnsweredRoundError: the round was answered before, or a later one.
            RefusedMessageError: the message neither asks for an update nor is harmless; or it names no round, or
                brings more than one record of arrays.
            TrainingFailedError: what answers another message raised something.
        """
        if not is_training(message):
            return without_update(message, context, call_next)
        arrays = sent_weights(message)
        answer_once(context, "clipped updates", server_round(message))
        config: Any = message.content["config"]  # the server's: numbers under known names
        norm = float(config[CLIPPING_NORM]) if self.adaptive else self.clipping_norm
        update = _trained(arrays, message, context, call_next)
        metrics: dict[str, float] = {WEIGHT: 1}
        if self.adaptive:
            metrics[WITHIN] = float(np.linalg.norm(update) <= norm)
        client = int(context.node_config["partition-id"])
        rng = noise_generator(self.seed, "local noise", int(config["server-round"]), client)
        private = clip(update, norm * (1 - SLACK)) + rng.normal(0.0, self.noise_multiplier * norm, update.shape)
        noised = unflatten(_returned(flatten(arrays), private, shorten=self.noise_multiplier == 0), arrays)
        return Message(RecordDict({"arrays": noised, "metrics": MetricRecord(metrics)}), reply_to=message)  # type: ignore[arg-type]


def _trained(arrays: ArrayRecord, message: Message, context: Context, call_next: CallNext) -> Vector:
    """What training took off the weights: nothing where it failed, left the finite numbers, or gave other weights."""
    zero = np.zeros(flatten(arrays).shape, np.float64)
    try:
        reply = answered_quietly(message, context, call_next)
    except TrainingFailedError:
        return zero
    if reply.has_error():
        return zero
    after = flatten(next(iter(reply.content.array_records.values())))
    update: Vector = flatten(arrays).astype(np.float64) - after if after.shape == zero.shape else zero
    return update if np.isfinite(update).all() else zero


def _returned(before: Vector, update: Vector, *, shorten: bool) -> Vector:
    """The weights that stand for an update, in float32.

    `shorten`: rounded towards the broadcast weights, so that the update which a sum is made of is no longer than what
    was clipped; to the nearest, it could be, where the norm is small beside the weights. Noise that is in it
    already makes rounding harmless.
    """
    exact = before.astype(np.float64) - update
    after: Vector = exact.astype(np.float32)
    if shorten:
        beyond = np.abs(before - after.astype(np.float64)) > np.abs(update)
        after[beyond] = np.nextafter(after[beyond], before[beyond])
    return after


def clip(update: Vector, norm: float) -> Vector:
    """`update`, shortened to L2 norm `norm` if it is longer. A zero update stays zero."""
    length = float(np.linalg.norm(update))
    return update if length <= norm else update * (norm / length)
