"""Robust rules: by hand, against Flower's own strategies, and whatever the tampering clients send."""

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import Bulyan, FedMedian, FedTrimmedAvg, Krum, MultiKrum
from flwr.serverapp.strategy.multikrum import compute_distances
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as vectors

from server.aggregation import RoundRefusedError
from server.received import Received
from server.robust import RULES, RobustMean, bulyan, bulyan_choice, krum, median, multi_krum, trimmed_mean
from server.strategy import SeededFedAvg
from tests.server.conftest import BROADCAST, NODES, arrays, local, reply
from tests.server.test_strategy import plan

pytestmark = pytest.mark.usefixtures("task_identity")


def column(*values):
    return np.array(values, np.float64)[:, None]


def received(updates):
    return Received(
        clients=tuple(range(len(updates))),
        total=np.sum(updates, axis=0),
        weight=float(len(updates)),
        dropped={},
        updates={number: update.astype(np.float32) for number, update in enumerate(updates)},
    )


def test_rules_by_hand():
    """Six honest values around 3, one far off; f = 1."""
    updates = column(1, 2, 3, 4, 5, 6, 100)
    assert median(updates) == 4
    assert trimmed_mean(updates, 1) == (2 + 3 + 4 + 5 + 6) / 5
    # Krum with n - f - 2 = 4 neighbours: sums of squares 30, 15 (1, 3, 4, 5), 10 (1, 2, 4, 5), 10, 15, 30, ...
    assert krum(updates, 1) == 3
    assert multi_krum(updates, 1) == 3.5
    # Bulyan chooses 5 of 7 (3, then 4 of those left, ...), and of these the 3 values nearest to their median.
    assert bulyan(updates, 1) == pytest.approx(np.mean(np.sort(updates[bulyan_choice(updates, 1)], axis=0)[1:4]))


def test_bulyan_chooses_one_after_the_other_by_hand():
    """Among 0, 1, 2, 3, 10, 11, 12 with f = 1: Krum's 4 neighbours at first, one fewer with each choice."""
    updates = column(0, 1, 2, 3, 10, 11, 12)
    expected, left = [], list(range(7))
    while len(expected) < 5:
        near = max(1, len(left) - 3)
        sums = [sum(sorted((updates[i, 0] - updates[j, 0]) ** 2 for j in left if j != i)[:near]) for i in left]
        expected.append(left.pop(int(np.argmin(sums))))
    assert bulyan_choice(updates, 1) == expected


def flowers(strategy, updates):
    """What one of Flower's strategies makes of these vectors, all clients with the same weight."""
    replies = []
    for number, update in enumerate(updates):
        content = RecordDict(
            {
                "arrays": ArrayRecord({"all": Array(update.copy())}),
                "metrics": MetricRecord({"num-examples": 5, "loss": 0.5}),
            }
        )
        asked = Message(RecordDict({"config": ConfigRecord({})}), dst_node_id=number + 1, message_type="train")
        replies.append(Message(content, reply_to=asked))
    combined, _ = strategy.aggregate_train(1, replies)
    return combined["all"].numpy()


@pytest.mark.parametrize("clients, allowed", [(7, 1), (11, 2), (12, 2), (15, 3)])
def test_parity_with_flower(clients, allowed):
    updates = np.random.default_rng(clients).normal(size=(clients, 40))
    updates[-allowed:] += 5
    for mine, other in (
        (median(updates), FedMedian()),
        (trimmed_mean(updates, allowed), FedTrimmedAvg(beta=(allowed + 0.5) / clients)),
        (krum(updates, allowed), Krum(num_malicious_nodes=allowed)),
        (
            multi_krum(updates, allowed),
            MultiKrum(num_malicious_nodes=allowed, num_nodes_to_select=clients - allowed),
        ),
        (
            bulyan(updates, allowed),
            Bulyan(
                num_malicious_nodes=allowed,
                selection_rule=lambda contents, f, _: [contents[i] for i in bulyan_choice(updates, f)],
            ),
        ),
    ):
        np.testing.assert_allclose(mine, flowers(other, updates), rtol=1e-6, atol=1e-12)


def test_like_models_are_told_apart_where_flower_s_distances_are_noise():
    """Weights in the tens that differ by thousandths: Flower's float32 formula even gives negative distances."""
    start = np.random.default_rng(0).normal(0, 30, 5000)
    updates = np.random.default_rng(1).normal(0, 1e-3, (9, 5000))
    updates[-1] += 3e-3  # the one that tampers
    whole = [ArrayRecord({"all": Array((start - update).astype(np.float32))}) for update in updates]
    assert compute_distances(whole).min() < 0
    order = np.argsort([np.square(updates - update).sum() for update in updates])
    assert order[-1] == 8 and not (krum(updates, 1) == updates[8]).all()
    assert not (multi_krum(updates, 1) == updates.mean(axis=0)).all()


@given(st.data(), st.integers(1, 3), st.integers(0, 6))
def test_within_the_honest_range_whatever_tampering_clients_send(data, allowed, more):
    """Coordinate by coordinate, while no more than f tamper."""
    honest = data.draw(vectors(np.float64, (allowed + 1 + more, 3), elements=st.floats(-5, 5)))
    wild = data.draw(vectors(np.float64, (allowed, 3), elements=st.floats(-1e12, 1e12)))
    updates = data.draw(st.permutations([*honest, *wild]).map(np.array))
    for step in (median(updates), trimmed_mean(updates, allowed)):
        assert (step >= honest.min(axis=0) - 1e-9).all() and (step <= honest.max(axis=0) + 1e-9).all()


@given(st.integers(1, 3), st.integers(0, 4), st.integers(0, 999))
def test_krum_gives_an_honest_update_when_the_others_are_far_off(allowed, more, seed):
    rng = np.random.default_rng(seed)
    honest = rng.normal(size=(allowed + 3 + more, 5))
    wild = rng.normal(size=(allowed, 5)) + 1e3 * (1 + np.arange(allowed))[:, None]
    updates = np.concatenate([wild, honest])
    assert (krum(updates, allowed) == honest).all(axis=1).any()
    np.testing.assert_allclose(multi_krum(updates, allowed), honest.mean(axis=0))


@given(st.integers(1, 2), st.integers(0, 3), st.integers(0, 999))
def test_bulyan_stays_within_the_honest_range(allowed, more, seed):
    """Tampering clients all send the same, far off: Krum, with few neighbours left to count, then prefers them."""
    rng = np.random.default_rng(seed)
    honest = rng.normal(size=(3 * allowed + 3 + more, 5))
    wild = np.tile(rng.choice([-1e3, 1e3], 5), (allowed, 1))
    step = bulyan(np.concatenate([wild, honest]), allowed)
    assert (step >= honest.min(axis=0) - 1e-9).all() and (step <= honest.max(axis=0) + 1e-9).all()


@given(st.permutations(range(11)), st.integers(0, 99))
def test_the_order_of_the_clients_does_not_matter(order, seed):
    """But for Bulyan, whose last choices are between two that are each other's nearest, and so equally good."""
    updates = np.random.default_rng(seed).normal(size=(11, 4))
    for rule in RULES.keys() - {"bulyan"}:
        combine = RULES[rule].combine
        np.testing.assert_allclose(combine(updates[list(order)], 2), combine(updates, 2), atol=1e-12)


@pytest.mark.parametrize("rule, needed", [("median", 5), ("trimmed-mean", 5), ("krum", 7), ("bulyan", 11)])
def test_a_round_with_too_few_updates_is_refused(rule, needed):
    updates = np.ones((needed - 1, 3))
    with pytest.raises(RoundRefusedError, match=f"{needed - 1} updates came in round 4, and {rule} needs {needed} to "):
        RobustMean(rule, 2)(4, received(updates))
    np.testing.assert_allclose(RobustMean(rule, 2)(4, received(np.ones((needed, 3)))), 1)


def test_the_strategy_takes_the_rule_s_step_and_no_client_s_word_for_its_weight():
    seen = []
    strategy = SeededFedAvg(NODES, plan(), seed=3, observe=seen.append, release=RobustMean("median", 1))
    strategy.configure_train(1, arrays(BROADCAST), ConfigRecord({}), grid=None)
    replies = [reply(client, **({"num-examples": 10**9} if client == 0 else {})) for client in NODES]
    new, _ = strategy.aggregate_train(1, replies)
    expected = np.median([local(client) for client in NODES], axis=0)
    got = np.concatenate([array.numpy().ravel() for array in new.values()])
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-4)
    assert set(seen[0].updates) == set(NODES)
