"""A colluder tells once, when it is asked to train in the agreed round, and answers as everybody does."""

import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict

from clients.colluding import Colluding

pytestmark = pytest.mark.usefixtures("task_identity")


def answer(told, client, kind="train", **config):
    mod = Colluding(
        clients=frozenset({2}),
        server_round=1,
        secrets=lambda context: {7: context.state["keys"]["mine"]},
        tell=lambda who, secrets: told.append((who, secrets)),
    )
    state = RecordDict({"keys": ConfigRecord({"mine": b"key"})})
    context = Context(run_id=1, node_id=5, node_config={"partition-id": client}, state=state, run_config={})
    content = RecordDict({"config": ConfigRecord(config)} if config else {})
    return mod(Message(content, dst_node_id=5, message_type=kind), context, lambda *_: "reply")


@pytest.mark.parametrize(
    ("client", "kind", "config", "tells"),
    [
        (2, "train", {"server-round": 1}, True),
        (1, "train", {"server-round": 1}, False),
        (2, "train", {"server-round": 2}, False),
        (2, "train", {}, False),  # Flower's other stages come as train too
        (2, "train.personalize", {"server-round": 1}, False),
        (2, "query", {"server-round": 1}, False),
    ],
)
def test_who_tells_and_when(client, kind, config, tells):
    told = []
    assert answer(told, client, kind, **config) == "reply"
    assert told == ([(2, {7: b"key"})] if tells else [])
