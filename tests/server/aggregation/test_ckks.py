"""CKKS sums against the plain ones, whoever drops out; and what the server holds says nothing about anybody."""

import pickle  # noqa: TID251  # Ray pickles mods, nothing of a user's
from functools import partial

import numpy as np
import pytest
import tenseal as ts
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from scipy.stats import ks_2samp

from clients.aggregation.ckks import LIMIT, MAX_CLIENTS, SLOTS, Ckks, decrypt, encrypt, load_keys, make_keys, request
from clients.aggregation.payload import unpack
from server.aggregation import RoundRefusedError
from server.aggregation.ckks import collect
from sim.engines.inprocess import FIRST_NODE_ID, InProcessGrid

pytestmark = pytest.mark.usefixtures("task_identity")
METRICS = ("loss", "correct")
SIZE = 3000  # two ciphertexts, the second one not full
WEIGHTS = [40, 100, 7, 61, 25, 33]
BROADCAST = np.random.default_rng(0).normal(size=SIZE).astype(np.float32)
CLIENT, SERVER = make_keys()


def delta(client):
    return (np.random.default_rng(100 + client).normal(size=SIZE) * 0.05).astype(np.float32)


def app(fail=(), mute=(), mods=None):
    """Clients in `fail` err when they train, those in `mute` when they are asked to open a sum."""
    made = ClientApp(mods=[partial(refuse, mute), *([Ckks(keys=CLIENT, metrics=METRICS)] if mods is None else mods)])

    @made.query()
    def who(message, context):
        return Message(
            RecordDict({"metrics": MetricRecord({"client": context.node_config["partition-id"]})}), reply_to=message
        )

    @made.train("personalize")
    @made.train()
    def fit(message, context):
        client = int(context.node_config["partition-id"])
        if client in fail:
            raise RuntimeError("no power")
        after = message.content["arrays"].to_numpy_ndarrays()[0] - delta(client)
        metrics = MetricRecord({"num-examples": WEIGHTS[client], "loss": 0.5 + client, "correct": 3 * client})
        return Message(RecordDict({"arrays": ArrayRecord({"w": Array(after)}), "metrics": metrics}), reply_to=message)

    return made


def refuse(mute, message, context, call_next):
    if "ckks-ciphertexts" in message.content.config_records and context.node_config["partition-id"] in mute:
        raise RuntimeError("I keep my key to myself")
    return call_next(message, context)


class Tap(InProcessGrid):
    """Keeps what the server receives."""

    def __init__(self, *args):
        super().__init__(*args)
        self.received, self.lost = [], set()

    def send_and_receive(self, messages, *, timeout=None):
        replies = super().send_and_receive(messages, timeout=timeout)
        replies = [reply for reply in replies if reply.metadata.src_node_id not in self.lost]
        self.received += replies
        return replies


def messages(clients=range(5)):
    content = RecordDict({"arrays": ArrayRecord({"w": Array(BROADCAST)}), "config": ConfigRecord({"server-round": 1})})
    return [Message(content, dst_node_id=FIRST_NODE_ID + c, message_type="train") for c in clients]


def plain(clients):
    """Sum of weight * delta, of weight * metrics, of weights, as the clients have it in float32."""
    terms = [
        WEIGHTS[c] * np.concatenate([BROADCAST.astype(np.float64) - (BROADCAST - delta(c)), [0.5 + c, 3 * c, 1]])
        for c in clients
    ]
    return np.sum(terms, axis=0)


def test_the_sum_is_the_plain_one():
    got = collect(Tap(app(), 5), messages(), METRICS, keys=SERVER)
    assert got.survivors == [FIRST_NODE_ID + c for c in range(5)] and got.dropped == {}
    assert got.total.dtype == np.float64
    error = (got.total - plain(range(5))) / sum(WEIGHTS[:5])
    assert np.sqrt(np.mean(error**2)) < 1e-8 and np.abs(error).max() < 1e-5
    sums = unpack(got.total, METRICS)
    assert sums.weight == pytest.approx(233, abs=1e-4)
    assert sums.metrics["loss"] == pytest.approx(sum(w * (0.5 + c) for c, w in enumerate(WEIGHTS[:5])), abs=1e-4)


def test_large_values_keep_the_error_small():
    values = np.random.default_rng(1).normal(size=2 * SLOTS) * 1e4
    error = decrypt(encrypt(values, CLIENT), CLIENT) - values
    assert np.sqrt(np.mean(error**2)) < 1e-6


def test_only_sampled_clients_are_asked():
    tap = Tap(app(), 5)
    got = collect(tap, messages([1, 3, 4]), METRICS, keys=SERVER)
    np.testing.assert_allclose(got.total, plain([1, 3, 4]), atol=1e-5)
    assert {reply.metadata.src_node_id - FIRST_NODE_ID for reply in tap.received} == {1, 3, 4}


def test_whoever_errs_or_is_silent_or_sends_rubbish_is_left_out():
    def rubbish(message, context, call_next):
        reply = Ckks(keys=CLIENT, metrics=METRICS)(message, context, call_next)
        if context.node_config["partition-id"] == 2 and message.metadata.message_type == "train":
            reply.content["ckks-ciphertexts"] = ConfigRecord({"parts": [b"rubbish", b"rubbish"]})
        return reply

    tap = Tap(app(fail=[1], mods=[rubbish]), 6)
    tap.lost = {FIRST_NODE_ID + 4}
    got = collect(tap, messages(range(6)), METRICS, keys=SERVER)
    assert got.survivors == [FIRST_NODE_ID + c for c in (0, 3, 5)]
    np.testing.assert_allclose(got.total, plain([0, 3, 5]), atol=1e-5)
    assert list(got.dropped) == [FIRST_NODE_ID + c for c in (1, 2, 4)]
    assert "on this client: RuntimeError; what it says stays" in got.dropped[FIRST_NODE_ID + 1]
    assert "no power" not in got.dropped[FIRST_NODE_ID + 1] and "cannot be read" in got.dropped[FIRST_NODE_ID + 2]


def test_a_payload_of_another_length_is_left_out():
    class Longer(Ckks):
        __slots__ = ()

        def __call__(self, message, context, call_next):
            mod = Ckks(keys=CLIENT, metrics=METRICS[:1] if context.node_config["partition-id"] == 0 else METRICS)
            return mod(message, context, call_next)

    got = collect(Tap(app(mods=[Longer(keys=CLIENT)]), 4), messages(range(4)), METRICS, keys=SERVER)
    assert got.dropped == {FIRST_NODE_ID: f"its ciphertexts hold {SIZE + 3} values, not {SIZE + 4}"}
    np.testing.assert_allclose(got.total, plain([1, 2, 3]), atol=1e-5)


def test_where_one_will_not_open_the_sum_the_next_is_asked():
    tap = Tap(app(mute=[0, 1]), 3)
    got = collect(tap, messages(range(3)), METRICS, keys=SERVER)
    np.testing.assert_allclose(got.total, plain(range(3)), atol=1e-5)
    assert got.survivors == [FIRST_NODE_ID + c for c in range(3)]
    assert [reply.has_error() for reply in tap.received[3:]] == [True, True, False]


def test_a_round_without_a_sum_is_refused():
    with pytest.raises(RoundRefusedError, match="none of the 3 clients"):
        collect(Tap(app(mute=[0, 1, 2]), 3), messages(range(3)), METRICS, keys=SERVER)
    tap = Tap(app(fail=[1]), 3)
    with pytest.raises(RoundRefusedError, match="2 of 3 clients are left, and a sum takes 3 at least") as refused:
        collect(tap, messages(range(3)), METRICS, keys=SERVER)
    assert list(refused.value.dropped) == [FIRST_NODE_ID + 1] and len(tap.received) == 3  # nobody was asked to open it


def test_a_value_beyond_the_limit_is_refused_without_telling_it():
    encrypt(np.array([LIMIT, -LIMIT]), CLIENT)
    with pytest.raises(ValueError, match="beyond 1048576") as error:
        encrypt(np.array([0.0, -1234567.0]), CLIENT)
    assert "1234567" not in str(error.value)


def test_the_largest_round_there_may_be_does_not_wrap_around():
    (part,) = encrypt(np.array([LIMIT, -LIMIT, 0.25]), CLIENT)
    total = ts.ckks_vector_from(load_keys(SERVER), part)
    for _ in range(MAX_CLIENTS - 1):
        total += ts.ckks_vector_from(load_keys(SERVER), part)
    by_hand = np.array([LIMIT, -LIMIT, 0.25]) * MAX_CLIENTS
    np.testing.assert_allclose(decrypt([total.serialize()], CLIENT), by_hand, atol=1e-2)
    with pytest.raises(ValueError, match="257 clients in a round"):
        collect(Tap(app(), 1), messages([0]) * (MAX_CLIENTS + 1), METRICS, keys=SERVER)


def test_the_mod_can_be_shipped_and_does_not_show_its_keys():
    mod = pickle.loads(pickle.dumps(Ckks(keys=CLIENT, metrics=METRICS)))
    assert mod == Ckks(keys=CLIENT, metrics=METRICS) and "keys" not in repr(mod)


def test_the_server_holds_no_key():
    context = load_keys(SERVER)
    assert not context.is_private() and len(SERVER) < 200
    assert load_keys(CLIENT).is_private() and not load_keys(CLIENT).has_galois_keys()
    with pytest.raises(ValueError, match="secret_key"):
        decrypt(encrypt(np.ones(3), CLIENT), SERVER)
    other, _ = make_keys()
    assert np.abs(decrypt(encrypt(np.ones(3), CLIENT), other)).max() > 1e3


def test_what_the_server_receives_is_ciphertext_and_nothing_else():
    tap = Tap(app(), 3)
    collect(tap, messages(range(3)), METRICS, keys=SERVER)
    *replies, opened = tap.received
    assert list(opened.content) == ["ckks-sum"]
    for client, reply in enumerate(replies):
        assert list(reply.content) == ["ckks-ciphertexts"] and list(reply.content["ckks-ciphertexts"]) == ["parts"]
        wire = b"".join(reply.content["ckks-ciphertexts"]["parts"])
        for dtype in ("<f4", "<f8"):
            for value in (
                delta(client)[:50],
                WEIGHTS[client] * delta(client)[:50],
                BROADCAST[:50] - delta(client)[:50],
            ):
                assert not any(number.tobytes() in wire for number in value.astype(dtype))


def words(part):
    """8000 of a ciphertext's 60-bit residues, without the header and what follows them, as numbers between 0 and 1."""
    return np.frombuffer(part[-64_009:-9], "<u8") / 2.0**60


def test_a_ciphertext_of_nothing_looks_like_one_of_an_update():
    nothing, update = (
        np.concatenate([words(encrypt(values, CLIENT)[0]) for _ in range(4)])
        for values in (np.zeros(SLOTS), np.full(SLOTS, 1e4))
    )
    assert nothing.max() < 1 and ks_2samp(nothing, update).pvalue > 1e-6
    assert abs(np.corrcoef(nothing, update)[0, 1]) < 6 / np.sqrt(len(nothing))
    assert ks_2samp(nothing, np.random.default_rng(0).random(len(nothing))).pvalue > 1e-6
    assert len(set(nothing)) > 31_990  # nothing comes twice


def test_the_request_is_a_query():
    assert request([b"x"], 5, 1).metadata.message_type == "query"
