"""A client's half of secure aggregation: the server gets the sum of what clients send, and nothing of any one of them.

Bonawitz et al. 2017 (doi 10.1145/3133956.3133982, section 6) over a sparse graph as in Bell et al. 2020
(ia.cr/2020/704). Each pair of neighbours adds a mask that cancels in the sum, and each client one of its own. What both
are made from is shared among the client's neighbours, t of which can take off a survivor's own mask, or a dropped
client's pair masks.

Unit: all that one client contributes in a round. Vantage: a malicious server, together with `Rules.colluding` clients
of its choice. It sees who took part and one sum over `Rules.fewest_honest` honest clients or more, which trained on the
same broadcast; a client is in one such sum per round number. It is no differential privacy, and says nothing about what
the sums themselves give away.

What that rests on. Identity keys: each client holds everybody's by another way than the server. Thresholds, neighbours
and the fewest in a sum: from the client's own `Rules`. The server's word on what happened: each client signs it, and
gives out no share before so many signed the same that no honest client can have signed anything else.

- Who takes part: the graph follows from it, and every share is sealed for it, so that it opens for nobody who was told
  of other participants.
- What was broadcast and whose shares came: signed together with the masked vector. A client helps to unmask a vector
  only if that signature is for what it was told itself; otherwise a server could thin out a client's neighbours.
- Who survived: signed in a stage of its own, once per round.

Not prevented: a client that masks nonsense or withholds its signature, which costs the round; a server that lets no
round come about, or takes a few clients only.
"""

from __future__ import annotations

import copy
import logging
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, RecordDict
from flwr.common.constant import ErrorCode

from clients.aggregation import masks, shamir, wire
from clients.aggregation.fixed_point import Encoded, Encoding, integer_type
from clients.aggregation.graph import Neighbourhood, Rules, graph, neighbourhood
from clients.aggregation.masks import KEY_BYTES, SIGNATURE_BYTES, Keyring, TamperedError, about
from clients.aggregation.payload import pack
from clients.aggregation.wire import ProtocolError
from clients.messages import FAILED, CallNext, PublicError, answered_quietly, is_training, sent_weights, without_update
from clients.randomness import noise_generator

Step = tuple[RecordDict, ConfigRecord]  # the reply, and what the client remembers from here on

# A client's state: where it is in a round, and what it needs for the next stage.
_STAGE = "stage"
_ADVERTISED, _SHARED, _TRAINING, _MASKED, _SIGNED, _DONE = (
    "keys advertised",
    "shares sent",
    "training",
    "masked vector sent",
    "list of survivors signed",
    "done",
)
MASK_KEY = "mask-key"
_SHARE_KEY, _SEED, _HELD, _BROADCAST = "share-key", "seed", "held", "broadcast"


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
    rules: Rules = field(default_factory=Rules)

    def __call__(self, message: Message, context: Context, call_next: CallNext) -> Message:
        """Answer one message.

        Raises:
            RefusedMessageError: it is neither the protocol's nor harmless, see `clients.messages.without_update`.
        """
        kind = message.metadata.message_type
        stage = _train if is_training(message) else _STAGES.get(kind)
        if stage is None:
            return without_update(message, context, call_next)
        try:
            reply, context.state[wire.RECORD] = stage(self, _turn(message, context), message, context, call_next)
        except (ProtocolError, PublicError) as error:
            return _error(message, f"{type(error).__name__}: {error}" if isinstance(error, PublicError) else str(error))
        except Exception as error:  # its text may hold anything, and the server would read it
            logging.getLogger(__name__).info("secure aggregation failed on this client", exc_info=error)
            return _error(message, f"the client failed at {kind}: {type(error).__name__}")
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
        """The state for the next stage; what is not named is forgotten, but for the round's number."""
        return wire.record({_STAGE: stage, wire.ROUND: self.number, **entries})


@dataclass(frozen=True, slots=True)
class _Round:
    """Who takes part in a round, as this client was told, and what follows from it by the client's own rules."""

    roster: list[int]
    size: Neighbourhood
    graph: Mapping[int, frozenset[int]]
    about: tuple[str | int, ...]  # names all of this in what is signed and sealed

    def helpers(self, client: int, among: Iterable[int]) -> frozenset[int]:
        """The client's neighbours in a list."""
        return self.graph[client].intersection(among)


def _turn(message: Message, context: Context) -> _Turn:
    asked = message.content.get(wire.RECORD)
    if not isinstance(asked, ConfigRecord):
        raise ProtocolError("the message is not part of secure aggregation, and this client answers to nothing else")
    state = context.state.config_records.get(wire.RECORD, ConfigRecord())
    client = int(context.node_config["partition-id"])
    return _Turn(context.run_id, wire.read_integer(asked, wire.ROUND), client, asked, state)


def _round(mod: SecAggMod, turn: _Turn, told: ConfigRecord) -> _Round:
    """The round that a list of participants makes. Raises ProtocolError where it makes none by the client's rules."""
    roster, known = wire.read_clients(told, wire.ROSTER), mod.keyring(turn.client).public
    _check_list(roster, known, "in this client's key ring")
    if turn.client not in roster:
        raise ProtocolError(f"client {turn.client} is not among those said to take part, {roster}")
    try:
        size = neighbourhood(len(roster), mod.rules)
    except ValueError as error:
        raise ProtocolError(str(error)) from None
    digest = sha256(about("round", turn.run, turn.number, repr(mod.rules), *roster)).hexdigest()
    return _Round(roster, size, graph(roster, turn.number, size.neighbours), (digest,))


def signed(run: int, server_round: int, client: int, keys: bytes) -> bytes:
    """What a client signs: its two public keys of one round."""
    return about("keys", run, server_round, client, keys.hex())


def _advertise(mod: SecAggMod, turn: _Turn, *_: object) -> Step:
    """Stage 0: fresh key pairs, one for masks and one for shares, signed. Once for a round, and for no older one."""
    last = turn.state.get(wire.ROUND)
    if isinstance(last, int) and turn.number <= last:
        raise ProtocolError(f"round {turn.number} is over: this client was asked for its keys of round {last}")
    mask, share = masks.make_key(), masks.make_key()
    keys = masks.public_key(mask) + masks.public_key(share)
    signature = masks.sign(mod.keyring(turn.client).private, signed(turn.run, turn.number, turn.client, keys))
    state = turn.remember(_ADVERTISED, {MASK_KEY: mask, _SHARE_KEY: share})
    return wire.content({wire.KEYS: keys + signature}), state


def _share(mod: SecAggMod, turn: _Turn, *_: object) -> Step:
    """Stage 1: a share of the own seed and one of the own mask key for every neighbour, sealed for it."""
    turn.expect(_ADVERTISED)
    here = _round(mod, turn, turn.asked)
    neighbours = wire.read_mapping(turn.asked, wire.KEYS, wire.KEYS_BYTES)
    if neighbours.keys() != here.graph[turn.client]:
        due = sorted(here.graph[turn.client])
        raise ProtocolError(f"keys of {sorted(neighbours)}, and client {turn.client}'s neighbours are {due}")
    _check_signatures(turn, neighbours, mod.keyring(turn.client).public)
    seed = secrets.token_bytes(KEY_BYTES)
    mask_key, share_key = (wire.read_bytes(turn.state, name, KEY_BYTES) for name in (MASK_KEY, _SHARE_KEY))
    sealed = {}
    for number, share in _split(seed, mask_key, here.size.threshold, neighbours).items():
        key, context = _channel(turn, here, share_key, neighbours[number], (turn.client, number))
        sealed[number] = masks.seal(key, share, context)
    secret = {MASK_KEY: mask_key, _SHARE_KEY: share_key, _SEED: seed}
    state = turn.remember(_SHARED, {**secret, wire.ROSTER: here.roster, wire.KEYS: neighbours})
    return wire.content({wire.SEALED: sealed, wire.TAG: seed_tag(seed)}), state


def _train(mod: SecAggMod, turn: _Turn, message: Message, context: Context, call_next: CallNext) -> Step:
    """Stage 2: train, and reply with the masked payload and a signature for what it is masked with, and nothing else.

    From here on the round is closed for this client, also where training fails.
    """
    turn.expect(_SHARED)
    arrays = sent_weights(message)
    here = _round(mod, turn, turn.state)
    sharing = wire.read_clients(turn.asked, wire.SHARING)
    _check_list(sharing, here.roster, "among those who take part")
    held = _open_shares(turn, here, sharing)
    context.state[wire.RECORD] = turn.remember(_TRAINING, {})
    reply = _trained(message, context, call_next)
    masked = _mask(turn, _encoded(mod, turn, arrays, reply), held, mod.encoding.bits)
    broadcast = broadcast_digest(message.content)
    signature = masks.sign(mod.keyring(turn.client).private, _sharers(turn.client, here, broadcast, sharing))
    content = RecordDict({wire.MASKED: ArrayRecord({wire.VECTOR: Array(masked)})})
    content[wire.RECORD] = wire.record({wire.SIGNATURE: signature})
    kept: wire.Entries = {wire.ROSTER: here.roster, wire.SHARING: sharing, _BROADCAST: broadcast, _HELD: held}
    return content, turn.remember(_MASKED, kept)


def _consistency(mod: SecAggMod, turn: _Turn, *_: object) -> Step:
    """Stage 3: sign who survived, if a sum over those is one that this client agrees to; once."""
    turn.expect(_MASKED)
    here, sharing = _round(mod, turn, turn.state), wire.read_clients(turn.state, wire.SHARING)
    survivors = wire.read_clients(turn.asked, wire.SURVIVORS)
    _check_survivors(mod.rules, turn, here, sharing, survivors)
    broadcast, held = (
        wire.read_bytes(turn.state, _BROADCAST, KEY_BYTES),
        wire.read_mapping(turn.state, _HELD, 2 * shamir.SHARE_BYTES),
    )
    statement = _survived(turn.client, here, broadcast, sharing, survivors)
    signature = masks.sign(mod.keyring(turn.client).private, statement)
    lists: wire.Entries = {wire.ROSTER: here.roster, wire.SHARING: sharing, wire.SURVIVORS: survivors}
    state = turn.remember(_SIGNED, {**lists, _BROADCAST: broadcast, _HELD: held})
    return wire.content({wire.SIGNATURE: signature}), state


def _unmask(mod: SecAggMod, turn: _Turn, *_: object) -> Step:
    """Stage 4: for each neighbour one of its two shares, if enough others signed the same survivors; once."""
    turn.expect(_SIGNED)
    here, sharing = _round(mod, turn, turn.state), wire.read_clients(turn.state, wire.SHARING)
    survivors = wire.read_clients(turn.state, wire.SURVIVORS)
    _check_agreement(mod, turn, here, sharing, survivors)
    held = wire.read_mapping(turn.state, _HELD, 2 * shamir.SHARE_BYTES)
    there = set(survivors)
    seeds = {number: share[: shamir.SHARE_BYTES] for number, share in held.items() if number in there}
    keys = {number: share[shamir.SHARE_BYTES :] for number, share in held.items() if number not in there}
    return wire.content({wire.SEED: seeds, wire.KEY: keys}), turn.remember(_DONE, {})


_STAGES: dict[str, Callable[[SecAggMod, _Turn, Message, Context, CallNext], Step]] = {
    wire.ADVERTISE_TYPE: _advertise,
    wire.SHARE_TYPE: _share,
    wire.CONSISTENCY_TYPE: _consistency,
    wire.UNMASK_TYPE: _unmask,
}


def broadcast_digest(content: RecordDict) -> bytes:
    """SHA-256 of all that a `train` message holds besides the protocol's record: weights and settings, by name.

    Clients sign it, so that nobody's vector is unmasked in a sum with vectors that were trained on other weights: else
    a server could send all but one client weights at which they learn nothing (Pasquini et al. 2022, arXiv 2111.07380).
    """
    digest = sha256()

    def note(text: str, data: bytes = b"") -> None:
        digest.update(f"{len(text)}/{len(data)}/{text}".encode() + data)

    for name, record in sorted(content.items()):
        if isinstance(record, ArrayRecord):  # in its own order, which is the order of the payload
            for entry, array in record.items():
                note(repr((name, entry, array.dtype, tuple(array.shape))), array.data)
        elif name != wire.RECORD:
            note(repr((name, sorted(record.items()))))
    return digest.digest()


def _sharers(client: int, here: _Round, broadcast: bytes, sharing: list[int]) -> bytes:
    """What a client signs with its masked vector: whose shares it was told of, and what it trained on."""
    return about("sharing", client, *here.about, broadcast.hex(), *sharing)


def _survived(client: int, here: _Round, broadcast: bytes, sharing: list[int], survivors: list[int]) -> bytes:
    """What a client signs before it unmasks anything: that, and who survived."""
    return about("survived", client, *here.about, broadcast.hex(), *sharing, "survivors", *survivors)


def _check_list(numbers: list[int], known: Iterable[int], where: str) -> None:
    """Whether a list of clients is in rising order, each once, and holds only known ones."""
    if numbers != sorted(set(numbers)):
        raise ProtocolError(f"a list of clients is not in rising order, each named once: {numbers}")
    if strangers := set(numbers).difference(known):
        raise ProtocolError(f"clients {sorted(strangers)} are not {where}")


def _check_survivors(rules: Rules, turn: _Turn, here: _Round, sharing: list[int], survivors: list[int]) -> None:
    """Whether a sum over these is one that hides everybody in it."""
    _check_list(survivors, sharing, "among those who sent shares")
    if turn.client not in survivors:
        raise ProtocolError(f"client {turn.client} sent its masked vector, but is not named as a survivor")
    if len(survivors) < (needed := max(rules.fewest, here.size.quorum)):
        raise ProtocolError(
            f"{len(survivors)} of {len(here.roster)} clients survived, fewer than the {needed} it takes"
        )
    counts = {client: len(here.helpers(client, survivors)) for client in survivors}
    poorest = min(counts, key=counts.__getitem__)
    if counts[poorest] < here.size.threshold:
        raise ProtocolError(
            f"{counts[poorest]} neighbours of client {poorest} survived, fewer than the threshold, "
            f"{here.size.threshold}"
        )


def _check_agreement(mod: SecAggMod, turn: _Turn, here: _Round, sharing: list[int], survivors: list[int]) -> None:
    """Whether so many signed what this client signed that no honest one can have signed anything else, and whether each
    neighbour whose vector it helps to unmask was told the same when it masked it.
    """
    public, broadcast = mod.keyring(turn.client).public, wire.read_bytes(turn.state, _BROADCAST, KEY_BYTES)
    given = wire.read_mapping(turn.asked, wire.SIGNATURES, SIGNATURE_BYTES)
    agree = {turn.client} | {
        client
        for client, signature in given.items()
        if client in survivors
        and _signed(public[client], signature, _survived(client, here, broadcast, sharing, survivors))
    }
    if len(agree) < here.size.quorum:
        raise ProtocolError(
            f"{len(agree)} of {len(here.roster)} clients signed the survivors that client {turn.client} was told of; "
            f"it takes {here.size.quorum}"
        )
    masked = wire.read_mapping(turn.asked, wire.SHARERS, SIGNATURE_BYTES)
    for client in here.helpers(turn.client, survivors) - agree:
        told = _sharers(client, here, broadcast, sharing)
        if client not in masked or not _signed(public[client], masked[client], told):
            raise ProtocolError(f"client {client} did not sign that it was sent what client {turn.client} was")


def _signed(public: bytes, signature: bytes, statement: bytes) -> bool:
    try:
        masks.verify(public, signature, statement)
    except TamperedError:
        return False
    return True


def seed_tag(seed: bytes) -> bytes:
    """What the server compares a reconstructed seed with. It says nothing about the seed, or about masks from it."""
    return masks.derive(seed, about("seed tag"))


def _check_signatures(turn: _Turn, neighbours: Mapping[int, bytes], public: Mapping[int, bytes]) -> None:
    for number, entry in neighbours.items():
        keys, signature = entry[: 2 * KEY_BYTES], entry[2 * KEY_BYTES :]
        if not _signed(public[number], signature, signed(turn.run, turn.number, number, keys)):
            raise ProtocolError(
                f"the keys handed out as client {number}'s do not carry its signature for this round: they were swapped"
            )


def _channel(turn: _Turn, here: _Round, private: bytes, entry: bytes, pair: tuple[int, int]) -> tuple[bytes, bytes]:
    """The key that a share is sealed with from the first client of a pair to the second, and what it is bound to."""
    context = about("shares", turn.run, turn.number, *pair, *here.about)
    try:
        return masks.agree(private, entry[KEY_BYTES : 2 * KEY_BYTES], context), context
    except TamperedError as error:
        raise ProtocolError(f"between clients {pair[0]} and {pair[1]}: {error}") from None


def _split(seed: bytes, key: bytes, threshold: int, holders: Mapping[int, bytes]) -> dict[int, bytes]:
    """For each holder its share of the seed followed by its share of the mask key."""
    points = [number + 1 for number in holders]  # zero is where the secret lies
    seeds, keys = (shamir.split(int.from_bytes(secret, "big"), threshold, points) for secret in (seed, key))
    return {n: wire.share_to_bytes(seeds[n + 1]) + wire.share_to_bytes(keys[n + 1]) for n in holders}


def _open_shares(turn: _Turn, here: _Round, sharing: list[int]) -> dict[int, bytes]:
    """The shares that neighbours sealed for this client, by sender: of all neighbours that are said to share."""
    sealed = wire.read_mapping(turn.asked, wire.SEALED, wire.SEALED_BYTES)
    neighbours = wire.read_mapping(turn.state, wire.KEYS, wire.KEYS_BYTES)
    private, due = wire.read_bytes(turn.state, _SHARE_KEY, KEY_BYTES), here.helpers(turn.client, sharing)
    if sealed.keys() != due:
        raise ProtocolError(
            f"shares from {sorted(sealed)}, and those of client {turn.client}'s neighbours are due that "
            f"are said to share, {sorted(due)}"
        )
    if len(sealed) < here.size.threshold:
        raise ProtocolError(f"{len(sealed)} neighbours sent shares, fewer than the threshold, {here.size.threshold}")
    held = {}
    for number, content in sealed.items():
        key, context = _channel(turn, here, private, neighbours[number], (number, turn.client))
        try:
            held[number] = masks.unseal(key, content, context)
        except TamperedError as error:
            raise ProtocolError(
                f"client {number}'s share for client {turn.client}: {error}, so it was told of other participants, or "
                "somebody changed it"
            ) from None
    return held


def _trained(message: Message, context: Context, call_next: CallNext) -> RecordDict:
    """What the client app replies to the message without the protocol's record."""
    inner = copy.deepcopy(message)  # arrays are bytes, which are shared and not copied
    inner.content.pop(wire.RECORD)
    reply = answered_quietly(inner, context, call_next)
    if reply.has_error():
        raise ProtocolError(FAILED)
    counts = len(reply.content.array_records), len(reply.content.metric_records)
    if counts != (1, 1):
        raise ProtocolError(f"training gave {counts[0]} records of arrays and {counts[1]} of metrics, not one of each")
    return reply.content


def _encoded(mod: SecAggMod, turn: _Turn, arrays: ArrayRecord, reply: RecordDict) -> Encoded:
    rng = noise_generator(mod.seed, "encoding", turn.number, turn.client)
    try:
        return mod.encoding.encode(pack(arrays, reply, mod.metrics), rng)
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


def _error(message: Message, reason: str) -> Message:
    return Message(Error(ErrorCode.MOD_FAILED_PRECONDITION, reason), reply_to=message)
