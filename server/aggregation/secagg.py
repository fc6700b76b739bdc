"""The server's half of our secure aggregation (see clients.aggregation.secagg): five exchanges, and then one sum."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from clients.aggregation import masks, shamir, wire
from clients.aggregation.fixed_point import Encoded, Encoding, FixedPoint, integer_type
from clients.aggregation.graph import Neighbourhood, Rules, graph, neighbourhood
from clients.aggregation.masks import KEY_BYTES, SIGNATURE_BYTES
from clients.aggregation.secagg import seed_tag
from clients.aggregation.wire import ProtocolError
from server.aggregation import Collected
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
class _Masked:
    """What one client sends in stage 2."""

    vector: Encoded
    signature: bytes  # for the other clients


@dataclass(frozen=True, slots=True)
class _Answer:
    """What one client gives out in stage 4, by neighbour."""

    seeds: dict[int, int]  # shares of survivors' seeds
    keys: dict[int, int]  # shares of dropped clients' mask keys


@dataclass(frozen=True, slots=True)
class _Plan:
    """What holds for a whole round."""

    net: Messenger
    graph: Mapping[int, frozenset[int]]
    size: Neighbourhood
    fewest: int  # clients in a sum
    length: int  # of a masked vector
    bits: int

    @property
    def threshold(self) -> int:
        """How many neighbours' shares give back a secret."""
        return self.size.threshold

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
    rules: Rules | None = None,
    before_unmask: Callable[[list[int]], None] | None = None,
    tap: Callable[[ServerView], None] | None = None,
    timeout: float | None = None,
) -> Collected:
    """The sum of the payloads of those clients that `messages`, a strategy's `train` messages, go to.

    A client may drop out at every stage: by an error, by silence, or by a reply that cannot be read. What is returned
    is the exact sum over those whose masked vector came. These are the survivors, also where one of them is lost in
    the last two stages. `nodes` maps client numbers to node ids. The clients go by `rules` as well, and answer a server
    that does not with a refusal. `before_unmask` is handed the survivors' node ids before any mask comes off; what it
    raises stops the release. `tap` is handed what the server holds. `timeout` is for each stage, in seconds.

    Raises:
        RoundRefusedError: fewer are left than the threshold asks for, or what they give does not fit together.
        ValueError: the fixed point was planned for fewer clients.
    """
    trains = {message.metadata.dst_node_id: message for message in messages}
    asked = {client: trains[node] for client, node in sorted(nodes.items()) if node in trains}
    if isinstance(encoding, FixedPoint) and len(asked) > encoding.capacity:
        raise ValueError(f"the fixed point has room for {encoding.capacity} clients, and {len(asked)} were sampled")
    net = Messenger(grid, nodes, server_round, timeout)
    keys, rules = _advertise(net, asked), rules or Rules()
    size = _size(net, len(keys), rules)
    neighbours = graph(keys, server_round, size.neighbours)
    length = _length(next(iter(asked.values())), metrics)
    plan = _Plan(net, neighbours, size, rules.fewest, length, encoding.bits)
    shared = _share(plan, keys)
    sent = _masked_input(plan, asked, shared)
    masked = {client: each.vector for client, each in sent.items()}
    dropped = dict(net.dropped)
    survivors = [nodes[client] for client in masked]
    signatures = _consistency(plan, shared, masked)
    if before_unmask is not None:
        before_unmask(survivors)
    answers = _unmask(plan, shared, sent, signatures)
    seeds = _seeds(plan, shared, masked, answers)
    if tap is not None:
        pairs = {client: frozenset(plan.helpers(client, shared)) for client in masked}
        tap(ServerView(masked=masked, neighbours=pairs, seeds=seeds))
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

    roster = sorted(keys)
    requests = {
        client: wire.content(
            {wire.ROUND: plan.net.number, wire.ROSTER: roster, wire.KEYS: _of(keys, plan.graph[client])}
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


def _masked_input(plan: _Plan, asked: Mapping[int, Message], shared: Mapping[int, _Shared]) -> dict[int, _Masked]:
    """Stage 2: the clients train, and send masked vectors."""

    def read(_: int, content: RecordDict) -> _Masked:
        vector = content.array_records[wire.MASKED][wire.VECTOR].numpy()
        if vector.dtype != integer_type(plan.bits) or vector.shape != (plan.length,):
            due = f"{plan.length} of {integer_type(plan.bits)}"
            raise ProtocolError(f"its masked vector is {vector.shape} of {vector.dtype}, and not {due}")
        return _Masked(vector, wire.read_bytes(_own(content), wire.SIGNATURE, SIGNATURE_BYTES))

    requests = {}
    for client in shared:
        sealed = {other: shared[other].sealed[client] for other in plan.helpers(client, shared)}
        own = wire.content({wire.ROUND: plan.net.number, wire.SHARING: sorted(shared), wire.SEALED: sealed})
        requests[client] = RecordDict({**asked[client].content, **own})
    masked = plan.net.ask(2, wire.TRAIN_TYPE, requests, read)
    _check_enough(plan, 2, shared, masked, masked)
    return masked


def _consistency(plan: _Plan, shared: Mapping[int, _Shared], masked: Iterable[int]) -> dict[int, bytes]:
    """Stage 3: each survivor's signature under the list of survivors."""
    request = wire.content({wire.ROUND: plan.net.number, wire.SURVIVORS: sorted(masked)})
    signatures = plan.net.ask(
        3,
        wire.CONSISTENCY_TYPE,
        dict.fromkeys(masked, request),
        lambda _, content: wire.read_bytes(_own(content), wire.SIGNATURE, SIGNATURE_BYTES),
    )
    _check_enough(plan, 3, shared, masked, signatures)
    return signatures


def _unmask(
    plan: _Plan, shared: Mapping[int, _Shared], masked: Mapping[int, _Masked], signatures: Mapping[int, bytes]
) -> dict[int, _Answer]:
    """Stage 4: from each survivor that signed, a share of either secret of each of its neighbours."""
    survivors = {client: plan.helpers(client, masked) for client in signatures}
    dropped = {client: plan.helpers(client, shared.keys() - masked.keys()) for client in signatures}

    def read(client: int, content: RecordDict) -> _Answer:
        own = _own(content)
        seeds, keys = (wire.read_mapping(own, name, shamir.SHARE_BYTES) for name in (wire.SEED, wire.KEY))
        if sorted(seeds) != survivors[client] or sorted(keys) != dropped[client]:
            raise ProtocolError("it did not give exactly the shares that it was asked for")
        return _Answer(*({other: wire.read_share(share) for other, share in part.items()} for part in (seeds, keys)))

    def proof(client: int) -> wire.Entries:
        """Signatures of all neighbours, of one kind or the other, and of so many others that the quorum is there."""
        near = plan.helpers(client, signatures)
        others = [other for other in signatures if other not in plan.graph[client]]
        chosen = [*near, *others[: max(0, plan.size.quorum - len(near))]]
        silent = {other: masked[other].signature for other in survivors[client] if other not in signatures}
        return {wire.SIGNATURES: _of(signatures, chosen), wire.SHARERS: silent}

    requests = {client: wire.content({wire.ROUND: plan.net.number, **proof(client)}) for client in signatures}
    answers = plan.net.ask(4, wire.UNMASK_TYPE, requests, read)
    _check_enough(plan, 4, shared, masked, answers)
    return answers


def _check_enough(
    plan: _Plan, stage: int, shared: Mapping[int, _Shared], masked: Iterable[int], there: Iterable[int]
) -> None:
    """Whether enough clients are in the sum, and its secrets can still be had from those who are there."""
    there, masked = list(there), set(masked)
    if len(masked) < plan.fewest:
        raise plan.net.refusal(
            stage, f"{len(masked)} of {len(plan.graph)} clients are left, and a sum takes {plan.fewest} at least"
        )
    needed = [client for client in shared if client in masked or plan.helpers(client, masked)]
    counts = {client: len(plan.helpers(client, there)) for client in needed}
    if not there or min(counts.values()) < plan.threshold:
        fewest = min(counts, key=counts.__getitem__) if there else None
        neighbours = len(next(iter(plan.graph.values())))
        who = "" if fewest is None else f" client {fewest} has {counts[fewest]} of its {neighbours} neighbours left;"
        raise plan.net.refusal(
            stage, f"{len(there)} of {len(plan.graph)} clients are left;{who} the threshold is {plan.threshold}"
        )
    if stage < len(STAGES) - 1 and len(there) < plan.size.quorum:
        raise plan.net.refusal(
            stage, f"{len(there)} of {len(plan.graph)} clients are left, and {plan.size.quorum} must sign who survived"
        )


def _seeds(
    plan: _Plan, shared: Mapping[int, _Shared], masked: Iterable[int], answers: Mapping[int, _Answer]
) -> dict[int, bytes]:
    """The survivors' seeds, from their neighbours' shares."""
    seeds = {}
    for client in masked:
        seed = _combine(plan, client, {other: answers[other].seeds[client] for other in plan.helpers(client, answers)})
        if seed_tag(seed) != shared[client].tag:
            raise plan.net.refusal(4, f"the shares of client {client}'s seed do not fit together")
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
        raise plan.net.refusal(4, f"the shares of client {dropped}'s mask key do not fit together")
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
        raise plan.net.refusal(4, f"the shares of client {client} do not fit together")
    return secret.to_bytes(KEY_BYTES, "big")


def _own(content: RecordDict) -> ConfigRecord:
    return content.config_records[wire.RECORD]


def _of(keys: Mapping[int, bytes], clients: Iterable[int]) -> dict[int, bytes]:
    return {client: keys[client] for client in sorted(clients)}
