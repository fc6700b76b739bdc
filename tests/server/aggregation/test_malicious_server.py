"""A server that deviates, against every protocol with the product's own clients: what they must not answer.

What our own protocol's stages refuse is in tests/clients/aggregation/test_secagg.py.
"""

import copy
from contextlib import suppress

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.secure_aggregation.secaggplus_constants import RECORD_KEY_CONFIGS, Key, Stage

from clients.aggregation.ckks import LIMIT, Ckks, FewInSumError, ciphertexts, load_keys, make_keys, request
from clients.aggregation.fixed_point import FixedPoint
from clients.aggregation.flower import FlowerSecAggPlus
from clients.aggregation.masks import make_keyrings
from clients.aggregation.secagg import SecAggMod
from clients.messages import AnsweredRoundError, RefusedMessageError, TrainingFailedError
from clients.update import UpdatePrivacy
from server.aggregation import RoundRefusedError
from server.aggregation.flower import SecAggPlusSettings
from server.aggregation.flower import collect as collect_flower
from sim.engines.inprocess import FIRST_NODE_ID, InProcessGrid

pytestmark = pytest.mark.usefixtures("task_identity")
MODEL, CLIENTS = ArrayRecord({"w": Array(np.zeros(4, np.float32))}), 4
CLIENT, SERVER = make_keys()
MODS = {
    "clipping": UpdatePrivacy(seed=1, clipping_norm=1.0),
    "local noise": UpdatePrivacy(seed=1, clipping_norm=1.0, noise_multiplier=5.0),
    "secagg": SecAggMod(make_keyrings(CLIENTS).__getitem__, FixedPoint(1.0, 2.0**20), (), seed=1),
    "ckks": Ckks(keys=CLIENT),
    "secagg-plus-flower": FlowerSecAggPlus(seed=1),
}
UPDATE = np.arange(4, dtype=np.float32) + 1


class Client:
    """One protected client, and whatever a server asks it."""

    def __init__(self, mod, number=0):
        self.app, self.trained, self.fails = ClientApp(mods=[mod]), [], False
        for register in (self.app.train, self.app.evaluate, self.app.query):
            register()(self._answer)
            register("other")(self._answer)
        self.app.train("personalize")(self._answer)
        self.context = Context(1, FIRST_NODE_ID + number, {"partition-id": number}, RecordDict(), {})

    def _answer(self, message, context):
        self.trained.append(message.metadata.message_type)
        if self.fails:
            raise ValueError("loss 0.73")
        after = message.content["arrays"].to_numpy_ndarrays()[0] - UPDATE
        metrics = MetricRecord({"num-examples": 1})
        return Message(RecordDict({"arrays": ArrayRecord({"w": Array(after)}), "metrics": metrics}), reply_to=message)

    def ask(self, kind="train", number=1, **more):
        config = ConfigRecord({"server-round": number})
        content = RecordDict({"arrays": copy.deepcopy(MODEL), "config": config, **more})
        return self.app(Message(content, dst_node_id=FIRST_NODE_ID, message_type=kind), self.context)


def updates(reply):
    """What in a reply looks like the client's update, in the open."""
    records = reply.content.array_records.values() if reply.has_content() else ()
    return [a for record in records for a in record.to_numpy_ndarrays() if np.allclose(np.abs(a), UPDATE)]


KINDS = ["train.default", "train.other", "train.personalize", "evaluate", "evaluate.default", "evaluate.other"]
KINDS += ["query", "query.default", "query.other", "train"]


@pytest.mark.parametrize("kind", [*KINDS, "train.nobody", "Train", "train.default.x", "fit", "system", ""])
@pytest.mark.parametrize("name", MODS)
def test_no_message_of_any_type_gets_an_update_in_the_open(name, kind):
    client = Client(MODS[name])
    try:
        reply = client.ask(kind)
    except (ValueError, KeyError, RefusedMessageError):
        return
    assert kind in ("train", "train.default") and not updates(reply)


@pytest.mark.parametrize("kind", ["train.other", "evaluate", "query.other"])
@pytest.mark.parametrize("name", MODS)
def test_what_nothing_protects_is_not_even_run(name, kind):
    client = Client(MODS[name])
    with pytest.raises(RefusedMessageError, match=f"message type '{kind}'"):
        client.ask(kind)
    assert not client.trained


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("name", ["clipping", "local noise", "ckks"])
@pytest.mark.parametrize("first", [True, False])
def test_weights_to_train_on_come_alone(first, name, fails):
    """With one value beside them, which an update of zero fits and no other, only failures were answered."""
    client = Client(MODS[name])
    client.fails = fails
    records = {"a": ArrayRecord({"w": Array(np.zeros(1, np.float32))}), "arrays": copy.deepcopy(MODEL)}
    ordered = dict(sorted(records.items(), reverse=not first))
    content = RecordDict({**ordered, "config": ConfigRecord({"server-round": 1})})
    for records in (content, RecordDict({"config": ConfigRecord({"server-round": 1})})):
        with pytest.raises(RefusedMessageError, match="records of arrays"):
            client.app(Message(records, dst_node_id=FIRST_NODE_ID, message_type="train"), client.context)
    assert not client.trained


@pytest.mark.parametrize("second", ["train", "train.default"])
@pytest.mark.parametrize("name", ["clipping", "local noise", "ckks"])
def test_a_round_is_answered_once_and_no_older_one_whether_training_works_or_not(name, second):
    client = Client(MODS[name])
    client.fails = True
    try:
        said = str(client.ask(number=3).content.metric_records)  # clipping lets no failure be told from a zero update
    except TrainingFailedError as failed:
        said = str(failed)
    assert "0.73" not in said
    client.fails = False
    for old in (3, 2, -1):
        with pytest.raises(AnsweredRoundError):
            client.ask(second, old)
    assert len(client.trained) == 1
    client.ask(number=4)
    with pytest.raises(AnsweredRoundError):
        client.ask(second, 4)


# CKKS: what a client opens


def trained(number=1, clients=CLIENTS, fewest=3):
    """Clients that have answered a round, and their ciphertexts."""
    found = [Client(Ckks(keys=CLIENT, fewest=fewest), c) for c in range(clients)]
    return found, [ciphertexts(client.ask(number=number))[0] for client in found]


def added(parts):
    import tenseal

    vectors = [tenseal.ckks_vector_from(load_keys(SERVER), part) for part in parts]
    return [sum(vectors[1:], vectors[0]).serialize()]


def opened(client, parts, number=1):
    message = request(parts, FIRST_NODE_ID, number)
    return client.app(message, client.context).content["ckks-sum"]["total"].numpy()


@pytest.mark.parametrize(("colluding", "count"), [(0, 1), (0, 2), (1, 3), (2, 4)])
def test_a_client_opens_no_sum_over_too_few(colluding, count):
    clients, parts = trained(fewest=3 + colluding)
    with pytest.raises(FewInSumError, match=f"fewer than {3 + colluding} clients is not opened"):
        opened(clients[0], added(parts[:count]))


def test_a_client_opens_one_sum_of_a_round_and_only_of_its_last():
    clients, parts = trained(number=2)
    for wrong in (1, 3):
        with pytest.raises(RefusedMessageError, match=f"a sum of round {wrong}"):
            opened(clients[0], added(parts), wrong)
    np.testing.assert_allclose(opened(clients[0], added(parts), 2), [*(CLIENTS * UPDATE), CLIENTS], atol=1e-5)
    with pytest.raises(AnsweredRoundError):
        opened(clients[0], added(parts[:3]), 2)
    with pytest.raises(RefusedMessageError):
        opened(Client(MODS["ckks"]), added(parts), 2)  # it took no part


def test_a_sum_that_counts_more_clients_than_there_can_be_is_not_opened():
    clients, parts = trained()
    many = added(parts)
    for _ in range(7):
        many = added(many * 2)
    with pytest.raises(FewInSumError):
        opened(clients[0], many)
    assert LIMIT > 0


# Flower's SecAgg+: what a client can check


class Liar(InProcessGrid):
    """Changes what the server says in one stage, to everybody; notes what the clients answer to it."""

    def __init__(self, stage, change, clients=CLIENTS, fewest=3):
        self.clients = {}
        super().__init__(self._route, clients)
        self.stage, self.change, self.answers = stage, change, []
        self.made = [Client(FlowerSecAggPlus(seed=1, fewest=fewest), c) for c in range(clients)]

    def _route(self, message, context):
        return self.made[context.node_config["partition-id"]].app(message, context)

    def send_and_receive(self, messages, *, timeout=None):
        told = [copy.deepcopy(message) for message in messages]
        lies = told[0].content[RECORD_KEY_CONFIGS][Key.STAGE] == self.stage
        for message in told if lies else ():
            self.change(message.content[RECORD_KEY_CONFIGS])
        replies = super().send_and_receive(told)
        if lies:
            self.answers = replies
        return replies


def flower(stage, change, **more):
    grid = Liar(stage, change, **more)
    content = RecordDict({"arrays": MODEL, "config": ConfigRecord({"server-round": 1})})
    messages = [Message(content, FIRST_NODE_ID + c, "train") for c in range(len(grid.made))]
    settings = SecAggPlusSettings(max_weight=1)
    with suppress(RoundRefusedError, AssertionError):  # an assertion of Flower's, on the server, over the lies
        collect_flower(grid, messages, (), settings=settings)
    return [reply.error.reason if reply.has_error() else "" for reply in grid.answers]


def test_the_liar_changes_nothing_by_itself():
    assert flower(Stage.UNMASK, lambda config: None) == [""] * CLIENTS


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({Key.SAMPLE_NUMBER: 2}, "2 clients and 4 shares"),
        ({Key.SHARE_NUMBER: 2, Key.THRESHOLD: 2}, "4 clients and 2 shares"),
        ({Key.SHARE_NUMBER: 1, Key.THRESHOLD: 1}, "4 clients and 1 shares"),
        ({Key.THRESHOLD: 1}, "1 of 4 shares open a secret: it takes more than half"),
        ({Key.THRESHOLD: 2}, "2 of 4 shares open a secret: it takes more than half"),
        ({Key.THRESHOLD: 0}, "0 of 4 shares"),
        ({Key.THRESHOLD: 5}, "5 of 4 shares"),
    ],
)
def test_flower_s_settings_that_single_a_client_out_are_refused(changes, fault):
    reasons = flower(Stage.SETUP, lambda config: config.update(changes))
    assert len(reasons) == CLIENTS and all(fault in reason for reason in reasons)


@pytest.mark.parametrize(
    ("alive", "dead", "fault"),
    [
        ([0, 1, 2, 3], [1], "named twice"),
        ([0, 1, 2, 3, 3], [], "named twice"),
        ([0, 1], [2, 3], "3 must be"),
        ([0], [1, 2, 3], "3 must be"),
        ([1, 2, 3], [0], "this client is"),
    ],
)
def test_flower_s_lists_that_give_away_both_secrets_or_few_clients_are_refused(alive, dead, fault):
    def change(config):
        config[Key.ACTIVE_NODE_ID_LIST] = [FIRST_NODE_ID + c for c in alive]
        config[Key.DEAD_NODE_ID_LIST] = [FIRST_NODE_ID + c for c in dead]

    assert fault in flower(Stage.UNMASK, change)[0]


def test_flower_s_stages_do_not_train_twice_in_a_round():
    grid = Liar(None, None)
    content = RecordDict({"arrays": MODEL, "config": ConfigRecord({"server-round": 1})})
    messages = [Message(content, FIRST_NODE_ID + c, "train") for c in range(CLIENTS)]
    collect_flower(grid, messages, (), settings=SecAggPlusSettings(max_weight=1))
    with pytest.raises(RoundRefusedError, match="this client has answered round 1"):
        collect_flower(grid, messages, (), settings=SecAggPlusSettings(max_weight=1))
