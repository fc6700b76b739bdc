"""Sampling and averaging: from the seed alone, equal to a sum by hand, to Flower's own, whatever comes first."""

import itertools

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg
from hypothesis import given
from hypothesis import strategies as st

from clients.weights import flatten
from server.strategy import ClientFailedError, FederationConfig, SeededFedAvg, fail_on_errors, sample_clients

NODES = {0: 907, 1: 12, 2: 555, 3: 31}  # client -> node: the two orders differ
COUNTS = {0: 10, 1: 30, 2: 5, 3: 55}


pytestmark = pytest.mark.usefixtures("task_identity")


def arrays(values):
    values = np.asarray(values, dtype=np.float32)
    return ArrayRecord({"weight": Array(values[:4].reshape(2, 2)), "bias": Array(values[4:])})


def local(client):
    """One client's weights: of unlike sizes, so that the order of a float32 sum shows."""
    return (np.random.default_rng(client).normal(size=6) * 10.0 ** (3 * client - 4)).astype(np.float32)


def reply(client):
    message = Message(RecordDict(), dst_node_id=NODES[client], message_type="train")
    metrics = MetricRecord({"num-examples": COUNTS[client], "loss": client / 4})
    return Message(RecordDict({"metrics": metrics, "arrays": arrays(local(client))}), reply_to=message)


def failed(client, reason="ValueError: no"):
    message = Message(RecordDict(), dst_node_id=NODES[client], message_type="train")
    return Message(Error(code=2, reason=reason), reply_to=message)


def strategy(seen=None, participation=1.0):
    plan = FederationConfig(rounds=1, participation=participation)
    made = SeededFedAvg(NODES, plan, seed=3, observe=(seen if seen is not None else []).append)
    messages = list(made.configure_train(1, arrays(np.arange(6)), ConfigRecord(), grid=None))
    return made, messages


@given(st.integers(1, 60), st.floats(0.01, 1), st.integers(0, 2**63 - 1), st.integers(1, 10_000))
def test_a_sample_is_sorted_distinct_and_of_the_right_size(clients, participation, seed, number):
    if clients * participation < 1 - 1e-9:
        with pytest.raises(ValueError, match="an empty round"):
            sample_clients(clients, participation, seed, number)
        return
    sampled = sample_clients(clients, participation, seed, number)
    assert sampled == sorted(set(sampled)) == sample_clients(clients, participation, seed, number)
    assert set(sampled) <= set(range(clients)) and abs(len(sampled) - clients * participation) <= 0.5


def test_everybody_is_sampled_as_often_as_the_share_says():
    counts = np.bincount(list(itertools.chain(*(sample_clients(10, 0.3, 1, r) for r in range(2000)))), minlength=10)
    assert np.abs(counts / 2000 - 0.3).max() < 0.05
    assert sample_clients(3, 1 / 3, 0, 1) and sample_clients(10, 0.3, 1, 1) != sample_clients(10, 0.3, 2, 1)


def test_messages_go_to_the_sampled_clients_with_the_round():
    _, messages = strategy(participation=0.5)
    assert [m.metadata.dst_node_id for m in messages] == [NODES[c] for c in sample_clients(4, 0.5, 3, 1)]
    assert {m.content["config"]["server-round"] for m in messages} == {1}
    assert {m.metadata.message_type for m in messages} == {"train"}


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_the_average_is_the_weighted_mean_whatever_comes_first(order):
    average, metrics = strategy()[0].aggregate_train(1, [reply(c) for c in order])
    by_hand = sum(COUNTS[c] * local(c).astype(np.float64) for c in range(4)) / 100
    np.testing.assert_allclose(flatten(average), by_hand, rtol=1e-5)
    assert flatten(average).tobytes() == flatten(strategy()[0].aggregate_train(1, map(reply, range(4)))[0]).tobytes()
    assert metrics["loss"] == pytest.approx((0 * 10 + 0.25 * 30 + 0.5 * 5 + 0.75 * 55) / 100)


def test_it_is_flower_s_own_average():
    flower, _ = FedAvg().aggregate_train(1, [reply(c) for c in range(4)])
    average, _ = strategy()[0].aggregate_train(1, [reply(c) for c in (2, 0, 3, 1)])
    assert list(average) == list(flower)
    assert flatten(average).tobytes() == flatten(flower).tobytes()


def test_the_observer_sees_what_the_server_holds():
    seen = []
    strategy(seen)[0].aggregate_train(1, [reply(c) for c in (3, 1, 0, 2)])
    (record,) = seen
    assert record.number == 1 and list(record.updates) == list(record.metrics) == [0, 1, 2, 3]
    assert record.weights.tolist() == [0, 1, 2, 3, 4, 5]
    for client, update in record.updates.items():
        np.testing.assert_array_equal(update, np.arange(6, dtype=np.float32) - local(client))
        assert record.metrics[client] == {"num-examples": COUNTS[client], "loss": client / 4}


def test_every_failing_client_is_named_with_its_reason():
    seen = []
    with pytest.raises(ClientFailedError) as error:
        strategy(seen)[0].aggregate_train(1, [reply(0), failed(3, "KeyError: x"), reply(2), failed(1)])
    assert str(error.value) == "client 1 failed: ValueError: no; client 3 failed: KeyError: x"
    assert not seen


def test_of_a_traceback_only_the_last_line_is_told():
    far = "<class 'ray.Error'>:<'Traceback (most recent call last):\n  File a.py, line 3\nValueError: no data'>"
    with pytest.raises(ClientFailedError) as error:
        fail_on_errors({1: failed(1, far), 2: failed(2, "")}, [1, 2])
    assert str(error.value) == "client 1 failed: ValueError: no data; client 2 failed: ?"
    assert "line 3" in "".join(error.value.__notes__)


def test_a_client_that_sends_nothing_is_not_left_out_silently():
    with pytest.raises(ClientFailedError, match=r"^client 2 failed: it sent no reply$"):
        strategy()[0].aggregate_train(1, [reply(c) for c in (0, 1, 3)])


def test_no_failure_no_error():
    fail_on_errors({0: reply(0)}, [0])
