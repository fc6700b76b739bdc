"""Sampling and averaging: from the seed alone, equal to a sum by hand, to Flower's own, whatever comes first."""

import itertools

import numpy as np
import pytest
from flwr.app import ConfigRecord
from flwr.serverapp.strategy import FedAvg
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, chisquare

from clients.privacy import BudgetSpentError
from clients.weights import flatten
from server.aggregation import RoundRefusedError
from server.received import NO_REPLY
from server.strategy import ClientFailedError, FederationConfig, SeededFedAvg, fail_on_errors, sample_clients
from tests.server.conftest import BROADCAST, COUNTS, NODES, arrays, failed, local, reply

pytestmark = pytest.mark.usefixtures("task_identity")


def plan(participation=1.0, sampling="fixed"):
    return FederationConfig(rounds=1, participation=participation, sampling=sampling)


def strategy(seen=None, participation=1.0, sampling="fixed", **options):
    observe = (seen if seen is not None else []).append
    made = SeededFedAvg(NODES, plan(participation, sampling), seed=3, observe=observe, **options)
    messages = list(made.configure_train(1, arrays(BROADCAST), ConfigRecord({"told": 0.25}), grid=None))
    return made, messages


@given(st.integers(1, 60), st.floats(0.01, 1), st.integers(0, 2**63 - 1), st.integers(1, 10_000))
def test_a_sample_is_sorted_distinct_and_of_the_right_size(clients, participation, seed, number):
    if clients * participation < 1 - 1e-9:
        with pytest.raises(ValueError, match="an empty round"):
            sample_clients(clients, plan(participation), seed, number)
        return
    sampled = sample_clients(clients, plan(participation), seed, number)
    assert sampled == sorted(set(sampled)) == sample_clients(clients, plan(participation), seed, number)
    assert set(sampled) <= set(range(clients)) and abs(len(sampled) - clients * participation) <= 0.5


def test_everybody_is_sampled_as_often_as_the_share_says():
    counts = np.bincount(
        list(itertools.chain(*(sample_clients(10, plan(0.3), 1, r) for r in range(2000)))), minlength=10
    )
    assert np.abs(counts / 2000 - 0.3).max() < 0.05
    assert sample_clients(3, plan(1 / 3), 0, 1)
    assert sample_clients(10, plan(0.3), 1, 1) != sample_clients(10, plan(0.3), 2, 1)


def test_poisson_sampling_tosses_a_coin_of_its_own_for_each_client():
    """Right rate, no client's coin says anything about another's, and so the counts are binomial: empty rounds too."""
    clients, rate, rounds = 6, 0.3, 6000
    took = np.zeros((rounds, clients))
    for number in range(rounds):
        took[number, sample_clients(clients, plan(rate, "poisson"), 1, number)] = 1
    assert np.abs(took.mean(0) - rate).max() < 4 * np.sqrt(rate * (1 - rate) / rounds)
    between_clients = np.corrcoef(took.T)[np.triu_indices(clients, 1)]
    between_rounds = [np.corrcoef(took[1:, c], took[:-1, c])[0, 1] for c in range(clients)]
    assert np.abs([*between_clients, *between_rounds]).max() < 4 / np.sqrt(rounds)
    counts = np.bincount(took.sum(1).astype(int), minlength=clients + 1)
    assert chisquare(counts, binom.pmf(range(clients + 1), clients, rate) * rounds).pvalue > 1e-4


@given(st.integers(1, 60), st.floats(0.01, 1), st.integers(0, 2**63 - 1), st.integers(1, 10_000))
def test_a_poisson_sample_follows_from_the_seed_alone(clients, participation, seed, number):
    sampled = sample_clients(clients, plan(participation, "poisson"), seed, number)
    assert sampled == sorted(set(sampled)) == sample_clients(clients, plan(participation, "poisson"), seed, number)
    assert set(sampled) <= set(range(clients))


def test_poisson_samples_differ_by_seed_and_round_and_everybody_comes_at_rate_one():
    half = plan(0.5, "poisson")
    assert len({tuple(sample_clients(40, half, *which)) for which in ((1, 1), (1, 2), (2, 1))}) == 3
    assert sample_clients(40, plan(1.0, "poisson"), 1, 1) == list(range(40))


def test_messages_go_to_the_sampled_clients_with_the_round():
    _, messages = strategy(participation=0.5)
    assert [m.metadata.dst_node_id for m in messages] == [NODES[c] for c in sample_clients(4, plan(0.5), 3, 1)]
    assert {(m.content["config"]["server-round"], m.content["config"]["told"]) for m in messages} == {(1, 0.25)}
    assert {m.metadata.message_type for m in messages} == {"train"}


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_the_average_is_the_weighted_mean_whatever_comes_first(order):
    average, _ = strategy()[0].aggregate_train(1, [reply(c) for c in order])
    by_hand = sum(COUNTS[c] * local(c).astype(np.float64) for c in range(4)) / 100
    np.testing.assert_allclose(flatten(average), by_hand, rtol=1e-5)
    assert flatten(average).tobytes() == flatten(strategy()[0].aggregate_train(1, map(reply, range(4)))[0]).tobytes()


def test_it_is_flower_s_own_average():
    flower, _ = FedAvg().aggregate_train(1, [reply(c) for c in range(4)])
    average, _ = strategy()[0].aggregate_train(1, [reply(c) for c in (2, 0, 3, 1)])
    assert list(average) == list(flower)
    np.testing.assert_allclose(flatten(average), flatten(flower), rtol=1e-6)  # ours takes a step, Flower's replaces


def test_the_observer_sees_what_the_server_holds():
    seen = []
    strategy(seen)[0].aggregate_train(1, [reply(c) for c in (3, 1, 0, 2)])
    (record,) = seen
    assert record.number == 1 and list(record.updates) == list(record.metrics) == [0, 1, 2, 3]
    assert record.weights.tolist() == [0, 1, 2, 3, 4, 5]
    for client, update in record.updates.items():
        np.testing.assert_array_equal(update, np.arange(6, dtype=np.float32) - local(client))
        assert record.metrics[client] == {"num-examples": COUNTS[client], "loss": client / 4}


def test_the_mean_that_is_observed_is_the_step_that_is_taken():
    seen = []
    average, _ = strategy(seen)[0].aggregate_train(1, [reply(c) for c in range(4)])
    (record,) = seen
    by_hand = sum(COUNTS[c] * record.updates[c].astype(np.float64) for c in range(4)) / 100
    np.testing.assert_allclose(record.mean, by_hand, rtol=1e-6)
    np.testing.assert_allclose(flatten(average), BROADCAST - record.mean, rtol=1e-6)
    assert record.clients == (0, 1, 2, 3) and not record.dropped and not record.refused


def test_who_fails_is_left_out_and_the_others_are_averaged():
    seen = []
    average, _ = strategy(seen)[0].aggregate_train(1, [reply(0), failed(3, "KeyError: x"), reply(2)])
    (record,) = seen
    assert record.clients == (0, 2) and list(record.updates) == [0, 2]
    assert record.dropped == {1: NO_REPLY, 3: "KeyError: x"}
    by_hand = (10 * local(0).astype(np.float64) + 5 * local(2)) / 15
    np.testing.assert_allclose(flatten(average), by_hand, atol=1e-5)


def test_if_all_fail_each_is_named_with_its_reason():
    seen = []
    with pytest.raises(ClientFailedError) as error:
        strategy(seen)[0].aggregate_train(1, [failed(0), failed(3, "KeyError: x"), failed(1)])
    assert str(error.value) == (
        "client 0 failed: ValueError: no; client 1 failed: ValueError: no; "
        "client 2 failed: no reply came; client 3 failed: KeyError: x"
    )
    assert not seen


def test_if_all_have_spent_their_budget_that_is_no_failure():
    spent = "BudgetSpentError: one more round than 3 would pass max_epsilon"
    with pytest.raises(BudgetSpentError, match="all 4 clients that were asked have spent their budget"):
        strategy()[0].aggregate_train(1, [failed(c, spent) for c in range(4)])
    with pytest.raises(ClientFailedError, match="client 2 failed: KeyError: x"):
        strategy()[0].aggregate_train(1, [failed(c, "KeyError: x" if c == 2 else spent) for c in range(4)])


def test_what_is_released_is_what_is_taken_off_the_weights():
    asked = []

    def release(number, received):
        asked.append((number, received.clients))
        return np.full(6, 0.5)

    average, _ = strategy(release=release)[0].aggregate_train(1, [reply(c) for c in (1, 0, 3, 2)])
    assert asked == [(1, (0, 1, 2, 3))]
    np.testing.assert_array_equal(flatten(average), BROADCAST - 0.5)


def nobody_sampled(seen, **options):
    made, messages = strategy(seen, participation=1e-9, sampling="poisson", **options)
    assert not messages
    return made


def test_an_empty_round_is_refused_unless_its_noise_is_released():
    seen = []
    with pytest.raises(RoundRefusedError, match="no client was sampled in round 1"):
        nobody_sampled(seen).aggregate_train(1, [])
    assert not seen
    noised, _ = nobody_sampled(seen, release=lambda number, received: np.full(6, 0.5)).aggregate_train(1, [])
    np.testing.assert_array_equal(flatten(noised), BROADCAST - 0.5)
    assert seen[0].clients == () and not seen[0].mean.any()


def test_a_refused_round_is_observed_and_names_who_was_lost():
    seen = []
    lost = {NODES[2]: "stage 2: no reply", NODES[0]: "late"}
    strategy(seen)[0].refuse(1, RoundRefusedError("too few are left", lost))
    (record,) = seen
    assert record.refused == "too few are left"
    assert list(record.dropped.items()) == [(0, "late"), (2, "stage 2: no reply")]
    assert record.clients == () and not record.updates and not record.mean.any()
    np.testing.assert_array_equal(record.weights, BROADCAST)


def test_a_round_refused_because_all_failed_is_an_error():
    lost = {node: f"KeyError: {client}" for client, node in NODES.items()}
    with pytest.raises(ClientFailedError, match="client 0 failed: KeyError: 0; client 1 failed: KeyError: 1"):
        strategy()[0].refuse(1, RoundRefusedError("nobody is left", lost))


@pytest.mark.parametrize(("why", "goes_on"), [("DivergedError: loss nan", True), ("BudgetSpentError: no", False)])
def test_under_central_noise_a_round_in_which_all_failed_passes_as_one_of_zeros(why, goes_on):
    """It has noise like any other; that training ended there would tell users of the model what no noise covers."""
    seen = []
    made, _ = strategy(seen, release=lambda _, received: received.total + 1, hides_failures=True)
    replies = [failed(client, why) for client in NODES]
    if not goes_on:  # that budgets are spent is public
        with pytest.raises(BudgetSpentError):
            made.aggregate_train(1, replies)
        return
    new, _ = made.aggregate_train(1, replies)
    np.testing.assert_array_equal(flatten(new), BROADCAST - 1)
    assert seen[0].clients == () and len(seen[0].dropped) == len(NODES) and not seen[0].refused


def test_of_many_that_failed_a_few_are_named():
    with pytest.raises(ClientFailedError) as error:
        fail_on_errors(dict.fromkeys(range(500), failed(0, "KeyError: x")), range(500))
    assert str(error.value).count("KeyError") == 12
    assert str(error.value).endswith("client 11 failed: KeyError: x; and 488 more clients failed")


def test_of_a_traceback_only_the_last_line_is_told():
    far = "<class 'ray.Error'>:<'Traceback (most recent call last):\n  File a.py, line 3\nValueError: no data'>"
    with pytest.raises(ClientFailedError) as error:
        fail_on_errors({1: failed(1, far), 2: failed(2, "")}, [1, 2])
    assert str(error.value) == "client 1 failed: ValueError: no data; client 2 failed: an error without a reason"
    assert "line 3" in "".join(error.value.__notes__)


def test_who_sends_nothing_when_all_are_needed_is_an_error():
    with pytest.raises(ClientFailedError, match=r"^client 2 failed: no reply came$"):
        fail_on_errors({0: reply(0)}, [0, 2])


def test_no_failure_no_error():
    fail_on_errors({0: reply(0)}, [0])
