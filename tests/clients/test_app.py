"""The ClientApp: what it answers, what stays with it, and how many rounds it lets itself train."""

import numpy as np
import pytest
import torch
from flwr.app import ConfigRecord, Context, Message, RecordDict

from clients.app import ClientRecipe, RecordNoise, client_app
from clients.messages import AnsweredRoundError, RefusedMessageError, TrainingFailedError
from clients.models import ModelConfig, build_model
from clients.privacy import BudgetSpentError, RecordPrivacyConfig
from clients.randomness import generator
from clients.training import DivergedError, TrainingConfig, train
from clients.update import UpdatePrivacy
from clients.weights import flatten, to_arrays, to_vector

pytestmark = pytest.mark.usefixtures("task_identity")
TRAIN, PERSONALIZE = "train", "train.personalize"
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(25, 6)).astype(np.float32), RNG.integers(3, size=25)
DP_SGD = RecordNoise(RecordPrivacyConfig(noise_multiplier=1.0, sampling_rate=0.5), 1.0)


def build():
    return build_model(ModelConfig(name="mlp", width=8), (6,), 3, torch.Generator().manual_seed(0))


def members(client):
    return X, Y


class Device:
    """One client with its app and its state, which answers one message after another."""

    def __init__(self, client=3, seed=5, load=members, **recipe):
        self.kept = {}
        self.recipe = ClientRecipe(
            seed=seed,
            load=load,
            build=build,
            training=TrainingConfig(epochs=2),
            personalization=TrainingConfig(epochs=4, learning_rate=0.1),
            keep=lambda number, _, model: self.kept.__setitem__(number, to_vector(model)),
            **recipe,
        )
        self.app = client_app(self.recipe)
        self.context = Context(
            run_id=1, node_id=77, node_config={"partition-id": client}, state=RecordDict(), run_config={}
        )

    def ask(self, kind, server_round=1):
        content = RecordDict({"arrays": to_arrays(build()), "config": ConfigRecord({"server-round": server_round})})
        return self.app(Message(content, dst_node_id=77, message_type=kind), self.context)

    def rounds(self, number=1):
        """What it says at the end."""
        return self.ask(PERSONALIZE, number).content["metrics"]["rounds"]


def weights(reply):
    return flatten(reply.content["arrays"])


def test_a_query_tells_the_client_s_number():
    reply = Device(client=11).ask("query")
    assert dict(reply.content["metrics"]) == {"client": 11} and list(reply.content) == ["metrics"]


def test_training_returns_new_weights_its_loss_and_its_number_of_records_and_nothing_else():
    device = Device()
    reply, model = device.ask(TRAIN), build()
    loss = train(model, X, Y, device.recipe.training, generator(5, TRAIN, 1, 3))
    assert np.array_equal(weights(reply), to_vector(model)) and not device.kept
    assert sorted(reply.content) == ["arrays", "metrics"]
    assert dict(reply.content["metrics"]) == {"num-examples": 25, "loss": loss}


def test_the_personal_model_stays():
    device = Device()
    reply = device.ask(PERSONALIZE)
    assert list(device.kept) == [3] and not np.array_equal(device.kept[3], to_vector(build()))
    assert dict(reply.content["metrics"]) == {"rounds": 0} and list(reply.content) == ["metrics"]


def test_seed_round_client_and_kind_each_give_other_draws():
    base = weights(Device().ask(TRAIN))
    assert np.array_equal(weights(Device().ask(TRAIN)), base)
    for other in (Device(seed=6).ask(TRAIN), Device().ask(TRAIN, server_round=2), Device(client=4).ask(TRAIN)):
        assert not np.array_equal(weights(other), base)


def test_under_dp_sgd_a_client_says_nothing_that_is_private():
    """Not its loss, and not how many records it has: with other records only the weights differ."""
    device = Device(noise=DP_SGD)
    fewer = Device(noise=DP_SGD, load=lambda client: (X[:7], Y[:7]))
    for reply in (device.ask(TRAIN), fewer.ask(TRAIN)):
        assert sorted(reply.content) == ["arrays", "metrics"]
        assert dict(reply.content["metrics"]) == {"num-examples": 1}
    assert dict(device.ask(PERSONALIZE).content["metrics"]) == {"rounds": 1}


def test_the_personal_model_is_trained_with_dp_sgd_too():
    """Noise of ten thousand times the clipping norm shows in it."""
    loud = RecordNoise(DP_SGD.config, 1e4)
    plain, noised = Device(), Device(noise=loud)
    for device in (plain, noised):
        device.ask(PERSONALIZE)
    assert np.linalg.norm(noised.kept[3]) > 100 * np.linalg.norm(plain.kept[3])


def test_rounds_are_counted_in_the_client_s_own_state():
    device = Device()
    for number in (1, 2, 5):
        device.ask(TRAIN, number)
    assert device.context.state["privacy"]["rounds"] == 3 and device.rounds() == 3
    device.ask("query")
    assert device.rounds(2) == 3  # neither questions nor personalising are rounds


@pytest.mark.parametrize("again", [4, 3, 0, -1])
@pytest.mark.parametrize("kind", [TRAIN, "train.default", PERSONALIZE])
def test_a_round_is_answered_once_and_no_older_one(kind, again):
    """The noise follows from the round: of two answers with the same noise the difference has none."""
    loaded = []
    device = Device(load=lambda client: loaded.append(client) or (X, Y))
    device.ask(kind, 4)
    with pytest.raises(AnsweredRoundError, match=f"round {again} for .*: this client has answered round 4"):
        device.ask(kind, again)
    with pytest.raises(AnsweredRoundError):
        device.ask(TRAIN if kind == "train.default" else kind, again)
    assert loaded == [3]
    device.ask(kind, 5)


@pytest.mark.parametrize("number", [None, "1", True, 1.5])
def test_a_round_must_have_a_number(number):
    config = ConfigRecord({} if number is None else {"server-round": number})
    content = RecordDict({"arrays": to_arrays(build()), "config": config})
    for contents in (content, RecordDict({"arrays": to_arrays(build())})):
        device = Device()
        with pytest.raises(RefusedMessageError, match="without an integer config"):
            device.app(Message(contents, dst_node_id=77, message_type=TRAIN), device.context)


def test_both_of_flower_s_names_for_training_draw_the_same():
    assert np.array_equal(weights(Device().ask("train.default")), weights(Device().ask(TRAIN)))


@pytest.mark.parametrize("kind", [TRAIN, PERSONALIZE])
def test_what_training_raises_under_dp_sgd_stays_on_the_client(kind):
    def load(client):
        raise ValueError("person 17, loss 0.73")

    with pytest.raises(TrainingFailedError) as failed:
        Device(noise=DP_SGD, load=load).ask(kind)
    assert str(failed.value) == "training failed on this client: ValueError; what it says stays on the client"
    assert failed.value.__cause__ is None and failed.value.__context__ is None
    with pytest.raises(ValueError, match="person 17"):
        Device(load=load).ask(kind)


def test_training_that_fails_was_a_round_too():
    """Its records were used, and that it failed can be seen: nothing that a server sends gets a round for free."""
    device = Device(load=lambda client: (X * np.nan, Y), rounds_allowed=1)
    with pytest.raises(Exception, match="diverged"):
        device.ask(TRAIN)
    with pytest.raises(AnsweredRoundError):
        device.ask(TRAIN)
    with pytest.raises(BudgetSpentError):
        device.ask(TRAIN, 2)


def test_a_client_declines_the_round_that_its_budget_has_no_room_for():
    loaded = []
    device = Device(rounds_allowed=2, load=lambda client: loaded.append(client) or (X, Y))
    device.ask(TRAIN, 1), device.ask(TRAIN, 2)
    with pytest.raises(BudgetSpentError, match="one more round than 2 would pass max_epsilon"):
        device.ask(TRAIN, 3)
    assert loaded == [3, 3]  # it declines before it looks at a record
    assert device.rounds() == 2 and list(device.kept) == [3]  # and may still personalise
    with pytest.raises(BudgetSpentError):
        Device(rounds_allowed=0).ask(TRAIN)


def test_mods_lie_around_training_the_first_outermost():
    seen = []

    def note(name):
        def mod(message, context, call_next):
            seen.append(name)
            reply = call_next(message, context)
            seen.append((name, dict(reply.content["metrics"])))
            return reply

        return mod

    inner = UpdatePrivacy(seed=1, clipping_norm=0.01)
    reply = Device(mods=(note("outside"), inner, note("inside"))).ask(TRAIN)
    assert seen[:2] == ["outside", "inside"] and seen[2][0] == "inside" and seen[2][1]["num-examples"] == 25
    assert seen[3] == ("outside", {"num-examples": 1})
    assert 0.009 < np.linalg.norm(to_vector(build()) - weights(reply)) <= 0.01


def test_what_is_registered_is_answered():
    def register(app):
        @app.train("keys")
        def keys(message, context):
            return Message(RecordDict(), reply_to=message)

    assert Device(register=register).ask("train.keys").metadata.message_type == "train.keys"


def test_personalising_that_fails_keeps_the_global_model_where_nobody_may_learn_of_it():
    def odd(client):
        return X * np.float32(1e38), Y

    def broken(client):
        raise ValueError("person 17, loss 0.73")

    with pytest.raises(DivergedError):
        Device(load=odd).ask(PERSONALIZE)
    for load, noise in ((odd, None), (broken, None), (broken, DP_SGD)):
        device = Device(load=load, noise=noise, tells_failures=False)
        assert dict(device.ask(PERSONALIZE).content["metrics"]) == {"rounds": 0}
        assert np.array_equal(device.kept[3], to_vector(build()))


def test_noise_from_the_operating_system_is_never_drawn_again():
    seeded, system = DP_SGD, RecordNoise(DP_SGD.config, 1.0, system=True)
    assert np.array_equal(weights(Device(noise=seeded).ask(TRAIN)), weights(Device(noise=seeded).ask(TRAIN)))
    first, again = (weights(Device(noise=system).ask(TRAIN)) for _ in range(2))
    assert not np.isclose(first, again, atol=1e-9).any()
