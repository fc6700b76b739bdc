"""Every byte that reaches the server under secure aggregation: nothing of any one client can be found in it."""

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.serde import message_to_proto
from scipy import stats

from clients.aggregation import wire
from clients.aggregation.fixed_point import plan_fixed_point
from clients.aggregation.masks import make_keyrings
from clients.aggregation.payload import pack
from clients.aggregation.secagg import SecAggMod
from server.aggregation.secagg import collect
from sim.engines.inprocess import InProcessGrid

CLIENTS, SIZE, ROUNDS = 6, 20_000, 2
LOST = 5  # drops out of stage 2 of each round, after it sent its vector: the server holds that too
MODEL = ArrayRecord({"w": Array(np.linspace(-1, 1, SIZE, dtype=np.float32))})
ENCODING = plan_fixed_point(CLIENTS, 1.0, 2_000_000)


def weight(client):
    return 1_234_567 + 7919 * client


def loss(client):
    return 0.7312345 + client / 7


def weights(client):
    """What training returns: the same in each round, so that a difference between rounds would show it."""
    update = np.random.default_rng(client).normal(0, 0.05, SIZE)
    return (np.linspace(-1, 1, SIZE) - update).astype(np.float32)


def content(client):
    metrics = MetricRecord({"loss": loss(client), "num-examples": weight(client)})
    return RecordDict({"arrays": ArrayRecord({"w": Array(weights(client))}), "metrics": metrics})


def payload(client):
    return pack(MODEL, content(client), ("loss",))


class Tap(InProcessGrid):
    """Hears everything that is sent to the server. One client's masked vector comes too late."""

    def __init__(self, app, clients):
        super().__init__(app, clients)
        self.heard = []

    def send_and_receive(self, messages, *, timeout=None):
        replies = [self._deliver(message) for message in messages]
        self.heard += replies
        kind, late = replies[0].metadata.message_type, 1000 + LOST
        return [r for r in replies if kind != wire.TRAIN_TYPE or r.metadata.src_node_id != late]


@pytest.fixture(scope="module")
def heard(task_identity):
    app = ClientApp(mods=[SecAggMod(make_keyrings(CLIENTS).__getitem__, ENCODING, ("loss",), seed=1)])
    wire.register(app)

    @app.train()
    def fit(message, context):
        return Message(content(context.node_config["partition-id"]), reply_to=message)

    grid = Tap(app, CLIENTS)
    nodes = {client: 1000 + client for client in range(CLIENTS)}
    for number in range(1, ROUNDS + 1):
        sent = RecordDict({"arrays": MODEL, "config": ConfigRecord({"server-round": number})})
        collected = collect(
            grid,
            [Message(sent, dst_node_id=node, message_type="train") for node in nodes.values()],
            nodes=nodes,
            encoding=ENCODING,
            metrics=("loss",),
            server_round=number,
        )
        expected = sum(payload(c) for c in range(CLIENTS) if c != LOST)
        np.testing.assert_allclose(collected.total, expected, atol=CLIENTS / ENCODING.scale, rtol=1e-9)
    return grid.heard


def vectors(heard):
    """Masked vectors by round and client."""
    trained = [reply for reply in heard if reply.metadata.message_type == wire.TRAIN_TYPE]
    found = [reply.content.array_records[wire.MASKED][wire.VECTOR].numpy() for reply in trained]
    return np.array(found).reshape(ROUNDS, CLIENTS, SIZE + 2)


def test_the_server_gets_keys_sealed_shares_masked_vectors_signatures_and_shares_and_nothing_else(heard):
    assert len(heard) == ROUNDS * (5 * CLIENTS - 2)  # who is lost in stage 2 is not asked in the last two
    for reply in heard:
        assert reply.has_content() and not reply.content.metric_records
        if reply.metadata.message_type == wire.TRAIN_TYPE:
            assert list(reply.content) == [wire.MASKED, wire.RECORD] and list(reply.content[wire.MASKED]) == [
                wire.VECTOR
            ]
            assert list(reply.content[wire.RECORD]) == [wire.SIGNATURE]
            continue
        assert list(reply.content) == [wire.RECORD]
        sizes = {len(value) for value in reply.content[wire.RECORD].values()}  # bytes each, no numbers
        assert all(isinstance(value, bytes) for value in reply.content[wire.RECORD].values())
        assert sizes <= {32, 33, 64, wire.SEALED_BYTES, wire.KEYS_BYTES}


def test_no_neighbour_gives_out_both_shares(heard):
    for reply in heard:
        if reply.metadata.message_type == wire.UNMASK_TYPE:
            own = reply.content[wire.RECORD]
            assert not {k.split("/")[1] for k in own if k.startswith("seed/")} & {
                k.split("/")[1] for k in own if k.startswith("key/")
            }


def plain_bytes(client):
    """A client's numbers in every form that it has them in; runs of the update long enough not to occur by chance."""
    update, p = np.linspace(-1, 1, SIZE, dtype=np.float32) - weights(client), payload(client)
    forms = [weights(client), update, update.astype(np.float64), p, p.astype(np.float32), p / ENCODING.limit]
    forms += [ENCODING.encode(p, None), ENCODING.encode(p, None).astype(np.int64), np.rint(p * ENCODING.scale)]
    runs = [form[start : start + max(1, 16 // form.itemsize)] for form in forms for start in range(0, SIZE, 16)]
    numbers = [f(v) for v in (weight(client), loss(client), p[-2]) for f in (np.float64, lambda v: np.float64(-v))]
    return {run.tobytes() for run in runs} | {n.tobytes() for n in numbers} | {np.int64(weight(client)).tobytes()}


def test_no_plain_number_occurs_in_any_message(heard):
    sent = b"".join(message_to_proto(reply).SerializeToString() for reply in heard)
    assert len(sent) > ROUNDS * CLIENTS * SIZE * ENCODING.bits // 8
    windows = {size: {sent[i : i + size] for i in range(len(sent) - size + 1)} for size in (8, 16)}
    for client in range(CLIENTS):
        for plain in plain_bytes(client):
            assert plain not in windows[len(plain)]
        assert str(weight(client)).encode() not in sent


def test_the_search_would_find_them():
    """The same search in what an unprotected client sends."""
    app_reply = content(3)
    message = Message(RecordDict(), dst_node_id=1, message_type="train")
    sent = message_to_proto(Message(app_reply, reply_to=message)).SerializeToString()
    found = [plain for plain in plain_bytes(3) if plain in sent]
    assert len(found) >= SIZE // 16


def test_masked_vectors_are_uniform(heard):
    for vector in vectors(heard).reshape(-1, SIZE + 2):
        assert vector.dtype == np.dtype(f"<u{ENCODING.bits // 8}")
        for byte in vector.view(np.uint8).reshape(-1, vector.itemsize).T:  # each byte of the word, high ones too
            assert stats.chisquare(np.bincount(byte, minlength=256)).pvalue > 1e-7


def correlation(a, b):
    return abs(np.corrcoef(a, b)[0, 1]) * np.sqrt(len(a))  # about |N(0, 1)| if there is none


def test_masked_vectors_say_nothing_about_the_plain_ones_alone_or_in_differences(heard):
    found = vectors(heard).astype(np.int64).reshape(-1, SIZE + 2)[:, :SIZE]
    plain = [payload(client)[:SIZE] for client in range(CLIENTS)]
    views = [*found, *(a - b for i, a in enumerate(found) for b in found[:i])]
    views += [a + b for i, a in enumerate(found) for b in found[:i]]
    signed = [view.astype(np.uint64).astype(np.dtype(f"<u{ENCODING.bits // 8}")) for view in views]
    for view in signed:
        centred = view.view(f"<i{ENCODING.bits // 8}").astype(float)
        assert all(correlation(centred, p) < 6.5 for p in plain)


def test_no_mask_is_used_twice(heard):
    found = vectors(heard)
    same = ENCODING.encode(payload(0), None)
    assert len({vector.tobytes() for vector in found.reshape(-1, SIZE + 2)}) == ROUNDS * CLIENTS
    assert not np.array_equal(found[0, 0] - found[1, 0], np.zeros_like(same))  # equal payloads in both rounds
    difference = (found[0, 0] - found[1, 0]).view(np.uint8)
    assert stats.chisquare(np.bincount(difference, minlength=256)).pvalue > 1e-7
