"""The server's half of summing under CKKS encryption: it adds what it cannot read and has a client open the sum."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING

import numpy as np
from flwr.app import Message
from flwr.serverapp import Grid
from jaxtyping import Float

from clients.aggregation.ckks import MAX_CLIENTS, OPENED, SLOTS, ciphertexts, load_keys, request
from clients.aggregation.graph import FEWEST_IN_A_SUM
from clients.messages import server_round
from clients.weights import flatten
from server.aggregation import Collected, RoundRefusedError
from server.received import NO_REPLY, reason

if TYPE_CHECKING:
    import tenseal

Total = Float[np.ndarray, " values"]


def collect(
    grid: Grid,
    messages: list[Message],
    metrics: tuple[str, ...],
    *,
    keys: bytes,
    fewest: int = FEWEST_IN_A_SUM,
    timeout: float | None = None,
) -> Collected:
    """One round: every client's ciphertexts, added, and the sum opened by the first survivor that can.

    `fewest` clients must be left, which the client that opens the sum checks as well. `keys` is the server's part of
    `clients.aggregation.ckks.make_keys`, `timeout` is in seconds for each exchange. What this protects from, and what
    not, stands with `clients.aggregation.ckks.Ckks`.

    Raises:
        RoundRefusedError: fewer than `fewest` clients are left, or none opens the sum.
        ValueError: more clients than the ciphertexts have room for.
    """
    if len(messages) > MAX_CLIENTS:
        raise ValueError(f"{len(messages)} clients in a round, CKKS sums have room for {MAX_CLIENTS}; sample fewer")
    sent = {reply.metadata.src_node_id: reply for reply in grid.send_and_receive(messages, timeout=timeout)}
    sizes = _sizes(messages[0], metrics)
    vectors, dropped = {}, {}
    for node in (message.metadata.dst_node_id for message in messages):
        try:
            vectors[node] = _vectors(sent.get(node), sizes, keys)
        except _UnusableError as why:
            dropped[node] = str(why)
    if len(vectors) < fewest:
        raise RoundRefusedError(
            f"{len(vectors)} of {len(messages)} clients are left, and a sum takes {fewest} at least", dropped
        )
    parts = [reduce(lambda a, b: a + b, chunk).serialize() for chunk in zip(*vectors.values(), strict=True)]
    questions = [request(parts, node, server_round(messages[0])) for node in vectors]
    total = _opened(grid, questions, sum(sizes) - 1, dropped, timeout)
    return Collected(total, list(vectors), dropped)


class _UnusableError(Exception):
    """A reply that cannot be used, and why."""


def _sizes(message: Message, metrics: tuple[str, ...]) -> list[int]:
    """How many values each ciphertext holds: of a payload, and of the one that is counted."""
    values = flatten(next(iter(message.content.array_records.values()))).size + len(metrics) + 2
    return [min(SLOTS, values - start) for start in range(0, values, SLOTS)]


def _vectors(reply: Message | None, sizes: list[int], keys: bytes) -> list[tenseal.CKKSVector]:
    import tenseal as ts

    if reply is None or reply.has_error():
        raise _UnusableError(NO_REPLY if reply is None else reason(reply))
    try:
        vectors = [ts.ckks_vector_from(load_keys(keys), part) for part in ciphertexts(reply)]
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise _UnusableError(f"its ciphertexts cannot be read: {error}") from error
    if [vector.size() for vector in vectors] != sizes:
        raise _UnusableError(f"its ciphertexts hold {sum(v.size() for v in vectors)} values, not {sum(sizes)}")
    return vectors


def _opened(grid: Grid, questions: list[Message], values: int, dropped: dict[int, str], timeout: float | None) -> Total:
    """The sum, from the first client that answers with one."""
    for question in questions:
        for reply in grid.send_and_receive([question], timeout=timeout):
            if (total := _total(reply)) is not None and total.shape == (values,) and np.isfinite(total).all():
                return total
    raise RoundRefusedError(f"none of the {len(questions)} clients that are left opened the sum", dropped)


def _total(reply: Message) -> Total | None:
    if reply.has_error() or OPENED not in reply.content.array_records:
        return None
    return next(iter(reply.content.array_records[OPENED].to_numpy_ndarrays()), None)
