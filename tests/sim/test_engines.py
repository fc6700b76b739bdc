"""The in-process Grid keeps Flower's contract, and nothing personal crosses it."""

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from sim.engines.inprocess import FIRST_NODE_ID, InProcessGrid
from sim.federate import federate
from sim.folder import create

pytestmark = pytest.mark.usefixtures("task_identity")
CLIENTS = 3


def vandal():
    """A client that spoils what it was sent, counts its calls in its state, and sometimes breaks."""
    app = ClientApp()

    @app.train()
    def spoil(message, context):
        if "break" in message.content["config"]:
            raise OSError("no space left")
        found = message.content["arrays"].to_numpy_ndarrays()[0].tolist()
        message.content["arrays"] = ArrayRecord([np.full(2, 99.0)])
        message.content["config"]["touched"] = True
        calls = context.state.config_records.setdefault("calls", ConfigRecord({"n": 0}))
        calls["n"] += 1
        answer = MetricRecord({"client": context.node_config["partition-id"], "found": found, "calls": calls["n"]})
        kept.append(answer)
        return Message(RecordDict({"metrics": answer}), reply_to=message)

    kept = []
    return app, kept


def grid():
    app, kept = vandal()
    return InProcessGrid(app, CLIENTS), kept


def messages(grid, content=None, nodes=None):
    content = content or RecordDict({"arrays": ArrayRecord([np.array([1.0, 2.0])]), "config": ConfigRecord()})
    nodes = nodes or grid.get_node_ids()
    return content, [Message(content, dst_node_id=node, message_type="train") for node in nodes]


def test_one_client_s_mischief_reaches_nobody_else():
    net, kept = grid()
    content, sent = messages(net)  # as Flower does: one record in all messages
    replies = net.send_and_receive(sent)
    assert [r.content["metrics"]["found"] for r in replies] == [[1.0, 2.0]] * CLIENTS
    assert [r.content["metrics"]["client"] for r in replies] == [0, 1, 2]
    assert content["arrays"].to_numpy_ndarrays()[0].tolist() == [1.0, 2.0] and "touched" not in content["config"]
    kept[0]["found"] = [7.0]  # what a client does to its own copy later is not seen by the server
    assert replies[0].content["metrics"]["found"] == [1.0, 2.0]


def test_replies_name_their_sender_and_each_has_an_id():
    net, _ = grid()
    replies = net.send_and_receive(messages(net)[1])
    assert (
        [r.metadata.src_node_id for r in replies] == net.get_node_ids() == [FIRST_NODE_ID + i for i in range(CLIENTS)]
    )
    assert len({r.metadata.message_id for r in replies}) == CLIENTS
    assert all(r.metadata.reply_to_message_id for r in replies)


def test_a_client_keeps_its_state_between_messages():
    net, _ = grid()
    for expected in (1, 2):
        assert {r.content["metrics"]["calls"] for r in net.send_and_receive(messages(net)[1])} == {expected}


def test_pushed_messages_are_answered_once():
    net, _ = grid()
    ids = list(net.push_messages(messages(net)[1]))
    assert len(set(ids)) == CLIENTS
    first = net.pull_messages(ids[:1])
    assert [r.metadata.reply_to_message_id for r in first] == ids[:1]
    assert [r.metadata.reply_to_message_id for r in net.pull_messages(ids)] == ids[1:]
    assert net.pull_messages(ids) == net.pull_messages(["unknown"]) == []


def test_what_a_client_raises_becomes_an_error_reply():
    net, _ = grid()
    broken = RecordDict({"config": ConfigRecord({"break": True})})
    (reply,) = net.send_and_receive(messages(net, broken, net.get_node_ids()[1:2])[1])
    assert reply.has_error() and not reply.has_content()
    assert "OSError" in reply.error.reason and "no space left" in reply.error.reason
    assert reply.metadata.src_node_id == FIRST_NODE_ID + 1


def test_a_node_that_is_not_there_is_an_error_reply():
    net, _ = grid()
    (reply,) = net.send_and_receive(messages(net, None, [5])[1])
    assert reply.has_error()


def tapped(server, client, clients):
    """The in-process engine with somebody listening: every message the server is handed."""

    class Tap(InProcessGrid):
        def _deliver(self, message):
            reply = super()._deliver(message)
            heard.append((message.metadata.message_type, reply))
            return reply

    heard = []
    server(Tap(client, clients), Context(run_id=1, node_id=0, node_config={}, state=RecordDict(), run_config={}))
    return heard


def test_personal_models_never_travel(tiny, tmp_path, quiet):
    heard = []
    folder = create(tiny, tmp_path)
    federate(tiny, lambda *apps: heard.extend(tapped(*apps)), folder, quiet)
    kinds = [kind for kind, _ in heard]
    assert kinds == ["query"] * 4 + ["train"] * 12 + ["train.personalize"] * 4
    for kind, reply in heard:
        assert bool(reply.content.array_records) == (kind == "train")
        assert not reply.content.config_records
        values = [v for record in reply.content.metric_records.values() for v in record.values()]
        assert all(isinstance(v, int | float) for v in values)  # no list that could carry weights
    assert len(list(folder.models.glob("personal-*.safetensors"))) == 4
