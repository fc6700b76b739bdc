"""The client's half of Flower's own SecAgg+, fed with updates instead of weights: the named baseline, not a defence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from flwr.app import Context, Message, MessageType
from flwr.client.mod import secaggplus_mod
from flwr.client.mod.secure_aggregation.secaggplus_mod import SecAggPlusState
from flwr.common import Code, FitRes, Status, ndarrays_to_parameters
from flwr.common.secure_aggregation.crypto.symmetric_encryption import generate_shared_key
from flwr.common.secure_aggregation.secaggplus_constants import RECORD_KEY_STATE
from flwr.compat.common.recorddict_compat import fitres_to_recorddict
from flwr.supercore.primitives.asymmetric import bytes_to_private_key, bytes_to_public_key
from jaxtyping import Float

from clients.aggregation.payload import WEIGHT, pack, unpack
from clients.randomness import generator

CallNext = Callable[[Message, Context], Message]
Update = Float[np.ndarray, " params"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowerSecAggPlus:
    """A Flower mod: `secaggplus_mod` of flwr 1.41 around `train`, with the update in the place of the new weights.

    Flower leaves in clear, client by client: the weight (`num-examples`) and every metric. Masked is only
    weight * update. The masks are weak as well: see `attacks.mask_recovery`. Keys come unauthenticated through the
    server, and a server that cheats can ask for both shares of a client's secrets. Protects from a server that follows
    the protocol, sides with no client, and does not care to search.

    Flower clips what is beyond its range without a word; here that is an error before anything is masked. Its rounding
    is stochastic and uses NumPy's global generator: that is set from (seed, round, client) for the rounding, and put
    back afterwards.
    """

    seed: int
    metrics: tuple[str, ...] = ()  # what the reply must report besides its weight, see `payload.pack`

    def __call__(self, message: Message, context: Context, call_next: CallNext) -> Message:
        """Take part in Flower's four stages, which all come as `train`; anything else passes.

        Raises:
            NotFiniteError: the update or a metric is not finite.
            ValueError: the reply does not fit the broadcast weights, or Flower would saturate it.
        """
        if message.metadata.message_type != MessageType.TRAIN:
            return call_next(message, context)
        before = np.random.get_state()  # noqa: NPY002  # what Flower rounds with
        try:
            return secaggplus_mod(message, context, partial(self._train, call_next=call_next))
        finally:
            np.random.set_state(before)  # noqa: NPY002

    def _train(self, message: Message, context: Context, call_next: CallNext) -> Message:
        """Train, and answer as Flower's older API does: what it then masks is the update."""
        reply = call_next(message, context)
        if reply.has_error():
            raise RuntimeError(reply.error.reason)  # Flower's mod takes no error for an answer
        payload = pack(next(iter(message.content.array_records.values())), reply.content, self.metrics)
        metrics: dict[str, Any] = dict(next(iter(reply.content.metric_records.values())))
        weight = metrics.pop(WEIGHT)
        refuse_weight(weight, _setting(context, "max_weight"))
        update = unpack(payload, self.metrics).update / weight
        refuse_saturated(update, weight / _setting(context, "max_weight"), _setting(context, "clipping_range"))
        self._seed_rounding(message, context)
        result = FitRes(Status(Code.OK, ""), ndarrays_to_parameters([update]), weight, metrics)
        return Message(fitres_to_recorddict(result, keep_input=False), reply_to=message)

    def _seed_rounding(self, message: Message, context: Context) -> None:
        config, client = message.content.config_records["config"], context.node_config["partition-id"]
        rng = generator(self.seed, "rounding", int(config["server-round"]), int(client))  # type: ignore[arg-type]
        state = np.random.RandomState(int(rng.integers(2**32))).get_state()
        np.random.set_state(state)  # noqa: NPY002


def refuse_weight(weight: object, max_weight: float) -> None:
    """Raise ValueError where Flower's integers cannot hold this weight. It is in clear, so the text may tell it."""
    if not isinstance(weight, int) or weight < 1:
        raise ValueError(f"{WEIGHT} = {weight!r}: Flower's SecAgg+ takes whole numbers from 1")
    if weight > max_weight:
        raise ValueError(f"{WEIGHT} = {weight} is above max_weight = {max_weight:g}: raise max_weight to the largest")


def refuse_saturated(update: Update, share: float, clipping_range: float) -> None:
    """Raise ValueError where share (weight over max_weight) times the update leaves the range Flower clips to.

    How large it is stays out of the message: what a client raises is sent to the server in clear.
    """
    if np.abs(update).max(initial=0.0) * share > clipping_range:
        raise ValueError(
            f"an entry of the update is beyond clipping_range = {clipping_range:g} (after weighting) and Flower would "
            "clip it silently; raise clipping_range, or clip the update's norm"
        )


def pairwise_secrets(context: Context) -> dict[int, bytes]:
    """What a colluding client can hand over after a round: the key of the mask it shares with each neighbour, by node.

    Flower keeps the private keys in the client's context, in clear. Raises KeyError where it took part in no round.
    """
    state = SecAggPlusState(**context.state.config_records[RECORD_KEY_STATE])
    own = bytes_to_private_key(state.sk1)
    return {
        node: generate_shared_key(own, bytes_to_public_key(key))
        for node, (key, _) in state.public_keys_dict.items()
        if node != state.nid
    }


def _setting(context: Context, name: str) -> float:
    """A setting of this round, as the server told it in the first stage."""
    return float(context.state.config_records[RECORD_KEY_STATE][name])  # type: ignore[arg-type]
