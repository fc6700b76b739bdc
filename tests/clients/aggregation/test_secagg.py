"""Real clients against a server that says what it likes: it gets one sum that hides everybody in it, or nothing."""

import copy
import pickle  # noqa: TID251  # that Ray can ship the mod, nothing is loaded from outside
import re
from collections import Counter

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from hypothesis import given, settings
from hypothesis import strategies as st

from clients.aggregation import masks, shamir, wire
from clients.aggregation.fixed_point import FixedPoint
from clients.aggregation.graph import Rules, graph, neighbourhood
from clients.aggregation.secagg import SecAggMod, seed_tag
from clients.aggregation.wire import ProtocolError
from clients.messages import RefusedMessageError

pytestmark = pytest.mark.usefixtures("task_identity")
CLIENTS = 5
RINGS = masks.make_keyrings(9)
MODEL = ArrayRecord([np.zeros(6, np.float32)])
OTHER = ArrayRecord([np.ones(6, np.float32)])
KEYS, SHARES, TRAIN, LISTS, UNMASK = (
    wire.ADVERTISE_TYPE,
    wire.SHARE_TYPE,
    wire.TRAIN_TYPE,
    wire.CONSISTENCY_TYPE,
    wire.UNMASK_TYPE,
)


class Rig:
    """A server that says what it likes to real clients, each with its own memory."""

    def __init__(self, clients=CLIENTS, rules=None, number=1):
        self.trained, self.number, self.everybody = 0, number, list(range(clients))
        self.rules, self.fails = rules or Rules(), False
        self.mod = SecAggMod(RINGS.__getitem__, FixedPoint(16.0, 100.0), (), seed=1, rules=self.rules)
        self.app = ClientApp(mods=[self.mod])
        wire.register(self.app)
        self.app.train()(self._fit)
        self.app.train("personalize")(self._fit)
        self.app.train("export")(self._fit)
        self.app.evaluate()(self._fit)
        self.app.query()(self._fit)
        self.contexts = [Context(1, 100 + c, {"partition-id": c}, RecordDict(), {}) for c in self.everybody]

    def _fit(self, message, context):
        self.trained += 1
        if self.fails:
            raise RuntimeError("loss 0.73")
        arrays = ArrayRecord([-np.full(6, context.node_config["partition-id"], np.float32)])
        content = RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": 2})})
        return Message(content, reply_to=message)

    def say(self, client, kind, entries=None, number=None, model=MODEL):
        content = wire.content({wire.ROUND: self.number if number is None else number, **(entries or {})})
        if kind.startswith(TRAIN):
            content["arrays"] = model
        message = Message(content, dst_node_id=100 + client, message_type=kind)
        return self.app(pickle.loads(pickle.dumps(message)), self.contexts[client])

    def good(self, client, kind, entries=None, **more):
        reply = self.say(client, kind, entries, **more)
        assert not reply.has_error(), reply.error.reason
        return reply.content

    def refused(self, client, kind, entries=None, **more):
        reply = self.say(client, kind, entries, **more)
        assert reply.has_error() and not reply.has_content()
        return reply.error.reason

    def advertise(self, clients=None):
        return {c: self.good(c, KEYS)[wire.RECORD][wire.KEYS] for c in clients or self.everybody}

    def near(self, client, roster=None):
        roster = self.everybody if roster is None else roster
        return graph(roster, self.number, neighbourhood(len(roster), self.rules).neighbours)[client]

    def told(self, keys, client, roster=None):
        """What an honest server sends in stage 1."""
        return {wire.ROSTER: roster or sorted(keys), wire.KEYS: {c: keys[c] for c in self.near(client, roster)}}

    def share(self, keys, roster=None):
        """Everybody's sealed shares, by sender and receiver."""
        replies = {c: self.good(c, SHARES, self.told(keys, c, roster))[wire.RECORD] for c in roster or keys}
        self.tags = {c: reply[wire.TAG] for c, reply in replies.items()}
        return {c: wire.read_mapping(reply, wire.SEALED, wire.SEALED_BYTES) for c, reply in replies.items()}

    def delivery(self, sealed, client, sharing=None):
        """What an honest server sends in stage 2."""
        sharing = sorted(sealed if sharing is None else sharing)
        return {wire.SHARING: sharing, wire.SEALED: {c: sealed[c][client] for c in sharing if client in sealed[c]}}

    def train(self, sealed, clients=None):
        replies = {c: self.good(c, TRAIN, self.delivery(sealed, c)) for c in clients or sealed}
        self.sharers = {c: reply[wire.RECORD][wire.SIGNATURE] for c, reply in replies.items()}
        return {c: reply[wire.MASKED][wire.VECTOR].numpy() for c, reply in replies.items()}

    def all_trained(self):
        self.keys = self.advertise()
        self.sealed = self.share(self.keys)
        return self.train(self.sealed)

    def signed(self, survivors, clients=None):
        return {c: self.good(c, LISTS, lists(survivors))[wire.RECORD][wire.SIGNATURE] for c in clients or survivors}

    def proof(self, signatures, client, sharers=()):
        found = {c: s for c, s in signatures.items() if c != client}
        return {wire.SIGNATURES: found, wire.SHARERS: {c: self.sharers[c] for c in sharers}}

    def all_signed(self):
        masked = self.all_trained()
        self.signatures = self.signed(self.everybody)
        return masked


def without(mapping, client):
    return {c: value for c, value in mapping.items() if c != client}


def lists(survivors):
    return {wire.SURVIVORS: list(survivors)}


def test_masked_vectors_are_all_that_leaves_and_their_sum_is_right():
    rig = Rig()
    masked = rig.all_signed()
    answers = [rig.good(c, UNMASK, rig.proof(rig.signatures, c))[wire.RECORD] for c in range(CLIENTS)]
    total = sum(masked.values())
    for client in range(CLIENTS):
        shares = {c + 1: wire.read_share(a[f"seed/{client}"]) for c, a in enumerate(answers) if c != client}
        seed = shamir.combine(dict(list(shares.items())[:3])).to_bytes(32, "big")
        assert seed_tag(seed) == rig.tags[client]
        total = total - masks.self_mask(seed, 1, 7, 32)
    # weight 2, update c: 16 * 2 * (0 + 1 + 2 + 3 + 4) and the weights 16 * 2 * 5
    assert total.tolist() == [320] * 6 + [160]


# Message types


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
    assert list(rig.good(0, kind, rig.delivery(sealed, 0))) == [wire.MASKED, wire.RECORD]


@pytest.mark.parametrize("kind", ["query", "query.default", "train.personalize"])
def test_no_other_message_gets_an_update(kind):
    with pytest.raises(RefusedMessageError, match="more than single numbers, so it stays on the client"):
        Rig().say(3, kind)


@pytest.mark.parametrize("kind", ["evaluate", "evaluate.default", "train.export"])
def test_message_types_that_a_protected_client_does_not_know_are_not_even_tried(kind):
    rig = Rig()
    with pytest.raises(RefusedMessageError, match=f"message type '{kind}': a protected client answers"):
        rig.say(3, kind)
    assert rig.trained == 0


def test_without_the_mod_there_is_no_answer():
    app = ClientApp()
    wire.register(app)
    for kind in (KEYS, SHARES, LISTS, UNMASK):
        message = Message(wire.content({wire.ROUND: 1}), dst_node_id=100, message_type=kind)
        with pytest.raises(ProtocolError, match="no SecAggMod among its mods"):
            app(message, Rig().contexts[0])


# Keys and participants


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
        assert rig.refused(0, SHARES, rig.told(keys | {1: entry}, 0)) == (
            "the keys handed out as client 1's do not carry its signature for this round: they were swapped"
        )
    rig.share(keys)


def test_keys_of_another_round_or_run_are_caught():
    rig, other = Rig(), Rig()
    old = rig.advertise()
    rig.number = 2
    new = rig.advertise()
    assert "swapped" in rig.refused(0, SHARES, rig.told(new | {1: old[1]}, 0))
    for context in other.contexts:
        context.run_id = 2
    other.number = 2
    assert "swapped" in rig.refused(0, SHARES, rig.told(other.advertise(), 0))


@pytest.mark.parametrize(
    ("roster", "fault"),
    [
        ([0, 1], "2 clients, 0 of them colluding: a sum over fewer than 3"),
        ([0], "1 clients"),
        ([], "is not among those said to take part"),
        ([0, 1, 1, 2], "not in rising order, each named once"),
        ([1, 0, 2, 3, 4], "not in rising order, each named once"),
        ([0, 1, 2, 17], r"clients \[17\] are not in this client's key ring"),
        ([-1, 0, 1, 2], r"clients \[-1\] are not in this client's key ring"),
        ([1, 2, 3, 4], "client 0 is not among those said to take part"),
    ],
)
def test_participants_that_no_honest_server_would_name_are_refused(roster, fault):
    """Two clients only, one client many times, and clients of the server's own making among them."""
    rig = Rig()
    keys = rig.advertise()
    entry = {**keys, 17: keys[1], -1: keys[1]}
    reason = rig.refused(0, SHARES, {wire.ROSTER: roster, wire.KEYS: {c: entry[c] for c in set(roster) - {0}}})
    assert re.search(fault, reason)
    rig.share(keys)


@pytest.mark.parametrize("shown", [[1], [1, 2, 3], [0, 1, 2, 3, 4], [], [1, 2, 3, 4, 5]])
def test_a_client_knows_its_neighbours_from_who_takes_part(shown):
    """One neighbour only, or one too many: the graph is not the server's to draw."""
    rig = Rig(6, Rules(neighbours=4))
    keys = rig.advertise()
    assert "neighbours are" in rig.refused(0, SHARES, rig.told(keys, 0) | {wire.KEYS: {c: keys[c] for c in shown}})


def test_what_the_server_says_of_thresholds_is_not_heard():
    rig = Rig()
    keys = rig.advertise()
    told = rig.told(keys, 0)
    sealed = rig.good(0, SHARES, told | {"threshold": 1, "neighbours": 1})[wire.RECORD]
    assert set(wire.read_mapping(sealed, wire.SEALED, wire.SEALED_BYTES)) == {1, 2, 3, 4}
    state = rig.contexts[0].state[wire.RECORD]
    assert "threshold" not in state and neighbourhood(CLIENTS, rig.rules).threshold == 3


@pytest.mark.parametrize(
    ("clients", "rules"),
    [
        (4, Rules(colluding=2)),
        (5, Rules(threshold=0.4)),
        (8, Rules(neighbours=2, colluding=2)),
        (5, Rules(colluding=2)),
    ],
)
def test_rules_that_protect_nothing_are_not_gone_by(clients, rules):
    rig = Rig(clients, rules)
    keys = rig.advertise()
    assert "colluding" in rig.refused(0, SHARES, {wire.ROSTER: sorted(keys), wire.KEYS: without(keys, 0)})


def test_who_was_told_of_other_participants_cannot_be_shared_with():
    """The victim hears of three clients, the others of all: none of its shares opens, and it opens none."""
    rig = Rig()
    keys = rig.advertise()
    sealed = {c: rig.good(c, SHARES, rig.told(keys, c, [0, 1, 2] if c == 0 else None))[wire.RECORD] for c in keys}
    sealed = {c: wire.read_mapping(found, wire.SEALED, wire.SEALED_BYTES) for c, found in sealed.items()}
    for client in (1, 2):
        entries = rig.delivery(sealed, client, range(CLIENTS))
        assert "client 0's share" in rig.refused(client, TRAIN, entries) and rig.trained == 0
    assert "told of other participants" in rig.refused(0, TRAIN, rig.delivery(sealed, 0, [0, 1, 2]))


# Shares


def test_shares_are_for_their_receiver_and_all_that_are_said_to_share_are_due():
    rig = Rig()
    sealed = rig.share(rig.advertise())
    due = rig.delivery(sealed, 0)
    for wrong in (sealed[1][2], sealed[2][0], bytes(wire.SEALED_BYTES)):
        entries = due | {wire.SEALED: due[wire.SEALED] | {1: wrong}}
        assert "client 1's share for client 0" in rig.refused(0, TRAIN, entries)
    few = dict(list(due[wire.SEALED].items())[:2])
    assert "are due" in rig.refused(0, TRAIN, due | {wire.SEALED: few})
    assert "2 neighbours sent shares, fewer than" in rig.refused(0, TRAIN, {wire.SEALED: few, wire.SHARING: [0, 1, 2]})
    assert "are due" in rig.refused(0, TRAIN, due | {wire.SEALED: due[wire.SEALED] | {17: sealed[1][0]}})
    for sharing in ([0, 1, 2, 3, 3, 4], [4, 3, 2, 1, 0], [0, 1, 2, 3, 4, 17]):
        assert rig.refused(0, TRAIN, due | {wire.SHARING: sharing})
    assert rig.trained == 0
    rig.train(sealed)


def test_a_client_whose_neighbours_were_thinned_out_is_not_unmasked():
    """It was told that one of them sent no shares. The others, who were told that all did, need its word for it."""
    rig = Rig()
    sealed = rig.share(rig.advertise())
    masked = rig.train(sealed, [1, 2, 3, 4])
    content = rig.good(0, TRAIN, rig.delivery(sealed, 0, [0, 1, 2, 3]))
    rig.sharers[0] = content[wire.RECORD][wire.SIGNATURE]
    assert "among those who sent shares" in rig.refused(0, LISTS, lists(range(CLIENTS)))
    signatures = rig.signed(range(CLIENTS), [1, 2, 3, 4])
    for client in (1, 2, 3, 4):
        reason = rig.refused(client, UNMASK, rig.proof(signatures, client, [0]))
        assert reason == f"client 0 did not sign that it was sent what client {client} was"
    assert len(masked) == 4


# Answers are given once


def test_every_question_is_answered_once():
    rig = Rig()
    keys = rig.advertise()
    sealed = rig.share(keys)
    assert "follows on" in rig.refused(0, SHARES, rig.told(keys, 0))
    rig.train(sealed)
    assert "follows on" in rig.refused(0, TRAIN, rig.delivery(sealed, 0))  # the difference would be unmasked
    assert rig.trained == CLIENTS
    assert "round 1 is over" in rig.refused(0, KEYS)
    signatures = rig.signed(range(CLIENTS))
    for again in (range(CLIENTS), [0, 1, 2, 3]):
        assert "follows on" in rig.refused(0, LISTS, lists(again))
    rig.good(0, UNMASK, rig.proof(signatures, 0))
    assert "follows on" in rig.refused(0, UNMASK, rig.proof(signatures, 0))
    for number in (1, 0, -3):
        assert f"round {number} is over" in rig.refused(0, KEYS, number=number)


@pytest.mark.parametrize("stages", range(5))
def test_a_round_does_not_begin_again_wherever_it_was_left(stages):
    """Not with another model, and not after a later round has begun."""
    rig = Rig()
    steps = [rig.advertise, lambda: rig.share(keys), lambda: rig.train(sealed), lambda: rig.signed(rig.everybody)]
    keys = steps[0]()
    sealed = steps[1]() if stages > 1 else None
    for step in steps[2:stages]:
        step()
    assert "round 1 is over" in rig.refused(0, KEYS)
    rig.good(0, KEYS, number=4)
    assert "round 1 is over" in rig.refused(0, KEYS) and "round 3 is over" in rig.refused(0, KEYS, number=3)
    for kind in (SHARES, TRAIN, LISTS, UNMASK):
        assert "follows on" in rig.refused(0, kind)


def test_training_that_fails_closes_the_round_too():
    rig = Rig()
    sealed = rig.share(rig.advertise())
    rig.fails = True
    reason = rig.refused(0, TRAIN, rig.delivery(sealed, 0))
    assert "RuntimeError" in reason and "0.73" not in reason
    rig.fails = False
    assert "follows on" in rig.refused(0, TRAIN, rig.delivery(sealed, 0), model=OTHER)
    assert "round 1 is over" in rig.refused(0, KEYS) and rig.trained == 1


def test_after_the_last_stage_nothing_secret_is_left():
    rig = Rig()
    rig.advertise()
    assert secret(rig) == {"mask-key", "share-key"}
    rig = Rig()
    rig.all_trained()
    assert secret(rig) == {"held", "broadcast"}
    rig.signatures = rig.signed(rig.everybody)
    assert secret(rig) == {"held", "broadcast"}
    rig.good(0, UNMASK, rig.proof(rig.signatures, 0))
    assert not secret(rig)


def secret(rig):
    state = rig.contexts[0].state[wire.RECORD]
    return {name.split("/")[0] for name, value in state.items() if isinstance(value, bytes)}


# Who survived


@pytest.mark.parametrize(
    ("survivors", "fault"),
    [
        ([0, 1, 2, 3, 4, 4], "each named once"),
        ([4, 3, 2, 1, 0], "not in rising order"),
        ([1, 2, 3, 4], "not named as a survivor"),
        ([0, 1, 2, 3, 4, 7], "not among those who sent shares"),
        ([0, 1, 2], "2 neighbours of client 0 survived, fewer than the threshold, 3"),
        ([0, 1], "2 of 5 clients survived, fewer than the 3 it takes"),
        ([0], "1 of 5 clients survived, fewer than the 3 it takes"),
        ([], "not named as a survivor"),
    ],
)
def test_lists_that_an_honest_server_would_not_send_are_not_signed(survivors, fault):
    rig = Rig()
    rig.all_trained()
    assert fault in rig.refused(0, LISTS, lists(survivors))
    assert rig.good(0, LISTS, lists([0, 1, 2, 3]))  # nothing was given away: the right question is still open


@pytest.mark.parametrize("threshold", [0.51, 0.55, 0.67])
def test_the_whole_graph_is_looked_at_and_not_only_one_s_own_neighbours(threshold):
    """A client far away that lost too many neighbours could be left alone in a part of its own."""
    rig = Rig(9, Rules(neighbours=2, threshold=threshold))
    rig.all_trained()
    poor = next(c for c in rig.everybody if c != 0 and c not in rig.near(0) and not rig.near(c) & rig.near(0))
    lost = min(rig.near(poor))
    if lost not in rig.near(0):
        survivors = [c for c in rig.everybody if c != lost]
        assert "survived, fewer than the threshold, 2" in rig.refused(0, LISTS, lists(survivors))


def test_no_share_is_given_out_before_the_survivors_are_signed():
    rig = Rig()
    rig.all_trained()
    assert "follows on" in rig.refused(0, UNMASK)
    assert "follows on" in rig.refused(0, UNMASK, {wire.SURVIVORS: rig.everybody})
    rig.good(0, LISTS, lists(rig.everybody))
    assert "1 of 5 clients signed the survivors that client 0 was told of; it takes 3" in rig.refused(0, UNMASK)


def test_signatures_that_do_not_count():
    """Of nobody's, another client's, another list's, another round's, another kind's; of who is not in the sum."""
    rig, later = Rig(), Rig(number=2)
    rig.all_trained()
    later.all_signed()
    signatures = rig.signed([0, 1, 2, 3], [0, 1]) | rig.signed(range(CLIENTS), [4])
    forged = masks.sign(masks.make_keyrings(1)[0].private, b"survived")
    for wrong in (bytes(64), forged, signatures[0], signatures[4], later.signatures[2], rig.sharers[2]):
        attempt = {1: signatures[1], 2: wrong, 3: wrong, 4: signatures[4], 7: wrong}
        assert "2 of 5 clients signed" in rig.refused(0, UNMASK, rig.proof(attempt, 0))
    signatures |= rig.signed([0, 1, 2, 3], [2])
    assert "client 3 did not sign" in rig.refused(0, UNMASK, rig.proof(signatures, 0))
    assert "client 3 did not sign" in rig.refused(0, UNMASK, {wire.SIGNATURES: signatures, wire.SHARERS: {3: forged}})
    given = rig.good(0, UNMASK, rig.proof(signatures, 0, [3]))[wire.RECORD]
    assert set(given) == {"seed/1", "seed/2", "seed/3", "key/4"}


def test_vectors_that_were_trained_on_other_weights_are_not_unmasked():
    """Else one client learns, the others get weights at which they cannot, and the sum is the one's update."""
    rig = Rig()
    sealed = rig.share(rig.advertise())
    rig.train(sealed, [1, 2, 3, 4])
    content = rig.good(0, TRAIN, rig.delivery(sealed, 0), model=OTHER)
    rig.sharers[0] = content[wire.RECORD][wire.SIGNATURE]
    signatures = rig.signed(range(CLIENTS))
    for client in (1, 2, 3, 4):
        assert "client 0 did not sign that" in rig.refused(client, UNMASK, rig.proof(signatures, client, [0]))
    assert "1 of 5 clients signed" in rig.refused(0, UNMASK, rig.proof(signatures, 0, [1, 2, 3, 4]))


def test_weights_to_train_on_come_alone():
    """What is trained on and what the update is taken from would be two things, and which is which in no signature."""
    rig = Rig()
    sealed = rig.share(rig.advertise())
    content = RecordDict({"other": OTHER, "arrays": MODEL})
    content[wire.RECORD] = wire.record({wire.ROUND: rig.number, **rig.delivery(sealed, 0)})
    reply = rig.app(Message(content, dst_node_id=100, message_type=TRAIN), rig.contexts[0])
    assert "2 records of arrays" in reply.error.reason and not rig.trained


def answers_to_lies(rig, told, colluders):
    """Each honest client is told of survivors of its own; colluders sign everything and give out both shares.

    Returns which lists were unmasked, and how many shares of each client's two secrets the server then holds.
    """
    rig.all_trained()
    signatures = {}
    for client, survivors in told.items():
        reply = rig.say(client, LISTS, lists(survivors)) if client not in colluders else None
        if reply is not None and reply.has_content():
            signatures.setdefault(tuple(survivors), {})[client] = reply.content[wire.RECORD][wire.SIGNATURE]
    for survivors, found in signatures.items():
        for colluder in colluders:
            before = copy.deepcopy(rig.contexts[colluder].state)
            reply = rig.say(colluder, LISTS, lists(survivors))
            if reply.has_content():
                found[colluder] = reply.content[wire.RECORD][wire.SIGNATURE]
            rig.contexts[colluder].state = before
    unmasked, shares = set(), Counter()
    for survivors, found in signatures.items():
        for client in set(found) - colluders:
            reply = rig.say(client, UNMASK, rig.proof(found, client, set(rig.everybody) - {client}))
            if reply.has_content():
                unmasked.add(survivors)
                shares.update(tuple(name.split("/")) for name in reply.content[wire.RECORD])
    for colluder in colluders:
        held = {name for name in rig.contexts[colluder].state[wire.RECORD] if name.startswith("held/")}
        shares.update((kind, name.split("/")[1]) for name in held for kind in ("seed", "key"))
    return unmasked, shares


@settings(max_examples=40, deadline=None)
@given(
    st.integers(3, 7),
    st.sampled_from([0.51, 0.53, 0.55, 0.6, 2 / 3, 0.8]),
    st.none() | st.just(4),
    st.integers(0, 2),
    st.data(),
)
def test_a_server_that_tells_everybody_something_else_gets_one_sum_at_most(clients, share, neighbours, count, data):
    """At every threshold that is allowed: of no client it holds enough shares of both secrets."""
    rules = Rules(threshold=share, neighbours=neighbours, colluding=count)
    try:
        size = neighbourhood(clients, rules)
    except ValueError:
        return
    colluders = data.draw(st.sets(st.integers(0, clients - 1), max_size=count), "colluders")
    everybody = list(range(clients))
    versions = data.draw(
        st.lists(st.sets(st.sampled_from(everybody), max_size=2), min_size=1, max_size=3), "who is said to be lost"
    )
    told = {
        c: [o for o in everybody if o == c or o not in data.draw(st.sampled_from(versions), f"to client {c}")]
        for c in everybody
    }
    unmasked, shares = answers_to_lies(Rig(clients, rules), told, colluders)
    assert len(unmasked) <= 1
    for client in everybody:
        assert min(shares["seed", str(client)], shares["key", str(client)]) < size.threshold
    for survivors in unmasked:
        assert len(set(survivors) - colluders) >= 3
        for client in survivors:
            assert shares["key", str(client)] < size.threshold  # so its masks with others stay on


def test_a_quorum_is_enough_and_the_same_lies_to_one_client_only_cost_nothing():
    """The test above is not green because nothing is ever unmasked."""
    everybody = list(range(CLIENTS))
    unmasked, shares = answers_to_lies(Rig(), dict.fromkeys(everybody, everybody), set())
    assert unmasked == {tuple(everybody)} and all(shares["seed", str(c)] == CLIENTS - 1 for c in everybody)
    unmasked, shares = answers_to_lies(Rig(), dict.fromkeys(everybody, everybody) | {4: [0, 1, 2, 4]}, set())
    assert unmasked == {tuple(everybody)} and shares["seed", "4"] == CLIENTS - 1


@pytest.mark.parametrize("entries", [{}, {wire.ROSTER: ["3"]}, {wire.ROSTER: [0, 1, 2], wire.KEYS: {1: b"short"}}])
def test_garbage_from_the_server_is_refused_and_does_no_harm(entries):
    rig = Rig()
    keys = rig.advertise()
    assert rig.refused(0, SHARES, entries)
    rig.train(rig.share(keys))


def test_the_mod_travels_to_ray_s_workers():
    assert pickle.loads(pickle.dumps(Rig().mod)).metrics == ()


def test_masked_vectors_of_equal_updates_differ():
    rig = Rig()
    masked = rig.all_trained()
    again = Rig().all_trained()
    assert len({vector.tobytes() for vector in [*masked.values(), *again.values()]}) == 2 * CLIENTS
    assert all(Array(v).dtype == "uint32" for v in masked.values())
