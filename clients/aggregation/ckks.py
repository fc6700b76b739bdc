"""The client's half of summing under CKKS encryption: the server adds ciphertexts, the clients hold the key."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MessageType, RecordDict

from clients.aggregation.graph import FEWEST_IN_A_SUM
from clients.aggregation.payload import Vector, pack
from clients.messages import (
    CallNext,
    PublicError,
    RefusedMessageError,
    answer_once,
    answered_quietly,
    is_training,
    last_answered,
    sent_weights,
    server_round,
    without_update,
)

if TYPE_CHECKING:
    import tenseal

# One 60-bit prime carries the ciphertexts; the second only exists because TenSEAL makes switching keys, which we drop.
# 100 bits at degree 4096 are inside the 109 that the homomorphic encryption standard allows for 128-bit security.
DEGREE = 4096
PRIMES = (60, 40)  # bits
SLOTS = DEGREE // 2  # values per ciphertext
SCALE = 2.0**30
LIMIT = 2.0**20  # largest value a client may encrypt
MAX_CLIENTS = 256  # LIMIT * SCALE * MAX_CLIENTS = 2^58, half of what wraps around

CIPHERTEXTS = "ckks-ciphertexts"  # record of a client's reply, and of the request to open a sum
OPENED = "ckks-sum"  # record of the answer to that request
_ENCRYPTED = "encrypted updates"


class FewInSumError(PublicError):
    """A sum that a client was asked to open is over too few clients to hide any of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ckks:
    """A Flower mod around `train`: the reply leaves the client encrypted (Cheon et al. 2017, eprint 2016/421).

    All clients hold the same secret key, handed to them out of band; the server holds none and only adds. It has the
    sum opened by one of the clients.

    Protects from: a server that follows the protocol, and a tap on the wire. They see ciphertexts, the sum of all
    survivors, and how many values were sent. Unit: client; no differential privacy: the sum itself says what it says.
    Each ciphertext holds a one beside the payload, so that whoever opens a sum knows how many are in it, and opens one
    of `fewest` or more, and one sum per round.

    Does not protect from: one client that sides with the server, for its key opens every update, and every client holds
    it. Nor from a server that cheats: it can multiply a single client's ciphertext until it counts as many, or have two
    clients open sums that differ by one client. And what is opened is approximate: its rounding noise depends on the
    key, and who collects enough opened sums whose exact values he knows can compute it (IND-CPA^D, Li and Micciancio
    2021, eprint 2020/1533).

    The noise is fresh in every run: sums differ in their last digits, by about 2e-7 times the root of the number of
    clients. Upload: 32 bytes per value.
    """

    keys: bytes = field(repr=False)  # the clients' part of `make_keys`
    metrics: tuple[str, ...] = ()  # what is summed besides the update, see `payload.pack`
    fewest: int = FEWEST_IN_A_SUM  # clients in a sum that is opened

    def __call__(self, message: Message, context: Context, call_next: CallNext) -> Message:
        """Encrypt the reply to `train`, open a sum when asked to; see `clients.messages` for anything else.

        Raises:
            AnsweredRoundError: the round was answered before, or a later one.
            FewInSumError: the sum to open is over too few clients.
            NotFiniteError: the update or a metric is not finite.
            RefusedMessageError: the message is none of these, or belongs to no round that the client took part in.
            TrainingFailedError: training raised something.
            ValueError: it does not fit the broadcast weights, or holds a value beyond LIMIT.
        """
        # Flower calls mods for registered message types only, so the request travels as a plain query.
        if message.metadata.message_type == MessageType.QUERY and CIPHERTEXTS in message.content.config_records:
            return self._open(message, context)
        if not is_training(message):
            return without_update(message, context, call_next)
        arrays = sent_weights(message)
        answer_once(context, _ENCRYPTED, server_round(message))
        reply = answered_quietly(message, context, call_next)
        if reply.has_error():
            return reply
        payload = pack(arrays, reply.content, self.metrics)
        return Message(_record(encrypt(np.append(payload, 1.0), self.keys)), reply_to=message)

    def _open(self, message: Message, context: Context) -> Message:
        number = server_round(message)
        if number != last_answered(context, _ENCRYPTED):
            raise RefusedMessageError(f"a sum of round {number}: this client's last round is another one")
        answer_once(context, "opening a sum", number)
        total = decrypt(ciphertexts(message), self.keys)
        if not self.fewest - 0.5 < total[-1] <= MAX_CLIENTS:
            raise FewInSumError(f"a sum over fewer than {self.fewest} clients is not opened")
        return Message(RecordDict({OPENED: ArrayRecord({"total": Array(total[:-1])})}), reply_to=message)


def _tenseal() -> ModuleType:
    """TenSEAL, imported late. Raises RuntimeError where it would crash the process: after TensorFlow."""
    if "tensorflow" in sys.modules and "tenseal" not in sys.modules:
        raise RuntimeError(
            "TenSEAL crashes where TensorFlow was imported first: import tenseal before, or start afresh"
        )
    import tenseal

    return tenseal  # type: ignore[no-any-return]


def make_keys() -> tuple[bytes, bytes]:
    """New keys: what every client gets, about 60 kB with the secret key, and what the server gets, about 100 bytes.

    The clients encrypt with the secret key, so there is no public key; a sum needs no relinearisation or Galois keys.
    The server's part is the parameters and nothing else.
    """
    ts = _tenseal()

    context = ts.context(
        ts.SCHEME_TYPE.CKKS,
        DEGREE,
        coeff_mod_bit_sizes=list(PRIMES),
        encryption_type=ts.ENCRYPTION_TYPE.SYMMETRIC,
        n_threads=1,
    )
    without = {"save_public_key": False, "save_galois_keys": False, "save_relin_keys": False}
    return context.serialize(save_secret_key=True, **without), context.serialize(save_secret_key=False, **without)


@lru_cache(maxsize=4)
def load_keys(keys: bytes) -> tenseal.Context:
    """Either part of `make_keys` as a TenSEAL context on one thread."""
    ts = _tenseal()

    return ts.context_from(keys, n_threads=1)


def encrypt(payload: Vector, keys: bytes) -> list[bytes]:
    """One serialised ciphertext for every SLOTS values. Raises ValueError where a value is beyond LIMIT."""
    ts = _tenseal()

    if np.abs(payload).max(initial=0.0) > LIMIT:
        # The value itself stays out of the message: what a client raises is sent to the server in clear.
        raise ValueError(
            f"a value of weight * update or weight * metric is beyond {LIMIT:.0f}, and would spoil the encrypted sum; "
            "scale the metrics or the weights down"
        )
    context = load_keys(keys)
    chunks = (payload[start : start + SLOTS] for start in range(0, len(payload), SLOTS))
    return [ts.ckks_vector(context, chunk.tolist(), scale=SCALE).serialize() for chunk in chunks]


def decrypt(parts: list[bytes], keys: bytes) -> Vector:
    """The values in serialised ciphertexts. Raises ValueError where `keys` holds no secret key."""
    ts = _tenseal()

    context = load_keys(keys)
    return np.concatenate([ts.ckks_vector_from(context, part).decrypt() for part in parts])


def request(parts: list[bytes], node: int, number: int) -> Message:
    """The server's message that asks a client to open the sum of a round."""
    content = RecordDict({**_record(parts), "config": ConfigRecord({"server-round": number})})
    return Message(content, node, MessageType.QUERY, group_id=str(number))


def ciphertexts(message: Message) -> list[bytes]:
    """The ciphertexts that a reply or a request carries. Raises KeyError where it has none."""
    return list(message.content.config_records[CIPHERTEXTS]["parts"])  # type: ignore[arg-type]  # as `_record` wrote them


def _record(parts: list[bytes]) -> RecordDict:
    return RecordDict({CIPHERTEXTS: ConfigRecord({"parts": parts})})
