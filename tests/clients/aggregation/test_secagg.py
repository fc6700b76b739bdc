"""One client against a server that lies: swapped keys, second questions, and lists that would give away one client."""

import copy
import pickle  # noqa: TID251  # that Ray can ship the mod, nothing is loaded from outside

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from clients.aggregation import masks, shamir, wire
from clients.aggregation.fixed_point import FixedPoint
from clients.aggregation.secagg import SecAggMod, check_threshold, seed_tag
from clients.aggregation.wire import ProtocolError

pytestmark = pytest.mark.usefixtures("task_identity")
CLIENTS = 5
RINGS = masks.make_keyrings(CLIENTS)
MODEL = ArrayRecord([np.zeros(6, np.float32)])
KEYS, SHARES, TRAIN, UNMASK = wire.ADVERTISE_TYPE, wire.SHARE_TYPE, wire.TRAIN_TYPE, wire.UNMASK_TYPE


class Rig:
    """A server that says what it likes to real clients, each with its own memory."""

    def __init__(self, colluding=0):
        self.trained = 0
        self.mod = SecAggMod(RINGS.__getitem__, FixedPoint(16.0, 100.0), (), seed=1, colluding=colluding)
        self.app = ClientApp(mods=[self.mod])
        wire.register(self.app)
        self.app.train()(self._fit)
        self.app.train("personalize")(self._fit)
        self.app.query()(self._fit)
        self.contexts = [Context(1, 100 + c, {"partition-id": c}, RecordDict(), {}) for c in range(CLIENTS)]

    def _fit(self, message, context):
        self.trained += 1
        arrays = ArrayRecord([-np.full(6, context.node_config["partition-id"], np.float32)])
        content = RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": 2})})
        return Message(content, reply_to=message)

    def say(self, client, kind, entries=None, number=1):
        content = wire.content({wire.ROUND: number, **(entries or {})})
        if kind.startswith(TRAIN):
            content["arrays"] = MODEL
        message = Message(content, dst_node_id=100 + client, message_type=kind)
        return self.app(pickle.loads(pickle.dumps(message)), self.contexts[client])

    def good(self, client, kind, entries=None, number=1):
        reply = self.say(client, kind, entries, number)
        assert not reply.has_error(), reply.error.reason
        return reply.content

    def refused(self, client, kind, entries=None, number=1):
        reply = self.say(client, kind, entries, number)
        assert reply.has_error() and not reply.has_content()
        return reply.error.reason

    def advertise(self, number=1, clients=range(CLIENTS)):
        return {c: self.good(c, KEYS, number=number)[wire.RECORD][wire.KEYS] for c in clients}

    def share(self, keys, threshold=3, number=1):
        """Everybody's sealed shares, by sender and receiver."""
        asked = {c: {wire.THRESHOLD: threshold, wire.KEYS: without(keys, c)} for c in keys}
        replies = {c: self.good(c, SHARES, asked[c], number)[wire.RECORD] for c in keys}
        self.tags = {c: reply[wire.TAG] for c, reply in replies.items()}
        return {c: wire.read_mapping(reply, wire.SEALED, wire.SEALED_BYTES) for c, reply in replies.items()}

    def train(self, sealed, number=1):
        replies = {c: self.good(c, TRAIN, {wire.SEALED: to(sealed, c)}, number) for c in sealed}
        return {c: reply[wire.MASKED][wire.VECTOR].numpy() for c, reply in replies.items()}

    def all_trained(self):
        self.keys = self.advertise()
        return self.train(self.share(self.keys))


def without(mapping, client):
    return {c: value for c, value in mapping.items() if c != client}


def to(sealed, client):
    return {sender: shares[client] for sender, shares in sealed.items() if sender != client}


def lists(survivors, dropped=()):
    return {wire.SURVIVORS: list(survivors), wire.DROPPED: list(dropped)}


def test_masked_vectors_are_all_that_leaves_and_their_sum_is_right():
    rig = Rig()
    masked = rig.all_trained()
    answers = [rig.good(c, UNMASK, lists(range(CLIENTS)))[wire.RECORD] for c in range(CLIENTS)]
    total = sum(masked.values())
    for client in range(CLIENTS):
        shares = {c + 1: wire.read_share(a[f"seed/{client}"]) for c, a in enumerate(answers) if c != client}
        seed = shamir.combine(dict(list(shares.items())[:3])).to_bytes(32, "big")
        assert seed_tag(seed) == rig.tags[client]
        total = total - masks.self_mask(seed, 1, 7, 32)
    # weight 2, update c: 16 * 2 * (0 + 1 + 2 + 3 + 4) and the weights 16 * 2 * 5
    assert total.tolist() == [320] * 6 + [160]


def test_what_is_not_the_protocol_s_passes_through_untouched():
    rig = Rig()
    for kind in ("query", "train.personalize"):
        assert list(rig.good(3, kind)) == ["arrays", "metrics"]
    assert rig.trained == 2 and wire.RECORD not in rig.contexts[3].state


@pytest.mark.parametrize("kind", ["train", "train.default"])
def test_no_training_message_gets_an_unmasked_answer(kind):
    rig = Rig()
    bare = Message(RecordDict({"arrays": MODEL, "config": ConfigRecord()}), dst_node_id=100, message_type=kind)
    reply = rig.app(copy.deepcopy(bare), rig.contexts[0])
    assert reply.has_error() and "answers to nothing else" in reply.error.reason
    assert "follows on" in rig.refused(0, kind)
    assert "follows on" in rig.refused(0, kind, {wire.SEALED: {1: b"x" * wire.SEALED_BYTES}})
    assert rig.trained == 0
    sealed = rig.share(rig.advertise())
    assert list(rig.good(0, kind, {wire.SEALED: to(sealed, 0)})) == [wire.MASKED]


def test_without_the_mod_there_is_no_answer():
    app = ClientApp()
    wire.register(app)
    message = Message(wire.content({wire.ROUND: 1}), dst_node_id=100, message_type=KEYS)
    with pytest.raises(ProtocolError, match="no SecAggMod among its mods"):
        app(message, Rig().contexts[0])


def test_swapped_keys_are_caught():
    rig = Rig()
    keys = rig.advertise()
    mine = masks.public_key(masks.make_key())
    attempts = {
        "the server's own keys": mine + keys[1][32:],
        "another share key": keys[1][:32] + mine + keys[1][64:],
        "another client's": keys[2],
        "no signature": keys[1][:64] + bytes(64),
    }
    for entry in attempts.values():
        reason = rig.refused(0, SHARES, {wire.THRESHOLD: 3, wire.KEYS: without(keys, 0) | {1: entry}})
        assert reason == (
            "the keys handed out as client 1's do not carry its signature for this round: they were swapped"
        )
    rig.share(keys)


def test_keys_of_another_round_or_run_are_caught():
    rig, other = Rig(), Rig()
    old = rig.advertise(number=1)
    new = rig.advertise(number=2)
    assert "swapped" in rig.refused(0, SHARES, {wire.THRESHOLD: 3, wire.KEYS: without(new, 0) | {1: old[1]}}, 2)
    for context in other.contexts:
        context.run_id = 2
    elsewhere = other.advertise(number=2)
    assert "swapped" in rig.refused(0, SHARES, {wire.THRESHOLD: 3, wire.KEYS: without(elsewhere, 0)}, 2)


def test_strangers_and_oneself_are_no_neighbours():
    rig = Rig()
    keys = rig.advertise()
    assert "not in this client's key ring" in rig.refused(
        0, SHARES, {wire.THRESHOLD: 3, wire.KEYS: without(keys, 0) | {9: keys[1]}}
    )
    assert "its own neighbour" in rig.refused(0, SHARES, {wire.THRESHOLD: 3, wire.KEYS: keys})


@pytest.mark.parametrize(
    ("threshold", "neighbours", "fault"),
    [
        (
            2,
            4,
            "threshold 2 for 4 neighbours and 0 colluders: .* 3 or more, or the server could unmask a single client",
        ),
        (0, 4, "threshold 0"),
        (-1, 0, "threshold -1"),
        (3, 2, "2 neighbours are fewer than the threshold, 3"),
        (1, 0, "0 neighbours are fewer"),
    ],
)
def test_a_threshold_that_protects_nothing_is_refused(threshold, neighbours, fault):
    rig = Rig()
    keys = without(rig.advertise(), 0)
    some = {c: keys[c] for c in list(keys)[:neighbours]}
    with pytest.raises(ProtocolError, match=fault):
        check_threshold(threshold, neighbours, 0)
    assert rig.refused(0, SHARES, {wire.THRESHOLD: threshold, wire.KEYS: some})


def test_a_client_that_fears_colluders_wants_a_higher_threshold():
    rig = Rig(colluding=2)
    keys = rig.advertise()
    assert "2 colluders: it must be" in rig.refused(0, SHARES, {wire.THRESHOLD: 3, wire.KEYS: without(keys, 0)})
    rig.share(keys, threshold=4)


def test_shares_are_for_their_receiver_and_too_few_are_refused():
    rig = Rig()
    sealed = rig.share(rig.advertise())
    for wrong in (sealed[1][2], sealed[2][0], bytes(wire.SEALED_BYTES)):
        assert "client 1's share for client 0" in rig.refused(0, TRAIN, {wire.SEALED: to(sealed, 0) | {1: wrong}})
    few = dict(list(to(sealed, 0).items())[:2])
    assert "2 neighbours sent shares, fewer than" in rig.refused(0, TRAIN, {wire.SEALED: few})
    assert "no neighbours" in rig.refused(0, TRAIN, {wire.SEALED: to(sealed, 0) | {17: sealed[1][0]}})
    assert rig.trained == 0
    rig.train(sealed)


def test_every_question_is_answered_once():
    rig = Rig()
    keys = rig.advertise()
    shares = {wire.THRESHOLD: 3, wire.KEYS: without(keys, 0)}
    sealed = rig.share(keys)
    assert "follows on" in rig.refused(0, SHARES, shares)
    rig.train(sealed)
    assert "follows on" in rig.refused(0, TRAIN, {wire.SEALED: to(sealed, 0)})  # the difference would be unmasked
    assert rig.trained == CLIENTS
    assert "round 1 is over" in rig.refused(0, KEYS)
    rig.good(0, UNMASK, lists(range(CLIENTS)))
    for again in (range(CLIENTS), [0, 1, 2, 3]):
        assert "follows on" in rig.refused(0, UNMASK, lists(again, set(range(CLIENTS)) - set(again)))
    assert "round 1 is over" in rig.refused(0, KEYS)


def test_after_the_last_stage_nothing_secret_is_left():
    rig = Rig()
    rig.advertise()
    held = {name for name, value in rig.contexts[0].state[wire.RECORD].items() if isinstance(value, bytes)}
    assert held == {"mask-key", "share-key"}
    rig.all_trained()
    state = rig.contexts[0].state[wire.RECORD]
    assert {name.split("/")[0] for name, value in state.items() if isinstance(value, bytes)} == {"held"}
    rig.good(0, UNMASK, lists(range(CLIENTS)))
    assert not [value for value in rig.contexts[0].state[wire.RECORD].values() if isinstance(value, bytes)]


@pytest.mark.parametrize(
    ("survivors", "dropped", "fault"),
    [
        ([0, 1, 2, 3, 4], [4], "named twice"),
        ([0, 1, 2, 3, 4, 4], [], "named twice"),
        ([1, 2, 3, 4], [0], "not named as a survivor"),
        ([1, 2, 3, 4], [], "not named as a survivor"),
        ([0, 1, 2, 3], [], "and not with all of"),
        ([0, 1, 2, 3, 4, 7], [], "and not with all of"),
        ([0, 1, 2], [3, 4], "2 neighbours survived, fewer than the threshold, 3"),
        ([], [], "not named as a survivor"),
    ],
)
def test_lists_that_an_honest_server_would_not_send_are_refused(survivors, dropped, fault):
    rig = Rig()
    rig.all_trained()
    assert fault in rig.refused(0, UNMASK, lists(survivors, dropped))
    assert rig.good(0, UNMASK, lists([0, 1, 2, 3], [4]))  # nothing was given away: the right question is still open


def gathered(rig, told):
    """How many shares of client 0's seed and of its mask key a server gets that tells every neighbour what it likes."""
    kinds = {wire.SEED: 0, wire.KEY: 0}
    for client, dead in told.items():
        for survivors, dropped in ((set(range(CLIENTS)) - {0}, {0}), (set(range(CLIENTS)), set()))[
            :: 1 if dead else -1
        ]:
            reply = rig.say(client, UNMASK, lists(sorted(survivors), sorted(dropped)))
            if reply.has_content():
                for kind in kinds:
                    kinds[kind] += f"{kind}/0" in reply.content[wire.RECORD]
    return kinds


@pytest.mark.parametrize("dead", range(16))
def test_a_server_that_tells_everybody_something_else_never_has_both_secrets(dead):
    rig = Rig()
    rig.all_trained()
    kinds = gathered(rig, {client: bool(dead >> (client - 1) & 1) for client in range(1, CLIENTS)})
    assert sum(kinds.values()) == CLIENTS - 1 and min(kinds.values()) < 3  # asked both ways, answered one


def test_the_pair_masks_of_one_client_cannot_all_be_opened():
    """Its four neighbours' mask keys take three shares each; a client names one other as dropped at most."""
    rig = Rig()
    rig.all_trained()
    given = 0
    for client in range(CLIENTS):
        others = [c for c in range(CLIENTS) if c != client]
        assert "fewer than the threshold" in rig.refused(client, UNMASK, lists([client, *others[2:]], others[:2]))
        reply = rig.good(client, UNMASK, lists([client, *others[1:]], others[:1]))
        given += len(wire.read_mapping(reply[wire.RECORD], wire.KEY, shamir.SHARE_BYTES))
    assert given == CLIENTS < 3 * (CLIENTS - 1)


@pytest.mark.parametrize("entries", [{}, {wire.THRESHOLD: "3"}, {wire.THRESHOLD: 3, wire.KEYS: {1: b"short"}}])
def test_garbage_from_the_server_is_refused_and_does_no_harm(entries):
    rig = Rig()
    keys = rig.advertise()
    assert rig.refused(0, SHARES, entries)
    rig.train(rig.share(keys))


def test_two_rounds_under_the_same_number_have_nothing_in_common():
    rig = Rig()
    assert rig.advertise() != rig.advertise()  # as long as nothing was sent, a round may begin again


def test_the_mod_travels_to_ray_s_workers():
    assert pickle.loads(pickle.dumps(Rig().mod)).metrics == ()


def test_masked_vectors_of_equal_updates_differ():
    rig = Rig()
    masked = rig.all_trained()
    again = Rig().all_trained()
    assert len({vector.tobytes() for vector in [*masked.values(), *again.values()]}) == 2 * CLIENTS
    assert all(Array(v).dtype == "uint32" for v in masked.values())
