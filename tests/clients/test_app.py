"""The ClientApp: what it answers, what stays with it, and that held-out records never reach its training."""

import numpy as np
import pytest
import torch
from flwr.app import ConfigRecord, Context, Message, RecordDict

from clients.app import ClientRecipe, LocalData, client_app
from clients.models import ModelConfig, build_model
from clients.training import TrainingConfig, logits
from clients.weights import flatten, to_arrays, to_vector

pytestmark = pytest.mark.usefixtures("task_identity")
TRAIN, PERSONALIZE = "train", "train.personalize"
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(40, 6)).astype(np.float32), RNG.integers(3, size=40)


def build():
    return build_model(ModelConfig(name="mlp", width=8), (6,), 3, torch.Generator().manual_seed(0))


def honest(client):
    return LocalData((X[:25], Y[:25]), (X[25:], Y[25:]))


def poisoned(client):
    """The same members; held-out records that would ruin every weight they touched."""
    return LocalData((X[:25], Y[:25]), (np.full((9, 6), np.nan, dtype=np.float32), np.full(9, 2)))


def ask(kind, load=honest, client=3, server_round=1, seed=5):
    """One message to a fresh app: the reply, and the personal models it kept."""
    kept = {}

    def keep(number, model):
        kept[number] = to_vector(model)

    app = client_app(
        ClientRecipe(
            seed=seed,
            load=load,
            build=build,
            training=TrainingConfig(epochs=2),
            personalization=TrainingConfig(epochs=4, learning_rate=0.1),
            keep=keep,
        )
    )
    content = RecordDict({"arrays": to_arrays(build()), "config": ConfigRecord({"server-round": server_round})})
    context = Context(run_id=1, node_id=77, node_config={"partition-id": client}, state=RecordDict(), run_config={})
    return app(Message(content, dst_node_id=77, message_type=kind), context), kept


def weights(reply):
    return flatten(reply.content["arrays"])


def test_a_query_tells_the_client_s_number():
    reply, _ = ask("query", client=11)
    assert dict(reply.content["metrics"]) == {"client": 11} and list(reply.content) == ["metrics"]


def test_training_returns_new_weights_and_what_the_broadcast_ones_were_worth():
    reply, kept = ask(TRAIN)
    assert not np.array_equal(weights(reply), to_vector(build())) and not kept
    metrics = dict(reply.content["metrics"])
    held_right = int((logits(build(), X[25:]).argmax(1) == Y[25:]).sum())
    assert metrics.pop("loss") > 0
    assert metrics == {"num-examples": 25, "held-out": 15, "correct": held_right}


def test_the_personal_model_stays():
    reply, kept = ask(PERSONALIZE)
    assert list(kept) == [3] and not np.array_equal(kept[3], to_vector(build()))
    assert list(reply.content) == ["metrics"] and not reply.content.array_records


@pytest.mark.parametrize("kind", [TRAIN, PERSONALIZE])
def test_held_out_records_never_reach_training(kind):
    (reply, kept), (other, others) = ask(kind), ask(kind, load=poisoned)
    assert reply.content["metrics"]["loss"] == other.content["metrics"]["loss"]
    if kind == TRAIN:
        assert weights(reply).tobytes() == weights(other).tobytes()
    else:
        assert kept[3].tobytes() == others[3].tobytes()


def test_seed_round_client_and_kind_each_give_other_draws():
    base = weights(ask(TRAIN)[0])
    assert np.array_equal(weights(ask(TRAIN)[0]), base)
    for change in ({"seed": 6}, {"server_round": 2}, {"client": 4}):
        assert not np.array_equal(weights(ask(TRAIN, **change)[0]), base)
