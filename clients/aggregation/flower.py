"""The client's half of Flower's own SecAgg+, fed with updates instead of weights: the named baseline, not a defence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, Context, Message, MessageType
from flwr.client.mod import secaggplus_mod
from flwr.client.mod.secure_aggregation.secaggplus_mod import SecAggPlusState
from flwr.common import Code, FitRes, Status, ndarrays_to_parameters
from flwr.common.secure_aggregation.crypto.symmetric_encryption import generate_shared_key
from flwr.common.secure_aggregation.secaggplus_constants import RECORD_KEY_CONFIGS, RECORD_KEY_STATE, Key, Stage
from flwr.compat.common.recorddict_compat import fitres_to_recorddict
from flwr.supercore.primitives.asymmetric import bytes_to_private_key, bytes_to_public_key
from jaxtyping import Float

from clients.aggregation.graph import FEWEST_IN_A_SUM
from clients.aggregation.payload import WEIGHT, pack, unpack
from clients.messages import (
    FAILED,
    CallNext,
    RefusedMessageError,
    TrainingFailedError,
    answer_once,
    answered_quietly,
    is_training,
    sent_weights,
    server_round,
    without_update,
)
from clients.randomness import generator

Update = Float[np.ndarray, " params"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowerSecAggPlus:
    """A Flower mod: `secaggplus_mod` of flwr 1.41 around `train`, with the update in the place of the new weights.

    Flower leaves in clear, client by client: the weight (`num-examples`) and every metric. Masked is only
    weight * update. The masks are weak as well: see `attacks.mask_recovery`. Keys come unauthenticated through the
    server, which can take every other client's part, and tell each client of other drop-outs. Protects from a server
    that follows the protocol, sides with no client, and does not care to search.

    What a client can check in Flower's messages it does check: that a round is planned for `fewest` clients or more,
    that each has two neighbours at least and more than half of the shares are needed, and that nobody is called both
    alive and dropped. How many are in the sum beyond its own neighbours it is not told.

    Flower clips what is beyond its range without a word; here that is an error before anything is masked. Its rounding
    is stochastic and uses NumPy's global generator: that is set from (seed, round, client) for the rounding, and put
    back afterwards.
    """

    seed: int
    metrics: tuple[str, ...] = ()  # what the reply must report besides its weight, see `payload.pack`
    fewest: int = FEWEST_IN_A_SUM  # clients in a sum

    def __call__(self, message: Message, context: Context, call_next: CallNext) -> Message:
        """Take part in Flower's four stages, which all come as `train`; see `clients.messages` for anything else.

        Raises:
            AnsweredRoundError: the client trained in this round before, or in a later one.
            NotFiniteError: the update or a metric is not finite.
            RefusedMessageError: the message is none of these, or a stage in which a client could be singled out.
            TrainingFailedError: training raised something.
            ValueError: the reply does not fit the broadcast weights, or Flower would saturate it.
        """
        if not is_training(message):
            return without_update(message, context, call_next)
        message.metadata.message_type = MessageType.TRAIN  # the one of the two names that Flower's mod knows
        self._check(message, context)
        before = np.random.get_state()  # noqa: NPY002  # what Flower rounds with
        try:
            return secaggplus_mod(message, context, partial(self._train, call_next=call_next))
        finally:
            np.random.set_state(before)  # noqa: NPY002

    def _check(self, message: Message, context: Context) -> None:
        """Refuse a stage in which a client could be singled out, as far as one can tell from Flower's messages."""
        config = message.content.config_records.get(RECORD_KEY_CONFIGS)
        if config is None:
            raise RefusedMessageError("the message is not part of SecAgg+, and this client answers to nothing else")
        state = context.state.config_records.get(RECORD_KEY_STATE, ConfigRecord())
        check = {Stage.SETUP: self._check_setup, Stage.UNMASK: self._check_lists}.get(str(config.get(Key.STAGE)))
        if check is not None:
            check(dict(config), dict(state))

    def _check_setup(self, config: Mapping[str, Any], state: Mapping[str, Any]) -> None:  # noqa: ARG002
        numbers: list[Any] = [config.get(key) for key in (Key.SAMPLE_NUMBER, Key.SHARE_NUMBER, Key.THRESHOLD)]
        if not all(type(number) is int for number in numbers):
            return  # Flower's own check names what is missing
        sampled, shares, threshold = numbers
        if sampled < self.fewest or shares < FEWEST_IN_A_SUM:
            raise RefusedMessageError(
                f"{sampled} clients and {shares} shares of each secret: it takes {self.fewest} and {FEWEST_IN_A_SUM} "
                "at least, or a client could be singled out"
            )
        if not shares < 2 * threshold <= 2 * shares:
            raise RefusedMessageError(
                f"{threshold} of {shares} shares open a secret: it takes more than half, or both of a client's secrets "
                "could be opened"
            )

    def _check_lists(self, config: Mapping[str, Any], state: Mapping[str, Any]) -> None:
        """Of the client's neighbours, and the client itself."""
        alive, dropped = (config.get(key) for key in (Key.ACTIVE_NODE_ID_LIST, Key.DEAD_NODE_ID_LIST))
        if not (isinstance(alive, list) and isinstance(dropped, list)):
            return  # Flower's own check names what is missing
        if len({*alive, *dropped}) != len(alive) + len(dropped):
            raise RefusedMessageError("a client is named twice: it cannot have survived and dropped out")
        if state.get("nid") not in alive or len(alive) < FEWEST_IN_A_SUM:
            raise RefusedMessageError(
                f"{len(alive)} of this client's neighbours and itself are said to be there: {FEWEST_IN_A_SUM} must be, "
                "and this client is"
            )

    def _train(self, message: Message, context: Context, call_next: CallNext) -> Message:
        """Train, and answer as Flower's older API does: what it then masks is the update."""
        arrays = sent_weights(message)
        answer_once(context, "masked updates", server_round(message))
        reply = answered_quietly(message, context, call_next)
        if reply.has_error():
            raise TrainingFailedError(FAILED)  # Flower's mod takes no error for an answer
        payload = pack(arrays, reply.content, self.metrics)
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
