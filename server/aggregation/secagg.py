"""The server's half of our secure aggregation (see clients.aggregation.secagg): four exchanges, and then one sum."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from clients.aggregation import masks, shamir, wire
from clients.aggregation.fixed_point import Encoded, Encoding, FixedPoint, integer_type
from clients.aggregation.masks import KEY_BYTES
from clients.aggregation.secagg import seed_tag
from clients.aggregation.wire import ProtocolError
from server.aggregation import Collected
from server.aggregation.graph import Neighbourhood, Rules, harary, neighbourhood
from server.aggregation.messenger import STAGES, Messenger


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerView:
    """What a server that follows the protocol holds after one round, by client: what a curious one works from."""

    masked: dict[int, Encoded]
    neighbours: dict[int, frozenset[int]]  # with whom a client shares a mask in its vector
    seeds: dict[int, bytes]  # of survivors' own masks, from the shares of the last stage


@dataclass(frozen=True, slots=True)
class _Shared:
    """What the server holds of one client after stage 1: public things, and shares that it cannot open."""

    keys: bytes  # both public keys and their signature
    sealed: dict[int, bytes]  # by receiver
    tag: bytes  # what the client's seed must give


@dataclass(frozen=True, slots=True)
class _Answer:
    """What one client gives out in stage 3, by neighbour."""

    seeds: dict[int, int]  # shares of survivors' seeds
    keys: dict[int, int]  # shares of dropped clients' mask keys


@dataclass(frozen=True, slots=True)
class _Plan:
    """What holds for a whole round."""

    net: Messenger
    graph: Mapping[int, frozenset[int]]
    threshold: int
    length: int  # of a masked vector
    bits: int

    def helpers(self, client: int, there: Iterable[int]) -> list[int]:
        """The client's neighbours among those who are still there."""
        return sorted(self.graph[client].intersection(there))


def collect(
    grid: Grid,
    messages: Iterable[Message],
    *,
    nodes: Mapping[int, int],
    encoding: Encoding,
    metrics: tuple[str, ...],
    server_round: int,
    rng: np.random.Generator,
    rules: Rules | None = None,
    before_unmask: Callable[[list[int]], None] | None = None,
    tap: Callable[[ServerView], None] | None = None,
    timeout: float | None = None,
) -> Collected:
    """The sum of the payloads of those clients that `messages`, a strategy's `train` messages, go to.

    A client may drop out at every stage: by an error, by silence, or by a reply that cannot be read. What is returned
    is the exact sum over those whose masked vector came. These are the survivors, also where one of them is lost in
    the last stage. `nodes` maps client numbers to node ids, and `rng` draws the graph. `before_unmask` is handed the
    survivors' node ids before any mask comes off; what it raises stops the release. `tap` is handed what the server
    holds. `timeout` is for each stage, in seconds.

    Raises:
        RoundRefusedError: fewer are left than the threshold asks for, or what they give does not fit together.
        ValueError: the fixed point was planned for fewer clients.
    """
    trains = {message.metadata.dst_node_id: message for message in messages}
    asked = {client: trains[node] for client, node in sorted(nodes.items()) if node in trains}
    if isinstance(encoding, FixedPoint) and len(asked) > encoding.capacity:
        raise ValueError(f"the fixed point has room for {encoding.capacity} clients, and {len(asked)} were sampled")
    net = Messenger(grid, nodes, server_round, timeout)
    keys = _advertise(net, asked)
    size = _size(net, len(keys), rules or Rules())
    graph = harary(list(keys), size.neighbours, rng)
    length = _length(next(iter(asked.values())), metrics)
    plan = _Plan(net, graph, size.threshold, length, encoding.bits)
    shared = _share(plan, keys)
    masked = _masked_input(plan, asked, shared)
    dropped = dict(net.dropped)
    survivors = [nodes[client] for client in masked]
    if before_unmask is not None:
        before_unmask(survivors)
    answers = _unmask(plan, shared, masked)
    seeds = _seeds(plan, shared, masked, answers)
    if tap is not None:
        neighbours = {client: frozenset(plan.helpers(client, shared)) for client in masked}
        tap(ServerView(masked=masked, neighbours=neighbours, seeds=seeds))
    total = _total(plan, shared, masked, seeds, answers)
    return Collected(encoding.decode(total), survivors, dropped)


def _advertise(net: Messenger, asked: Iterable[int]) -> dict[int, bytes]:
    """Stage 0: everybody's signed public keys of this round. Only clients can tell whether they are genuine."""
    request = wire.content({wire.ROUND: net.number})
    return net.ask(
        0,
        wire.ADVERTISE_TYPE,
        dict.fromkeys(asked, request),
        lambda _, content: wire.read_bytes(_own(content), wire.KEYS, wire.KEYS_BYTES),
    )


def _size(net: Messenger, clients: int, rules: Rules) -> Neighbourhood:
    try:
        return neighbourhood(clients, rules)
    except ValueError as error:
        raise net.refusal(0, str(error)) from None


def _length(message: Message, metrics: tuple[str, ...]) -> int:
    """How many values a payload has: the model's parameters, the metrics, and the weight."""
    arrays = next(iter(message.content.array_records.values()))
    return sum(math.prod(array.shape) for array in arrays.values()) + len(metrics) + 1


def _share(plan: _Plan, keys: Mapping[int, bytes]) -> dict[int, _Shared]:
    """Stage 1: everybody's sealed shares. Who has too few neighbours with shares is left out, here and not later."""

    def read(client: int, content: RecordDict) -> _Shared:
        sealed = wire.read_mapping(_own(content), wire.SEALED, wire.SEALED_BYTES)
        if sealed.keys() != plan.graph[client]:
            raise ProtocolError(f"shares for {sorted(sealed)}, its neighbours are {sorted(plan.graph[client])}")
        return _Shared(keys[client], sealed, wire.read_bytes(_own(content), wire.TAG, KEY_BYTES))

    requests = {
        client: wire.content(
            {wire.ROUND: plan.net.number, wire.THRESHOLD: plan.threshold, wire.KEYS: _of(keys, plan.graph[client])}
        )
        for client in keys
    }
    shared = plan.net.ask(1, wire.SHARE_TYPE, requests, read)
    while poor := [client for client in shared if len(plan.helpers(client, shared)) < plan.threshold]:
        for client in poor:
            del shared[client]
            plan.net.dropped[plan.net.nodes[client]] = f"{STAGES[1]}: too few of its neighbours sent shares"
    if not shared:
        raise plan.net.refusal(
            1, f"of {len(keys)} clients none has {plan.threshold} neighbours left, which is the threshold"
        )
    return shared


def _masked_input(plan: _Plan, asked: Mapping[int, Message], shared: Mapping[int, _Shared]) -> dict[int, Encoded]:
    """Stage 2: the clients train, and send masked vectors."""

    def read(_: int, content: RecordDict) -> Encoded:
        vector = content.array_records[wire.MASKED][wire.VECTOR].numpy()
        if vector.dtype != integer_type(plan.bits) or vector.shape != (plan.length,):
            due = f"{plan.length} of {integer_type(plan.bits)}"
            raise ProtocolError(f"its masked vector is {vector.shape} of {vector.dtype}, and not {due}")
        return vector

    requests = {}
    for client in shared:
        sealed = {other: shared[other].sealed[client] for other in plan.helpers(client, shared)}
        own = wire.content({wire.ROUND: plan.net.number, wire.SEALED: sealed})
        requests[client] = RecordDict({**asked[client].content, **own})
    masked = plan.net.ask(2, wire.TRAIN_TYPE, requests, read)
    _check_enough(plan, 2, shared, masked, masked)
    return masked


def _unmask(plan: _Plan, shared: Mapping[int, _Shared], masked: Mapping[int, Encoded]) -> dict[int, _Answer]:
    """Stage 3: from each survivor a share of either secret of each of its neighbours."""
    survivors = {client: plan.helpers(client, masked) for client in masked}
    dropped = {client: plan.helpers(client, shared.keys() - masked.keys()) for client in masked}

    def read(client: int, content: RecordDict) -> _Answer:
        own = content.config_records.get(wire.RECORD, ConfigRecord())  # nothing in it if it has no neighbours
        seeds, keys = (wire.read_mapping(own, name, shamir.SHARE_BYTES) for name in (wire.SEED, wire.KEY))
        if sorted(seeds) != survivors[client] or sorted(keys) != dropped[client]:
            raise ProtocolError("it did not give exactly the shares that it was asked for")
        return _Answer(*({other: wire.read_share(share) for other, share in part.items()} for part in (seeds, keys)))

    requests = {
        client: wire.content(
            {
                wire.ROUND: plan.net.number,
                wire.SURVIVORS: sorted([*survivors[client], client]),
                wire.DROPPED: dropped[client],
            }
        )
        for client in masked
    }
    answers = plan.net.ask(3, wire.UNMASK_TYPE, requests, read)
    _check_enough(plan, 3, shared, masked, answers)
    return answers


def _check_enough(
    plan: _Plan, stage: int, shared: Mapping[int, _Shared], masked: Mapping[int, Encoded], there: Iterable[int]
) -> None:
    """Whether every secret that is in the sum can still be had from those who are there."""
    there = list(there)
    needed = [client for client in shared if client in masked or plan.helpers(client, masked)]
    counts = {client: len(plan.helpers(client, there)) for client in needed}
    if not there or min(counts.values()) < plan.threshold:
        fewest = min(counts, key=counts.__getitem__) if there else None
        neighbours = len(next(iter(plan.graph.values())))
        who = "" if fewest is None else f" client {fewest} has {counts[fewest]} of its {neighbours} neighbours left;"
        raise plan.net.refusal(
            stage, f"{len(there)} of {len(plan.graph)} clients are left;{who} the threshold is {plan.threshold}"
        )


def _seeds(
    plan: _Plan, shared: Mapping[int, _Shared], masked: Iterable[int], answers: Mapping[int, _Answer]
) -> dict[int, bytes]:
    """The survivors' seeds, from their neighbours' shares."""
    seeds = {}
    for client in masked:
        seed = _combine(plan, client, {other: answers[other].seeds[client] for other in plan.helpers(client, answers)})
        if seed_tag(seed) != shared[client].tag:
            raise plan.net.refusal(3, f"the shares of client {client}'s seed do not fit together")
        seeds[client] = seed
    return seeds


def _total(
    plan: _Plan,
    shared: Mapping[int, _Shared],
    masked: Mapping[int, Encoded],
    seeds: Mapping[int, bytes],
    answers: Mapping[int, _Answer],
) -> Encoded:
    """The sum of the encoded payloads: the masked vectors less what does not cancel among them."""
    total = np.zeros(plan.length, integer_type(plan.bits))
    for client, vector in masked.items():
        total += vector
        total -= masks.self_mask(seeds[client], plan.net.number, plan.length, plan.bits)
    for client in shared.keys() - masked.keys():
        if plan.helpers(client, masked):
            shares = {other: answers[other].keys[client] for other in plan.helpers(client, answers)}
            total -= _open_pairs(plan, client, _combine(plan, client, shares), shared, masked)
    return total


def _open_pairs(plan: _Plan, dropped: int, key: bytes, shared: Mapping[int, _Shared], masked: Iterable[int]) -> Encoded:
    """The sum of the pair masks that survivors added for a dropped client."""
    if masks.public_key(key) != shared[dropped].keys[:KEY_BYTES]:
        raise plan.net.refusal(3, f"the shares of client {dropped}'s mask key do not fit together")
    total = np.zeros(plan.length, integer_type(plan.bits))
    for other in plan.helpers(dropped, masked):
        public = shared[other].keys[:KEY_BYTES]
        total += masks.pair_mask(key, public, (other, dropped), plan.net.number, plan.length, plan.bits)
    return total


def _combine(plan: _Plan, client: int, shares: Mapping[int, int]) -> bytes:
    """A client's secret, from as many of its neighbours' shares as the threshold asks for."""
    chosen = {other + 1: shares[other] for other in sorted(shares)[: plan.threshold]}
    secret = shamir.combine(chosen)
    if secret >= 1 << 8 * KEY_BYTES:
        raise plan.net.refusal(3, f"the shares of client {client} do not fit together")
    return secret.to_bytes(KEY_BYTES, "big")


def _own(content: RecordDict) -> ConfigRecord:
    return content.config_records[wire.RECORD]


def _of(keys: Mapping[int, bytes], clients: Iterable[int]) -> dict[int, bytes]:
    return {client: keys[client] for client in sorted(clients)}
