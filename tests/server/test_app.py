"""The ServerApp against real ClientApps in one process: it waits, averages, goes on without who fails, personalises."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from flwr.serverapp import Grid

from clients.app import ClientRecipe, client_app
from clients.models import ModelConfig, build_model
from clients.randomness import generator
from clients.training import TrainingConfig, train
from clients.weights import flatten, to_arrays, to_vector
from server.aggregation import RoundRefusedError
from server.app import ClientsMissingError, ServerRecipe, find_clients, server_app
from server.strategy import ClientFailedError, FederationConfig
from sim.engines.inprocess import FIRST_NODE_ID, InProcessGrid, run

pytestmark = pytest.mark.usefixtures("task_identity")
CLIENTS = 3
DATA = [np.random.default_rng(c).normal(size=(8 + 4 * c, 5)).astype(np.float32) for c in range(CLIENTS)]


def build():
    return build_model(ModelConfig(name="mlp", width=4), (5,), 2, torch.Generator().manual_seed(0))


def load(client):
    x = DATA[client]
    return x, (x[:, 0] > 0).astype(np.int64)


def counts(*clients):
    return np.array([len(DATA[c]) for c in clients], dtype=np.float64)


def recipes(rounds=2, participation=1.0, sampling="fixed", load=load, rounds_of_a_client=None, **server):
    """A server's and a client's recipe, and what comes out: personal models, rounds, the end, why it ended early."""
    kept, seen, finished, stopped = {}, [], [], []
    client = ClientRecipe(
        seed=1,
        load=load,
        build=build,
        training=TrainingConfig(),
        personalization=TrainingConfig(epochs=2),
        keep=lambda number, _, model: kept.__setitem__(number, to_vector(model)),
        rounds_allowed=rounds_of_a_client,
    )
    server = ServerRecipe(
        seed=1,
        clients=CLIENTS,
        participants=CLIENTS,
        plan=FederationConfig(rounds=rounds, participation=participation, sampling=sampling),
        initial=to_arrays(build()),
        observe=seen.append,
        finish=lambda *what: finished.append(what),
        stopped=stopped.append,
        patience=0.1,
        **server,
    )
    return server, client, Out(kept, seen, finished, stopped)


@dataclass
class Out:
    kept: dict
    seen: list
    finished: list
    stopped: list

    @property
    def final(self):
        return flatten(self.finished[0][0])

    @property
    def reports(self):
        return self.finished[0][1]


def go(**settings):
    server, client, out = recipes(**settings)
    run(server_app(server), client_app(client), CLIENTS)
    return out


def failing(when):
    """Data that cannot be read whenever `when(client, how often this client has read before)`."""
    calls = Counter()

    def broken(client):
        calls[client] += 1
        if when(client, calls[client]):
            raise OSError("its disk is full")
        return load(client)

    return broken


def test_rounds_follow_from_one_another():
    out = go(rounds=3)
    assert [record.number for record in out.seen] == [1, 2, 3] and not out.stopped
    assert np.array_equal(out.seen[0].weights, to_vector(build()))
    for record, after in zip(out.seen, [out.seen[1].weights, out.seen[2].weights, out.final], strict=True):
        step = np.average([record.updates[c] for c in range(CLIENTS)], axis=0, weights=counts(0, 1, 2))
        np.testing.assert_allclose(after, record.weights - step, atol=1e-6)
        assert record.clients == (0, 1, 2) and not record.dropped
    assert out.reports == {c: {"rounds": 3.0} for c in range(CLIENTS)} and sorted(out.kept) == [0, 1, 2]
    assert all(not np.array_equal(vector, out.final) for vector in out.kept.values())


def test_a_client_s_update_is_its_own_training():
    """Round 1 of client 2, done again by hand with the generator its purpose gives."""
    out, model = go(rounds=1), build()
    train(model, *load(2), TrainingConfig(), generator(1, "train", 1, 2))
    assert np.array_equal(out.seen[0].updates[2], to_vector(build()) - to_vector(model))


def test_only_the_sampled_take_part_and_everyone_personalises():
    out = go(rounds=4, participation=0.34)
    assert [len(record.updates) for record in out.seen] == [1, 1, 1, 1] and sorted(out.kept) == [0, 1, 2]
    took = [c for record in out.seen for c in record.clients]
    assert out.reports == {c: {"rounds": float(took.count(c))} for c in range(CLIENTS)}


def test_a_client_that_errs_in_one_round_is_left_out_and_the_round_goes_on():
    """Client 1 fails in round 2 of 3: the mean is the others', and in round 3 it is back."""
    out = go(rounds=3, load=failing(lambda client, calls: client == 1 and calls == 2))
    one, two, three = out.seen
    assert (one.clients, two.clients, three.clients) == ((0, 1, 2), (0, 2), (0, 1, 2))
    assert list(two.dropped) == [1] and "OSError" in two.dropped[1] and "its disk is full" in two.dropped[1]
    assert not two.refused and sorted(two.updates) == sorted(two.metrics) == [0, 2]
    by_hand = np.average([two.updates[0], two.updates[2]], axis=0, weights=counts(0, 2))
    np.testing.assert_allclose(three.weights, two.weights - by_hand, atol=1e-6)
    np.testing.assert_allclose(two.mean, by_hand, atol=1e-7)
    assert sorted(out.kept) == [0, 1, 2]


def test_if_all_fail_the_run_does():
    server, client, out = recipes(load=failing(lambda client, calls: calls == 2))
    with pytest.raises(ClientFailedError, match=r"client 0 failed: .*disk is full.*; client 1 failed: .*; client 2"):
        run(server_app(server), client_app(client), CLIENTS)
    assert len(out.seen) == 1 and not out.finished and not out.stopped


def test_a_client_that_cannot_personalise_is_named_with_its_reason():
    server, client, out = recipes(load=failing(lambda client, calls: client == 1 and calls == 3))
    with pytest.raises(ClientFailedError, match=r"^client 1 failed: .*OSError.* its disk is full"):
        run(server_app(server), client_app(client), CLIENTS)
    assert len(out.seen) == 2 and not out.finished


def test_if_all_clients_decline_training_stops_and_everyone_personalises():
    """Each client counts for itself; the global model is the last one that was made."""
    out, full = go(rounds=5, rounds_of_a_client=2), go(rounds=2)
    assert [record.number for record in out.seen] == [1, 2]
    assert out.stopped == [
        "in round 3, before anything was released: all 3 clients that were asked have spent their budget"
    ]
    assert np.array_equal(out.final, full.final)
    assert sorted(out.kept) == [0, 1, 2] and out.reports == {c: {"rounds": 2.0} for c in range(CLIENTS)}


def test_if_some_decline_the_others_go_on():
    """With two clients a round, who has trained twice declines while others still have room: nothing ends early."""
    out = go(rounds=40, participation=0.67, rounds_of_a_client=2)
    assert any("BudgetSpentError" in why for record in out.seen for why in record.dropped.values())
    assert not out.stopped and [record.number for record in out.seen] == list(range(1, 41))
    assert out.seen[-1].refused == "all 2 clients that were asked have spent their budget"
    took = [c for record in out.seen for c in record.clients]
    assert out.reports == {c: {"rounds": float(took.count(c))} for c in range(CLIENTS)} and {
        took.count(c) for c in range(CLIENTS)
    } == {2}


def test_the_server_stops_before_the_release_that_its_budget_has_no_room_for():
    asked = []

    def release(number, received):
        asked.append(number)
        return received.mean

    out, full = go(rounds=5, release=release, rounds_allowed=2), go(rounds=2)
    assert asked == [1, 2] and [record.number for record in out.seen] == [1, 2]
    assert out.stopped == ["after round 2: one more would pass max_epsilon"]
    assert np.array_equal(out.final, full.final)
    assert out.reports == {c: {"rounds": 2.0} for c in range(CLIENTS)}  # nobody was asked a third time


def test_an_empty_poisson_round_changes_nothing_and_is_recorded_as_refused():
    out = go(rounds=12, participation=0.3, sampling="poisson")
    empty = [record for record in out.seen if not record.clients]
    assert 0 < len(empty) < 12 and [record.number for record in out.seen] == list(range(1, 13))
    after = {record.number: record.weights for record in out.seen} | {13: out.final}
    for record in out.seen:
        assert record.refused == ("" if record.clients else f"no client was sampled in round {record.number}")
        assert np.array_equal(after[record.number + 1], record.weights) == (not record.clients)


def test_a_refused_round_leaves_the_weights_and_the_next_goes_on():
    """Whatever refuses it, here the exchange: what came in is not looked at, who was lost is noted."""

    def exchange(nodes):
        def second_refused(grid, messages):
            replies = list(grid.send_and_receive(messages))
            if messages[0].content["config"]["server-round"] == 2:
                raise RoundRefusedError("too few are left", {nodes[1]: "no reply"})
            return replies

        return second_refused

    out = go(rounds=3, exchange=exchange)
    one, two, three = out.seen
    assert [bool(record.refused) for record in out.seen] == [False, True, False]
    assert two.refused == "too few are left" and two.dropped == {1: "no reply"} and not two.clients and not two.updates
    assert np.array_equal(two.weights, three.weights) and not np.array_equal(one.weights, two.weights)
    assert out.reports[0] == {"rounds": 3.0}  # the clients trained all the same


def test_if_every_round_is_refused_nothing_was_learnt_and_that_is_an_error():
    def never(grid, messages):
        raise RoundRefusedError("two clients are too few")

    server, client, out = recipes(exchange=lambda nodes: never)
    with pytest.raises(ClientFailedError, match="not one round gave anything; the last was refused: two clients are"):
        run(server_app(server), client_app(client), CLIENTS)
    assert len(out.seen) == 2 and not out.finished


def test_what_the_server_tells_besides_the_weights_reaches_every_message():
    told, heard = iter([0.5, 0.25]), []

    def exchange(nodes):
        def listen(grid, messages):
            heard.append({message.content["config"]["clipping-norm"] for message in messages})
            return list(grid.send_and_receive(messages))

        return listen

    go(exchange=exchange, settings=lambda: {"clipping-norm": next(told)})
    assert heard == [{0.5}, {0.25}]


def test_too_few_clients_end_the_wait():
    server, client, out = recipes()
    with pytest.raises(ClientsMissingError, match="2 of 3 clients came, and no other within 0 s"):
        run(server_app(server), client_app(client), CLIENTS - 1)
    assert not out.seen


def test_a_client_that_cannot_tell_its_number_is_an_error():
    _, client, _ = recipes()

    class Lost(InProcessGrid):
        """Its second node was never told which partition it is."""

        def __init__(self, *arguments):
            super().__init__(*arguments)
            del self._contexts[FIRST_NODE_ID + 1].node_config["partition-id"]

    with pytest.raises(ClientFailedError, match=rf"node {FIRST_NODE_ID + 1} failed: .*partition-id"):
        find_clients(Lost(client_app(client), CLIENTS), CLIENTS, patience=1)


def test_clients_are_found_by_their_number_not_by_the_order_of_nodes():
    _, client, _ = recipes()

    class Backwards(InProcessGrid):
        def get_node_ids(self):
            return list(reversed(super().get_node_ids()))

    grid = Backwards(client_app(client), CLIENTS)
    assert isinstance(grid, Grid)
    found = find_clients(grid, CLIENTS, patience=1)
    assert list(found.items()) == [(c, FIRST_NODE_ID + c) for c in range(CLIENTS)]
