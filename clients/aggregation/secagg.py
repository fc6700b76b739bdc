"""A client's half of secure aggregation: the server gets the sum of what clients send, and nothing of any one of them.

Bonawitz et al. 2017 (doi 10.1145/3133956.3133982) over the sparse graph of Bell et al. 2020 (ia.cr/2020/704). Each
pair of neighbours adds a mask that cancels in the sum, and each client one of its own. What both are made from is
shared among the client's neighbours, t of which can take off a survivor's own mask, or a dropped client's pair masks.

Why 2t > k + c for threshold t, k neighbours and c colluders among them: a neighbour gives out one of its two shares
of a client and never both; colluders give both. So the server sees k + c shares of a client at most, even if it tells
every neighbour something else about who dropped out, and it would need 2t to have t of each kind.

Unit: all that one client contributes in a round. Vantage: an honest-but-curious server together with colluding clients
within that bound sees the sum, who took part, and nothing else; it is no differential privacy, and says nothing about
what the sums themselves give away. Caught is a server that swaps keys, asks twice, or asks for both kinds. Not caught
is one that surrounds a client with colluders, for it draws graph and sample; nor a client that masks nonsense, which
spoils the sum unnoticed.
"""

from __future__ import annotations

import copy
import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, RecordDict
from flwr.common.constant import ErrorCode

from clients.aggregation import masks, shamir, wire
from clients.aggregation.fixed_point import Encoded, Encoding, integer_type
from clients.aggregation.masks import KEY_BYTES, Keyring, TamperedError, about
from clients.aggregation.payload import pack
from clients.aggregation.wire import ProtocolError
from clients.randomness import noise_generator

CallNext = Callable[[Message, Context], Message]
Step = tuple[RecordDict, ConfigRecord]  # the reply, and what the client remembers from here on

# A client's state: where it is in a round, and what it needs for the next stage.
_STAGE, _CLOSED = "stage", "closed"  # closed: the last round that this client sent a masked vector in
_ADVERTISED, _SHARED, _MASKED, _DONE = "keys advertised", "shares sent", "masked vector sent", "done"
MASK_KEY = "mask-key"
_SHARE_KEY, _SEED, _HELD = "share-key", "seed", "held"


@dataclass(frozen=True, slots=True)
class SecAggMod:
    """The protocol as a Flower mod, the outermost one; the app needs `wire.register` as well.

    It answers the protocol's own messages, and turns the reply to `train` (one record of arrays, one of metrics with
    `num-examples`) into a masked vector and nothing else. Other message types pass through as they are.

    Keys and seeds are fresh in each round, from the operating system's randomness. Between the stages they lie in the
    context's state, which Flower keeps on the node, so it works on Ray and on SuperNodes too; they are deleted when
    they have served. An error reply holds no private number and, if training failed, only the exception's name.
    """

    keyring: Callable[[int], Keyring]  # client number (the node's partition id) -> its own key ring
    encoding: Encoding
    metrics: tuple[str, ...]  # shared besides the update and the weight, as sums over clients
    seed: int | None  # of an encoding's noise, so that a simulation can be repeated, or None: the system's randomness;
    # no key or mask depends on it
    colluding: int = 0  # colluders among its neighbours that the client wants the threshold to allow for

    def __call__(self, message: Message, context: Context, call_next: CallNext) -> Message:
        """Answer one message."""
        stage = _STAGES.get(message.metadata.message_type)
        if stage is None:
            return call_next(message, context)
        try:
            reply, context.state[wire.RECORD] = stage(self, _turn(message, context), message, context, call_next)
        except ProtocolError as error:
            return _error(message, str(error))
        except Exception as error:  # its text may hold anything, and the server would read it
            logging.getLogger(__name__).info("secure aggregation failed on this client", exc_info=error)
            return _error(message, f"the client failed at {message.metadata.message_type}: {type(error).__name__}")
        return Message(reply, reply_to=message)


@dataclass(frozen=True, slots=True)
class _Turn:
    """One stage for one client: which round, what it is asked, and what it remembers from the stage before."""

    run: int
    number: int
    client: int
    asked: ConfigRecord
    state: ConfigRecord

    def expect(self, stage: str) -> None:
        """Each stage follows the one before, once: a second answer under the same keys would give away a difference."""
        at = [self.state.get(_STAGE), self.state.get(wire.ROUND)]
        if at != [stage, self.number]:
            raise ProtocolError(f"the client is at {at}, and what was asked for follows on {[stage, self.number]}")

    def remember(self, stage: str, entries: wire.Entries) -> ConfigRecord:
        """The state for the next stage; what is not named is forgotten, but for the last round that is closed."""
        closed = wire.read_integer(self.state, _CLOSED) if _CLOSED in self.state else -1
        return wire.record({_STAGE: stage, wire.ROUND: self.number, _CLOSED: closed, **entries})


def _turn(message: Message, context: Context) -> _Turn:
    asked = message.content.get(wire.RECORD)
    if not isinstance(asked, ConfigRecord):
        raise ProtocolError("the message is not part of secure aggregation, and this client answers to nothing else")
    state = context.state.config_records.get(wire.RECORD, ConfigRecord())
    client = int(context.node_config["partition-id"])
    return _Turn(context.run_id, wire.read_integer(asked, wire.ROUND), client, asked, state)


def signed(run: int, server_round: int, client: int, keys: bytes) -> bytes:
    """What a client signs: its two public keys of one round."""
    return about("keys", run, server_round, client, keys.hex())


def _advertise(mod: SecAggMod, turn: _Turn, *_: object) -> Step:
    """Stage 0: fresh key pairs, one for masks and one for shares, signed."""
    closed = turn.state.get(_CLOSED, -1)
    if isinstance(closed, int) and turn.number <= closed:
        raise ProtocolError(f"round {turn.number} is over: this client sent a masked vector in round {closed}")
    mask, share = masks.make_key(), masks.make_key()
    keys = masks.public_key(mask) + masks.public_key(share)
    signature = masks.sign(mod.keyring(turn.client).private, signed(turn.run, turn.number, turn.client, keys))
    state = turn.remember(_ADVERTISED, {MASK_KEY: mask, _SHARE_KEY: share})
    return wire.content({wire.KEYS: keys + signature}), state


def _share(mod: SecAggMod, turn: _Turn, *_: object) -> Step:
    """Stage 1: a share of the own seed and one of the own mask key for every neighbour, sealed for it."""
    turn.expect(_ADVERTISED)
    neighbours = wire.read_mapping(turn.asked, wire.KEYS, wire.KEYS_BYTES)
    threshold = wire.read_integer(turn.asked, wire.THRESHOLD)
    check_threshold(threshold, len(neighbours), mod.colluding)
    _check_signatures(turn, neighbours, mod.keyring(turn.client).public)
    seed = secrets.token_bytes(KEY_BYTES)
    mask_key, share_key = (wire.read_bytes(turn.state, name, KEY_BYTES) for name in (MASK_KEY, _SHARE_KEY))
    sealed = {}
    for number, share in _split(seed, mask_key, threshold, neighbours).items():
        key, context = _channel(turn, share_key, neighbours[number], turn.client, number)
        sealed[number] = masks.seal(key, share, context)
    secret = {MASK_KEY: mask_key, _SHARE_KEY: share_key, _SEED: seed}
    state = turn.remember(_SHARED, {**secret, wire.THRESHOLD: threshold, wire.KEYS: neighbours})
    return wire.content({wire.SEALED: sealed, wire.TAG: seed_tag(seed)}), state


def _train(mod: SecAggMod, turn: _Turn, message: Message, context: Context, call_next: CallNext) -> Step:
    """Stage 2: train, and reply with the masked payload alone. It takes shares from t neighbours at least."""
    turn.expect(_SHARED)
    held = _open_shares(turn)
    reply = _trained(message, context, call_next)
    encoded = _encoded(mod, turn, message, reply)
    masked = _mask(turn, encoded, held, mod.encoding.bits)
    content = RecordDict({wire.MASKED: ArrayRecord({wire.VECTOR: Array(masked)})})
    threshold = wire.read_integer(turn.state, wire.THRESHOLD)
    return content, turn.remember(_MASKED, {_CLOSED: turn.number, wire.THRESHOLD: threshold, _HELD: held})


def _unmask(mod: SecAggMod, turn: _Turn, *_: object) -> Step:  # noqa: ARG001  # all stages are called alike
    """Stage 3: for each neighbour one of its two shares, as the server says who survived; once."""
    turn.expect(_MASKED)
    held = wire.read_mapping(turn.state, _HELD, 2 * shamir.SHARE_BYTES)
    survivors, dropped = (wire.read_clients(turn.asked, name) for name in (wire.SURVIVORS, wire.DROPPED))
    _check_lists(turn, survivors, dropped, set(held))
    seeds = {number: held[number][: shamir.SHARE_BYTES] for number in survivors if number != turn.client}
    keys = {number: held[number][shamir.SHARE_BYTES :] for number in dropped}
    return wire.content({wire.SEED: seeds, wire.KEY: keys}), turn.remember(_DONE, {})


_STAGES: dict[str, Callable[[SecAggMod, _Turn, Message, Context, CallNext], Step]] = {
    wire.ADVERTISE_TYPE: _advertise,
    wire.SHARE_TYPE: _share,
    wire.TRAIN_TYPE: _train,
    f"{wire.TRAIN_TYPE}.default": _train,  # Flower's other name for it, which must not slip past the masks
    wire.UNMASK_TYPE: _unmask,
}


def check_threshold(threshold: int, neighbours: int, colluding: int) -> None:
    """Raise ProtocolError unless t of the k neighbours can be had, and t shares of both kinds cannot: 2t > k + c."""
    if threshold > neighbours:
        raise ProtocolError(f"{neighbours} neighbours are fewer than the threshold, {threshold}")
    if 2 * threshold <= neighbours + colluding:
        raise ProtocolError(
            f"threshold {threshold} for {neighbours} neighbours and {colluding} colluders: it must be more than half "
            f"of both together, {(neighbours + colluding) // 2 + 1} or more, or the server could unmask a single client"
        )


def seed_tag(seed: bytes) -> bytes:
    """What the server compares a reconstructed seed with. It says nothing about the seed, or about masks from it."""
    return masks.derive(seed, about("seed tag"))


def _check_signatures(turn: _Turn, neighbours: Mapping[int, bytes], public: Mapping[int, bytes]) -> None:
    if turn.client in neighbours:
        raise ProtocolError(f"client {turn.client} is named as its own neighbour")
    for number, entry in neighbours.items():
        if number not in public:
            raise ProtocolError(f"client {number} is not in this client's key ring")
        keys, signature = entry[: 2 * KEY_BYTES], entry[2 * KEY_BYTES :]
        try:
            masks.verify(public[number], signature, signed(turn.run, turn.number, number, keys))
        except TamperedError:
            raise ProtocolError(
                f"the keys handed out as client {number}'s do not carry its signature for this round: they were swapped"
            ) from None


def _channel(turn: _Turn, private: bytes, entry: bytes, sender: int, receiver: int) -> tuple[bytes, bytes]:
    """The key that a share is sealed with from sender to receiver, and the context it is bound to."""
    context = about("shares", turn.run, turn.number, sender, receiver)
    try:
        return masks.agree(private, entry[KEY_BYTES : 2 * KEY_BYTES], context), context
    except TamperedError as error:
        raise ProtocolError(f"between clients {sender} and {receiver}: {error}") from None


def _split(seed: bytes, key: bytes, threshold: int, holders: Mapping[int, bytes]) -> dict[int, bytes]:
    """For each holder its share of the seed followed by its share of the mask key."""
    points = [number + 1 for number in holders]  # zero is where the secret lies
    seeds, keys = (shamir.split(int.from_bytes(secret, "big"), threshold, points) for secret in (seed, key))
    return {n: wire.share_to_bytes(seeds[n + 1]) + wire.share_to_bytes(keys[n + 1]) for n in holders}


def _open_shares(turn: _Turn) -> dict[int, bytes]:
    """The shares that neighbours sealed for this client, by sender."""
    sealed = wire.read_mapping(turn.asked, wire.SEALED, wire.SEALED_BYTES)
    neighbours = wire.read_mapping(turn.state, wire.KEYS, wire.KEYS_BYTES)
    threshold, private = (
        wire.read_integer(turn.state, wire.THRESHOLD),
        wire.read_bytes(turn.state, _SHARE_KEY, KEY_BYTES),
    )
    if strangers := sealed.keys() - neighbours.keys():
        raise ProtocolError(f"shares from {sorted(strangers)}, who are no neighbours of client {turn.client}")
    if len(sealed) < threshold:
        raise ProtocolError(f"{len(sealed)} neighbours sent shares, fewer than the threshold, {threshold}")
    held = {}
    for number, content in sealed.items():
        key, context = _channel(turn, private, neighbours[number], number, turn.client)
        try:
            held[number] = masks.unseal(key, content, context)
        except TamperedError as error:
            raise ProtocolError(f"client {number}'s share for client {turn.client}: {error}") from None
    return held


def _trained(message: Message, context: Context, call_next: CallNext) -> RecordDict:
    """What the client app replies to the message without the protocol's record."""
    inner = copy.deepcopy(message)  # arrays are bytes, which are shared and not copied
    inner.content.pop(wire.RECORD)
    reply = call_next(inner, context)
    if reply.has_error():
        raise ProtocolError("training failed on the client")
    counts = len(reply.content.array_records), len(reply.content.metric_records)
    if counts != (1, 1):
        raise ProtocolError(f"training gave {counts[0]} records of arrays and {counts[1]} of metrics, not one of each")
    return reply.content


def _encoded(mod: SecAggMod, turn: _Turn, message: Message, reply: RecordDict) -> Encoded:
    broadcast = next(iter(message.content.array_records.values()))
    rng = noise_generator(mod.seed, "encoding", turn.number, turn.client)
    try:
        return mod.encoding.encode(pack(broadcast, reply, mod.metrics), rng)
    except ValueError as error:  # whose texts tell sizes, names and settings, and nothing private
        raise ProtocolError(str(error)) from None


def _mask(turn: _Turn, encoded: Encoded, held: Mapping[int, bytes], bits: int) -> Encoded:
    """The payload plus the own mask plus a pair mask for every neighbour whose shares came."""
    neighbours = wire.read_mapping(turn.state, wire.KEYS, wire.KEYS_BYTES)
    key = wire.read_bytes(turn.state, MASK_KEY, KEY_BYTES)
    seed = wire.read_bytes(turn.state, _SEED, KEY_BYTES)
    total = encoded.astype(integer_type(bits))
    total += masks.self_mask(seed, turn.number, len(total), bits)
    for number in held:
        pair, public = (turn.client, number), neighbours[number][:KEY_BYTES]
        total += masks.pair_mask(key, public, pair, turn.number, len(total), bits)
    return total


def _check_lists(turn: _Turn, survivors: list[int], dropped: list[int], held: set[int]) -> None:
    """Whether the server's word on who survived is one that an honest server could give."""
    named = [*survivors, *dropped]
    if len(named) != len(set(named)):
        raise ProtocolError("a client is named twice: it cannot have survived and dropped out")
    if turn.client not in survivors:
        raise ProtocolError(f"client {turn.client} sent its masked vector, but is not named as a survivor")
    if set(named) != held | {turn.client}:
        raise ProtocolError(
            f"client {turn.client} shared secrets with {sorted(held)}, and not with all of {sorted(named)}"
        )
    threshold = wire.read_integer(turn.state, wire.THRESHOLD)
    if len(survivors) - 1 < threshold:
        raise ProtocolError(f"{len(survivors) - 1} neighbours survived, fewer than the threshold, {threshold}")


def _error(message: Message, reason: str) -> Message:
    return Message(Error(ErrorCode.MOD_FAILED_PRECONDITION, reason), reply_to=message)
