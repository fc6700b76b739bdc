"""What leaves a client under client-level privacy: no longer than the norm, noised where asked, and nothing else."""

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as vectors
from scipy.stats import kstest

from clients.messages import AnsweredRoundError, RefusedMessageError
from clients.privacy import BudgetSpentError
from clients.update import SLACK, UpdatePrivacy, clip
from clients.weights import flatten

pytestmark = pytest.mark.usefixtures("task_identity")
SIZE = 6
START = np.linspace(-1, 1, SIZE, dtype=np.float32)
MANY = 40_000


def model(values):
    values = np.asarray(values, np.float32)
    return ArrayRecord({"weight": Array(values[:4].reshape(2, 2)), "bias": Array(values[4:])})


def sent(update, privacy, *, kind="train", start=START, number=1, client=0, norm=9.0):
    """Broadcast and reply, where training moved the weights by `update` and reports more than it should."""
    settings = ConfigRecord({"server-round": number, "clipping-norm": norm})
    message = Message(RecordDict({"arrays": model(start), "config": settings}), dst_node_id=7, message_type=kind)
    context = Context(run_id=1, node_id=7, node_config={"partition-id": client}, state=RecordDict(), run_config={})
    trained = RecordDict(
        {
            "arrays": model(start - update),
            "metrics": MetricRecord({"num-examples": 25, "loss": 0.7}),
            "more": ConfigRecord({"about": "my records"}),
        }
    )
    return message, privacy(message, context, lambda asked, _: Message(trained, reply_to=asked))


def left(update, privacy, **where):
    """The update as the server works it out."""
    message, reply = sent(update, privacy, **where)
    return flatten(message.content["arrays"]).astype(np.float64) - flatten(reply.content["arrays"])


def noise(seed=1, number=1, client=0, multiplier=1.5, update=None):
    """What is added to the update of a large model."""
    privacy = UpdatePrivacy(seed=seed, clipping_norm=2.0, noise_multiplier=multiplier)
    moved = np.zeros(MANY) if update is None else update
    return left(moved, privacy, start=np.zeros(MANY, np.float32), number=number, client=client) - moved


finite = st.floats(-1e30, 1e30)


@given(vectors(np.float64, SIZE, elements=finite), st.floats(0.01, 100))
def test_a_clipped_vector_points_as_before_and_is_never_longer(update, norm):
    clipped = clip(update, norm)
    assert np.linalg.norm(clipped) <= norm * (1 + 1e-12)
    np.testing.assert_allclose(clipped * max(1, np.linalg.norm(update) / norm), update, rtol=1e-9, atol=1e-280)


@settings(deadline=None)
@given(vectors(np.float64, SIZE, elements=finite), st.floats(0.1, 100))
def test_what_leaves_is_no_longer_than_the_norm_rounding_and_all(update, norm):
    found = left(update, UpdatePrivacy(seed=1, clipping_norm=norm))
    assert np.linalg.norm(found) <= norm
    moved = START.astype(np.float64) - (START - update).astype(np.float32)  # what training really returned, in float32
    np.testing.assert_allclose(found, clip(moved, norm * (1 - SLACK)), atol=1e-6 * max(1, norm))


def test_clipping_by_hand():
    long, short = np.array([3.0, 0, 0, 4, 0, 0]), np.array([0.3, 0, 0, 0.4, 0, 0])
    privacy = UpdatePrivacy(seed=1, clipping_norm=2.0)
    np.testing.assert_allclose(left(long, privacy), [1.2, 0, 0, 1.6, 0, 0], rtol=2 * SLACK, atol=1e-6)
    np.testing.assert_allclose(left(short, privacy), short, atol=1e-6)
    np.testing.assert_array_equal(left(np.zeros(SIZE), privacy), 0)


@pytest.mark.parametrize("adaptive", [False, True])
def test_nothing_but_the_update_leaves(adaptive):
    """Neither its number of records nor its loss, nor whatever else training put into its reply."""
    _, reply = sent(np.ones(SIZE), UpdatePrivacy(seed=1, clipping_norm=1.0, adaptive=adaptive))
    assert sorted(reply.content) == ["arrays", "metrics"]
    assert {name: array.shape for name, array in reply.content["arrays"].items()} == {"weight": (2, 2), "bias": (2,)}
    assert dict(reply.content["metrics"]) == {"num-examples": 1} | ({"within": 1.0} if adaptive else {})


def test_the_adaptive_norm_is_the_server_s_and_one_bit_says_whether_it_sufficed():
    privacy, update = UpdatePrivacy(seed=1, clipping_norm=1.0, adaptive=True), np.array([3.0, 0, 0, 4, 0, 0])
    zeros = np.zeros(SIZE, np.float32)  # so that the update is exact
    for norm, bit in ((4.999, 0.0), (5.0, 1.0), (5.001, 1.0), (2.5, 0.0)):
        _, reply = sent(update, privacy, start=zeros, norm=norm)
        assert reply.content["metrics"]["within"] == bit
    np.testing.assert_allclose(left(update, privacy, start=zeros, norm=2.5), update / 2, rtol=2 * SLACK)


def test_local_noise_has_the_standard_deviation_it_should():
    """Noise multiplier 1.5, norm 2: standard deviation 3 on every weight, whatever the update."""
    assert kstest(noise() / 3, "norm").pvalue > 1e-3
    assert noise().std() == pytest.approx(3, rel=4 / np.sqrt(2 * MANY))
    assert not noise(multiplier=0.0).any()
    far = np.full(MANY, 1e6)
    left_over = noise(update=far) + far - clip(far, 2 * (1 - SLACK))
    assert left_over.std() == pytest.approx(3, rel=4 / np.sqrt(2 * MANY))
    assert abs(left_over.mean()) < 4 * 3 / np.sqrt(MANY)


def test_noise_follows_from_seed_round_and_client_and_is_independent_between_them():
    base = noise()
    assert np.array_equal(noise(), base)
    others = [noise(seed=2), noise(number=2), noise(client=1), noise(client=2)]
    between = np.corrcoef([base, *others])[np.triu_indices(5, 1)]
    assert np.abs(between).max() < 4 / np.sqrt(MANY)


def test_flower_s_other_name_for_training_is_protected_as_well():
    privacy = UpdatePrivacy(seed=1, clipping_norm=0.5, noise_multiplier=2.0)
    one, other = (sent(np.ones(SIZE), privacy, kind=kind)[1] for kind in ("train", "train.default"))
    assert one.content["metrics"] == other.content["metrics"]
    np.testing.assert_array_equal(flatten(one.content["arrays"]), flatten(other.content["arrays"]))


@pytest.mark.parametrize("norm", [6e-5, 1e-3, 0.4])
def test_rounding_to_float32_makes_no_clipped_update_longer_than_the_norm(norm):
    """To the nearest float32 beside weights near 1, updates arrived at up to 1.79 times a norm of 6e-5."""
    rng = np.random.default_rng(5)
    start, update = rng.normal(0, 1, MANY).astype(np.float32), rng.normal(0, 1, MANY)
    found = left(update, UpdatePrivacy(seed=1, clipping_norm=norm), start=start)
    assert np.linalg.norm(found) <= norm * (1 - SLACK) * (1 + 1e-12)
    assert found @ update >= 0
    if norm > 1e-2:  # and keeps what it says, where the norm is not below what float32 can hold
        assert np.linalg.norm(found) > 0.99 * norm


@pytest.mark.parametrize("kind", ["query", "train.personalize"])
def test_no_update_leaves_with_another_message(kind):
    privacy = UpdatePrivacy(seed=1, clipping_norm=0.1, noise_multiplier=9.0)
    with pytest.raises(RefusedMessageError, match=f"reply to '{kind}' holds more than single numbers"):
        sent(np.ones(SIZE), privacy, kind=kind)


def test_the_same_round_is_not_noised_twice():
    privacy, context = UpdatePrivacy(seed=1, clipping_norm=0.1, noise_multiplier=9.0), state()
    for number in (2, 3):
        content = RecordDict({"arrays": model(START), "config": ConfigRecord({"server-round": number})})
        reply = RecordDict({"arrays": model(START), "metrics": MetricRecord({"num-examples": 1})})
        message = Message(content, dst_node_id=7, message_type="train")
        privacy(message, context, lambda asked, _, reply=reply: Message(reply, reply_to=asked))
        for old in (number, 1):
            content["config"]["server-round"] = old
            again = Message(content, dst_node_id=7, message_type="train.default")
            with pytest.raises(AnsweredRoundError):
                privacy(again, context, None)


def asked(kind="train"):
    content = RecordDict({"arrays": model(START), "config": ConfigRecord({"server-round": 1})})
    return Message(content, dst_node_id=7, message_type=kind)


def test_of_an_error_in_personalising_only_that_there_was_one_leaves():
    message = asked("train.personalize")
    error = Message(Error(code=2, reason="loss 0.73"), reply_to=message)
    reply = UpdatePrivacy(seed=1, clipping_norm=1.0)(message, state(), lambda *_: error)
    assert (reply.error.code, reply.error.reason) == (2, "training failed on this client")


def _raises(message, _):
    raise RuntimeError("loss 0.73")


def _errs(message, _):
    return Message(Error(code=2, reason="loss 0.73"), reply_to=message)


def _overflows(message, _):
    arrays = model(np.full(SIZE, np.inf))
    content = RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": 25})})
    return Message(content, reply_to=message)


def _misfits(message, _):
    content = RecordDict({"arrays": ArrayRecord([np.ones(1)]), "metrics": MetricRecord({"num-examples": 25})})
    return Message(content, reply_to=message)


def _stays(message, _):
    content = RecordDict({"arrays": model(START), "metrics": MetricRecord({"num-examples": 25})})
    return Message(content, reply_to=message)


@pytest.mark.parametrize("multiplier", [0.0, 3.0])
@pytest.mark.parametrize("failing", [_raises, _errs, _overflows, _misfits])
def test_training_that_fails_leaves_as_an_update_of_zero_does(failing, multiplier):
    """That it failed would be a release that no noise covers: replaced records may make training diverge."""
    privacy = UpdatePrivacy(seed=1, clipping_norm=1.0, noise_multiplier=multiplier)
    failed, still = (privacy(asked(), state(), call) for call in (failing, _stays))
    assert np.array_equal(flatten(failed.content["arrays"]), flatten(still.content["arrays"]))
    assert dict(failed.content["metrics"]) == dict(still.content["metrics"])


def test_a_client_whose_budget_is_spent_says_so():
    """How many rounds it took part in depends on no record."""

    def declines(*_):
        raise BudgetSpentError("one more round")

    with pytest.raises(BudgetSpentError):
        UpdatePrivacy(seed=1, clipping_norm=1.0)(asked(), state(), declines)


def state():
    return Context(run_id=1, node_id=7, node_config={"partition-id": 0}, state=RecordDict(), run_config={})
