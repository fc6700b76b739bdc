"""What reaches the server: the unusable is left out with its reason, and the sum over the others is exact."""

import io
import math

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict

from server.received import NO_REPLY, receive
from tests.server.conftest import BROADCAST, COUNTS, NODES, answer, arrays, asked, failed, local, reply

pytestmark = pytest.mark.usefixtures("task_identity")
CLIENTS = {node: client for client, node in NODES.items()}
GOOD = arrays(local(1))
SAID = MetricRecord({"num-examples": 30})


def received(replies, sampled=(0, 1, 2, 3)):
    return receive(replies, arrays(BROADCAST), CLIENTS, sampled)


def total(clients):
    """The sum of updates times weights, by hand in float64, in order of client number."""
    return sum((BROADCAST - local(c)).astype(np.float64) * COUNTS[c] for c in clients)


def spoilt(value):
    """Client 1's weights with one of them spoilt."""
    return np.where(np.arange(6) == 4, value, local(1))


def holding(bias):
    """A good answer but for what is in the array `bias`, which declares what it should."""
    array = Array(bias) if isinstance(bias, np.ndarray) else Array("float32", (2,), "numpy.ndarray", bias)
    lying = Array("float32", (2,), "numpy.ndarray", array.data)
    return answer(1, metrics=SAID, arrays=ArrayRecord({"weight": GOOD["weight"], "bias": lying}))


def archive():
    """Bytes that NumPy reads without complaint, as something that is no array."""
    file = io.BytesIO()
    np.savez(file, bias=np.ones(2, np.float32))
    return file.getvalue()


BAD = {
    "error": (lambda: failed(1, "RuntimeError: out of memory"), "RuntimeError: out of memory"),
    "error without words": (lambda: failed(1, ""), "an error without a reason"),
    "NaN": (lambda: reply(1, spoilt(np.nan)), "not finite"),
    "infinity": (lambda: reply(1, spoilt(-np.inf)), "not finite"),
    "more than float32 holds": (lambda: holding(np.array([0, 1e300])), "not finite"),
    "wrong shape": (
        lambda: answer(1, metrics=SAID, arrays=ArrayRecord({"weight": Array(np.ones((4, 1))), "bias": GOOD["bias"]})),
        "its array weight has shape (4, 1), the model's has (2, 2)",
    ),
    "other shape than declared": (lambda: holding(np.ones(1, np.float32)), "do not hold the numbers that they declare"),
    "missing array": (
        lambda: answer(1, metrics=SAID, arrays=ArrayRecord({"weight": GOOD["weight"]})),
        "its array bias has shape None, the model's has (2,)",
    ),
    "extra array": (
        lambda: answer(1, metrics=SAID, arrays=ArrayRecord({**GOOD, "more": GOOD["bias"]})),
        "one that the model has not",
    ),
    "text": (lambda: holding(np.array(["1.5", "2.5"])), "do not hold the numbers"),
    "no bytes": (lambda: holding(b""), "cannot be read as numbers"),
    "bytes of something else": (lambda: holding(b"PK\x03\x04 not an array"), "cannot be read as numbers"),
    "an archive": (lambda: holding(archive()), "do not hold the numbers"),
    "two records of arrays": (lambda: answer(1, metrics=SAID, arrays=GOOD, again=GOOD), "2 records of arrays"),
    "no metrics": (lambda: answer(1, arrays=GOOD), "0 of metrics"),
    "weight zero": (lambda: reply(1, **{"num-examples": 0}), "its weight (num-examples) is 0, not a positive number"),
    "weight negative": (lambda: reply(1, **{"num-examples": -3}), "is -3, not a positive number"),
    "weight NaN": (lambda: reply(1, **{"num-examples": math.nan}), "is nan, not a positive number"),
    "weight infinite": (lambda: reply(1, **{"num-examples": math.inf}), "is inf, not a positive number"),
    "no weight": (lambda: answer(1, metrics=MetricRecord({"loss": 1.0}), arrays=GOOD), "is nan, not a positive"),
    "several weights": (lambda: reply(1, **{"num-examples": [1, 2]}), "is nan, not a positive number"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_used_is_left_out_with_its_reason_and_the_others_sum_is_exact(kind):
    make, why = BAD[kind]
    found = received([reply(3), make(), reply(0), reply(2)])
    assert found.clients == (0, 2, 3) and list(found.dropped) == [1]
    assert why in found.dropped[1]
    assert found.total.tobytes() == total((0, 2, 3)).tobytes() and found.weight == 70
    np.testing.assert_allclose(found.mean, total((0, 2, 3)) / 70, rtol=1e-15)
    assert list(found.updates) == list(found.metrics) == [0, 2, 3]


def test_who_does_not_answer_is_dropped_and_who_was_not_asked_does_not_count():
    stranger = Message(RecordDict(), dst_node_id=4711, message_type="train")
    uninvited = Message(reply(1).content, reply_to=stranger)
    found = received([reply(0), uninvited, reply(1)], sampled=[0, 2])
    assert found.clients == (0,) and found.dropped == {2: NO_REPLY}
    assert found.total.tobytes() == total([0]).tobytes() and found.weight == 10


def test_nobody_left_gives_a_mean_of_zero():
    found = received([failed(c) for c in NODES])
    assert not found.clients and not found.weight and list(found.dropped) == [0, 1, 2, 3]
    np.testing.assert_array_equal(found.mean, np.zeros(6))
    assert received([], sampled=[]).dropped == {}


def test_without_protection_no_update_is_too_small_or_too_large():
    """Plain averaging promises nothing about what one client can do to the mean, and hides nothing either."""
    found = received([reply(0, BROADCAST), reply(1, np.full(6, -3e38)), reply(2)], sampled=[0, 1, 2])
    assert found.clients == (0, 1, 2) and not found.dropped
    np.testing.assert_array_equal(found.updates[0], 0)
    assert np.isfinite(found.total).all() and (found.mean > 1e38).all()


def test_only_numbers_are_metrics():
    said = MetricRecord({"num-examples": 30, "loss": 0.5, "curve": [1.0, 2.0]})
    found = received([answer(1, metrics=said, arrays=GOOD)], sampled=[1])
    assert found.metrics == {1: {"num-examples": 30.0, "loss": 0.5}}


def test_the_last_line_of_a_traceback_is_the_reason():
    far = "<class 'ray.Error'>:<'Traceback (most recent call last):\n  File a.py, line 3\nValueError: no data'>"
    assert received([failed(1, far)], sampled=[1]).dropped == {1: "ValueError: no data"}


def test_replies_keep_the_messages_they_answer():
    """The helper's own replies are addressed as real ones are."""
    assert reply(2).metadata.src_node_id == asked(2).metadata.dst_node_id == NODES[2]
