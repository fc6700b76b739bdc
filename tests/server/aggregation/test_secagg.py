"""Whole rounds: the sum over the survivors is exact or the round is refused, whoever drops out at whatever stage."""

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from hypothesis import given, settings
from hypothesis import strategies as st

from clients.aggregation import wire
from clients.aggregation.fixed_point import FixedPoint
from clients.aggregation.graph import Rules, graph, neighbourhood
from clients.aggregation.masks import make_keyrings
from clients.aggregation.payload import unpack
from clients.aggregation.secagg import SecAggMod
from server.aggregation import RoundRefusedError
from server.aggregation.secagg import collect
from sim.engines.inprocess import FIRST_NODE_ID, InProcessGrid

pytestmark = pytest.mark.usefixtures("task_identity")
SIZE = 7
RINGS = make_keyrings(20)
WHOLE = FixedPoint(1.0, 2.0**20)  # payloads here are whole numbers, so sums are exact
KINDS = [wire.ADVERTISE_TYPE, wire.SHARE_TYPE, wire.TRAIN_TYPE, wire.CONSISTENCY_TYPE, wire.UNMASK_TYPE]
MODEL = ArrayRecord({"a": Array(np.arange(4, dtype=np.float32).reshape(2, 2)), "b": Array(np.ones(3, np.float32))})


def update(client):
    return np.random.default_rng(client).integers(-50, 50, SIZE)


def payload(client):
    return (client + 2) * np.array([*update(client), client % 5, 1])


def toy_client(encoding=WHOLE, metrics=("loss",), train=None, rules=None):
    app = ClientApp(mods=[SecAggMod(RINGS.__getitem__, encoding, metrics, seed=1, rules=rules or Rules())])
    wire.register(app)

    @app.train()
    def fit(message, context):
        client = context.node_config["partition-id"]
        assert list(message.content) == ["arrays", "config"]
        if train is not None:
            return train(message, client)
        after = np.concatenate([a.ravel() for a in MODEL.to_numpy_ndarrays()]) - update(client)
        arrays = ArrayRecord({"a": Array(after[:4].reshape(2, 2)), "b": Array(after[4:])})
        metrics = MetricRecord({"loss": client % 5, "num-examples": client + 2})
        return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)

    @app.query()
    def who(message, context):
        return Message(RecordDict({"m": MetricRecord({"client": 1})}), reply_to=message)

    return app


class FaultyGrid(InProcessGrid):
    """A network on which given clients fail at given stages, in given ways."""

    def __init__(self, app, clients, faults=()):
        super().__init__(app, clients)
        self.faults = dict(faults)
        self.log = []

    def send_and_receive(self, messages, *, timeout=None):
        replies = (self._spoiled(message, self._deliver(message)) for message in messages)
        return [reply for reply in replies if reply is not None]

    def _spoiled(self, message, reply):
        stage = KINDS.index(message.metadata.message_type)
        self.log.append((stage, message.metadata.dst_node_id - FIRST_NODE_ID))
        fault = self.faults.get(self.log[-1])
        return reply if fault is None else FAULTS[fault](message, reply)


def changed(reply, entry, array):
    """The reply with every entry of its record, or its array, replaced."""
    if reply.has_error():
        return reply
    for record in reply.content.config_records.values():
        for name in list(record):
            record[name] = entry(record[name])
    for record in reply.content.array_records.values():
        record[wire.VECTOR] = Array(array(record[wire.VECTOR].numpy()))
    return reply


def replaced(content):
    return lambda message, reply: Message(content, reply_to=message)


FAULTS = {
    "silence": lambda message, reply: None,
    "error": lambda message, reply: Message(Error(0, "Traceback\n  line 3\nOSError: no power"), reply_to=message),
    "empty": replaced(RecordDict()),
    "other record": replaced(RecordDict({wire.RECORD: MetricRecord({"x": 1}), wire.MASKED: ConfigRecord({"x": 1})})),
    "no entry": replaced(RecordDict({wire.RECORD: ConfigRecord({"x": 1}), wire.MASKED: ArrayRecord()})),
    "shorter": lambda message, reply: changed(reply, lambda e: e[:-1], lambda v: v[:-1]),
    "longer": lambda message, reply: changed(reply, lambda e: e + b"x", lambda v: np.append(v, v[:1])),
    "other type": lambda message, reply: changed(reply, lambda e: 1, lambda v: v.astype(np.float32)),
    "other width": lambda message, reply: changed(reply, lambda e: e * 2, lambda v: v.astype(np.uint64)),
    "other shape": lambda message, reply: changed(reply, lambda e: [e], lambda v: v[None]),
    "not an array": lambda message, reply: changed(reply, lambda e: "x", lambda v: np.array(["x"])),
    "no field": lambda message, reply: changed(reply, lambda e: b"\xff" * len(e[:-1]), lambda v: v[:0]),
}


def run(clients, faults=(), rules=None, app=None, number=1, grid=None, **more):
    grid = grid or FaultyGrid(app or toy_client(rules=rules), clients, faults)
    content = RecordDict({"arrays": MODEL, "config": ConfigRecord({"server-round": number})})
    sent = [Message(content, dst_node_id=node, message_type="train") for node in grid.get_node_ids()]
    nodes = {client: FIRST_NODE_ID + client for client in range(clients)}
    arguments = {"encoding": WHOLE, "metrics": ("loss",)} | more
    return collect(grid, sent, nodes=nodes, server_round=number, rules=rules, **arguments)


def outcome(clients, faults, rules, number):
    """What must come out: the clients in the sum, or the stage at which the round is refused."""
    lost = [{c for (s, c) in faults if s == stage} for stage in range(5)]
    there = [c for c in range(clients) if c not in lost[0]]
    try:
        size = neighbourhood(len(there), rules)
    except ValueError:
        return 0
    near = graph(there, number, size.neighbours)

    def left(client, among):
        return len(near[client] & set(among))

    shared = [c for c in there if c not in lost[1]]
    while any(left(c, shared) < size.threshold for c in shared):
        shared = [c for c in shared if left(c, shared) >= size.threshold]
    if not shared:
        return 1
    sum_of = [c for c in shared if c not in lost[2]]
    signed = [c for c in sum_of if c not in lost[3]]
    for stage, answering in ((2, sum_of), (3, signed), (4, [c for c in signed if c not in lost[4]])):
        needed = [c for c in shared if c in sum_of or left(c, sum_of)]
        few = len(sum_of) < rules.fewest or (stage < 4 and len(answering) < size.quorum)
        if not answering or few or any(left(c, answering) < size.threshold for c in needed):
            return stage
    return sum_of


def check(clients, faults, rules, number, **more):
    expected = outcome(clients, faults, rules, number)
    if isinstance(expected, int):
        with pytest.raises(RoundRefusedError, match=f"refused at stage {expected}, ") as refused:
            run(clients, faults, rules, number=number, **more)
        assert set(refused.value.dropped) <= {FIRST_NODE_ID + c for c in range(clients)}
        return expected
    collected = run(clients, faults, rules, number=number, **more)
    assert [node - FIRST_NODE_ID for node in collected.survivors] == expected
    assert collected.total.tolist() == sum(payload(c) for c in expected).tolist()
    assert collected.dropped.keys() == {FIRST_NODE_ID + c for c in range(clients)} - set(collected.survivors)
    return expected


def test_a_round_by_hand():
    collected = run(3)
    # updates are weighted by 2, 3 and 4; the loss of client c is c
    assert collected.total[:SIZE].tolist() == (2 * update(0) + 3 * update(1) + 4 * update(2)).tolist()
    sums = unpack(collected.total, ("loss",))
    assert sums.weight == 9 and sums.metrics == {"loss": 0 * 2 + 1 * 3 + 2 * 4}
    assert collected.survivors == [1000, 1001, 1002] and collected.dropped == {}


@pytest.mark.parametrize("fault", sorted(FAULTS))
@pytest.mark.parametrize("stage", range(5))
def test_whatever_a_client_does_wrong_it_is_left_out(stage, fault):
    expected = check(6, {(stage, 2): fault}, Rules(), 0)
    assert expected == ([0, 1, 3, 4, 5] if stage < 3 else list(range(6)))


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_the_sum_over_the_survivors_is_exact_or_the_round_is_refused(data):
    clients = data.draw(st.integers(1, 9), "clients")
    rules = data.draw(
        st.builds(
            Rules,
            threshold=st.sampled_from([0.5, 2 / 3, 0.8, 1.0]),
            neighbours=st.none() | st.integers(1, 8),
            colluding=st.integers(0, 1),
        ),
        "rules",
    )
    where = st.tuples(st.integers(0, 4), st.integers(0, clients - 1))
    faults = data.draw(st.dictionaries(where, st.sampled_from(sorted(FAULTS)), max_size=3), "faults")
    check(clients, faults, rules, data.draw(st.integers(0, 3), "round"))


@settings(max_examples=12, deadline=None)
@given(st.sets(st.tuples(st.integers(0, 4), st.integers(0, 19)), max_size=9), st.sampled_from([4, 6, 8, 19]))
def test_sparse_graphs_survive_drop_outs_too(where, neighbours):
    check(20, dict.fromkeys(where, "silence"), Rules(neighbours=neighbours), 1)


def test_sixty_four_bits():
    encoding = FixedPoint(2.0**30, 2.0**20, 64)
    collected = run(5, {(2, 1): "silence"}, app=toy_client(encoding), encoding=encoding)
    assert collected.total.tolist() == sum(payload(c) for c in (0, 2, 3, 4)).tolist()


def test_the_refusal_names_stage_counts_threshold_and_who_is_lost():
    with pytest.raises(RoundRefusedError) as refused:
        run(5, {(2, 1): "error", (2, 4): "silence"})
    assert str(refused.value) == (
        "round 1 of secure aggregation is refused at stage 2, masked input: 3 of 5 clients are left; client 0 has 2 of "
        "its 4 neighbours left; the threshold is 3. Dropped out: node 1001 at masked input: OSError: no power; "
        "node 1004 at masked input: no reply came"
    )
    assert refused.value.dropped == {
        1001: "masked input: OSError: no power",
        1004: "masked input: no reply came",
    }


def test_rounds_follow_each_other_on_the_same_clients_also_after_a_refusal():
    grid = FaultyGrid(toy_client(), 5)
    assert run(5, grid=grid, number=1).total.tolist() == sum(map(payload, range(5))).tolist()
    grid.faults = {(4, c): "silence" for c in range(3)}
    with pytest.raises(RoundRefusedError, match="stage 4, unmask: 2 of 5 clients are left"):
        run(5, grid=grid, number=2)
    grid.faults = {(2, 0): "silence"}
    assert run(5, grid=grid, number=3).total.tolist() == sum(map(payload, range(1, 5))).tolist()
    with pytest.raises(RoundRefusedError, match="round 3 is over"):
        run(5, grid=grid, number=3)


def test_the_sum_does_not_depend_on_keys_or_graph():
    assert len({run(7, rules=Rules(neighbours=4), number=number).total.tobytes() for number in range(3)}) == 1


def test_nothing_is_unmasked_if_the_callback_raises():
    rules = Rules(threshold=0.5)
    seen, grid = [], FaultyGrid(toy_client(rules=rules), 4, {(2, 3): "silence"})

    def stop(survivors):
        seen.extend(survivors)
        raise RuntimeError("budget spent")

    with pytest.raises(RuntimeError, match="budget spent"):
        run(4, grid=grid, before_unmask=stop, rules=rules)
    assert seen == [1000, 1001, 1002] and not [entry for entry in grid.log if entry[0] == 4]


def test_three_clients_can_hide_behind_each_other_and_two_cannot():
    assert run(3).total.tolist() == (payload(0) + payload(1) + payload(2)).tolist()
    for clients in (1, 2):
        with pytest.raises(RoundRefusedError, match=rf"{clients} clients, 0 of them colluding: .*; it takes 3"):
            run(clients)
    with pytest.raises(RoundRefusedError, match="stage 0, advertise keys: 0 clients"):
        run(3, {(0, c): "silence" for c in range(3)})


@pytest.mark.parametrize(("colluding", "clients"), [(0, 3), (1, 5), (2, 7)])
def test_three_honest_clients_are_left_in_a_sum_or_it_is_refused(colluding, clients):
    rules, left = Rules(colluding=colluding), 2 + colluding
    lost = {(2, client): "silence" for client in range(clients - left)}
    with pytest.raises(RoundRefusedError, match=rf"{left} of {clients} clients are left, and a sum takes {left + 1}"):
        run(clients, lost, rules)
    assert len(run(clients, rules=rules).survivors) == clients


def test_no_more_clients_than_the_fixed_point_was_planned_for():
    with pytest.raises(ValueError, match="room for 4 clients, and 5"):
        run(5, encoding=FixedPoint(1.0, 2.0**29 - 1))


@pytest.mark.parametrize("entry", [wire.SEED, wire.KEY])
def test_shares_that_do_not_fit_are_noticed(entry):
    class Liar(FaultyGrid):
        def _spoiled(self, message, reply):
            reply = super()._spoiled(message, reply)
            own = reply.content.config_records.get(wire.RECORD, {}) if reply and reply.has_content() else {}
            for name in own:
                if name.startswith(f"{entry}/") and reply.metadata.src_node_id == FIRST_NODE_ID:
                    # Not in the first bytes: there X25519 ignores some bits, and the key would still be the right one.
                    own[name] = own[name][:9] + bytes([own[name][9] ^ 1]) + own[name][10:]
            return reply

    which = "seed" if entry == wire.SEED else "mask key"
    with pytest.raises(RoundRefusedError, match=rf"the shares of client \d(?:'s {which})? do not fit together"):
        run(6, grid=Liar(toy_client(), 6, {(2, 5): "silence"}))


def spoiled_training(arrays=None, metrics=None, more=()):
    def train(message, client):
        if client != 2:
            return ordinary(message, client)
        content = {"arrays": arrays or MODEL, "metrics": MetricRecord(metrics or {"loss": 1.5, "num-examples": 3})}
        return Message(RecordDict(content | dict(more)), reply_to=message)

    return train


def ordinary(message, client):
    metrics = MetricRecord({"loss": client % 5, "num-examples": client + 2})
    return Message(RecordDict({"arrays": MODEL, "metrics": metrics}), reply_to=message)


def raising(error):
    def train(message, client):
        if client == 2:
            raise error
        return ordinary(message, client)

    return train


def error_reply(message, client):
    if client == 2:
        return Message(Error(2, "loss was 0.73"), reply_to=message)
    return ordinary(message, client)


HUGE = ArrayRecord({"a": Array(np.full((2, 2), 777777.0)), "b": Array(np.ones(3))})
NANS = ArrayRecord({"a": Array(np.full((2, 2), np.nan)), "b": Array(np.ones(3))})


@pytest.mark.parametrize(
    ("train", "said"),
    [
        (raising(KeyError("patient 0.73")), "KeyError"),
        (raising(ValueError("patient 0.73")), "ValueError"),
        (error_reply, "training failed on this client"),
        (spoiled_training(HUGE), "beyond the limit of the fixed point"),
        (spoiled_training(NANS), "not finite"),
        (spoiled_training(ArrayRecord([np.ones(2)])), "2 values, the model 7"),
        (spoiled_training(metrics={"loss": 0.73}), "no num-examples"),
        (spoiled_training(metrics={"loss": [0.73], "num-examples": 3}), "TypeError"),
        (spoiled_training(more={"more": MODEL}.items()), "2 records of arrays"),
    ],
)
def test_a_client_s_failure_costs_its_own_part_only_and_says_nothing_private(train, said):
    collected = run(6, app=toy_client(train=train))
    assert collected.survivors == [1000, 1001, 1003, 1004, 1005]
    (why,) = collected.dropped.values()
    assert said in why and not any(private in why for private in ("0.73", "patient", "777777"))
    assert unpack(collected.total, ("loss",)).weight == 2 + 3 + 5 + 6 + 7


def test_zero_updates_are_fine():
    collected = run(4, app=toy_client(train=ordinary))
    assert not collected.total[:SIZE].any() and collected.total[-1] == 2 + 3 + 4 + 5
