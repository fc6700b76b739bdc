"""The ServerApp against real ClientApps in one process: it waits, averages, personalises, and says who failed."""

import numpy as np
import pytest
import torch
from flwr.serverapp import Grid

from clients.app import ClientRecipe, LocalData, client_app
from clients.models import ModelConfig, build_model
from clients.randomness import generator
from clients.training import TrainingConfig, train
from clients.weights import flatten, to_arrays, to_vector
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
    y = (x[:, 0] > 0).astype(np.int64)
    return LocalData((x[:-3], y[:-3]), (x[-3:], y[-3:]))


def recipes(rounds=2, participation=1.0, load=load):
    kept, seen, finished = {}, [], []
    client = ClientRecipe(
        seed=1,
        load=load,
        build=build,
        training=TrainingConfig(),
        personalization=TrainingConfig(epochs=2),
        keep=lambda number, model: kept.__setitem__(number, to_vector(model)),
    )
    server = ServerRecipe(
        seed=1,
        clients=CLIENTS,
        plan=FederationConfig(rounds=rounds, participation=participation),
        initial=to_arrays(build()),
        observe=seen.append,
        finish=lambda *what: finished.append(what),
        patience=0.1,
    )
    return server, client, kept, seen, finished


def test_rounds_follow_from_one_another():
    server, client, kept, seen, finished = recipes(rounds=3)
    run(server_app(server), client_app(client), CLIENTS)
    assert [record.number for record in seen] == [1, 2, 3]
    assert np.array_equal(seen[0].weights, to_vector(build()))
    share = np.array([len(load(c).members[1]) for c in range(CLIENTS)], dtype=np.float64)
    ((final, metrics),) = finished
    for record, after in zip(seen, [seen[1].weights, seen[2].weights, flatten(final)], strict=True):
        step = np.average([record.updates[c] for c in range(CLIENTS)], axis=0, weights=share)
        np.testing.assert_allclose(after, record.weights - step, atol=1e-6)
    assert list(metrics) == sorted(kept) == [0, 1, 2]
    assert all(not np.array_equal(vector, flatten(final)) for vector in kept.values())


def test_a_client_s_update_is_its_own_training():
    """Round 1 of client 2, done again by hand with the generator its purpose gives."""
    server, client, _, seen, _ = recipes(rounds=1)
    run(server_app(server), client_app(client), CLIENTS)
    model = build()
    train(model, *load(2).members, client.training, generator(1, "train", 1, 2))
    assert np.array_equal(seen[0].updates[2], to_vector(build()) - to_vector(model))


def test_only_the_sampled_take_part_and_everyone_personalises():
    server, client, kept, seen, _ = recipes(rounds=4, participation=0.34)
    run(server_app(server), client_app(client), CLIENTS)
    assert [len(record.updates) for record in seen] == [1, 1, 1, 1] and sorted(kept) == [0, 1, 2]


@pytest.mark.parametrize("when", ["while training", "while personalising"])
def test_a_failing_client_is_named_with_its_reason(when):
    calls = []

    def broken(client):
        calls.append(client)
        if client == 1 and (when == "while training" or calls.count(1) > 2):
            raise OSError("its disk is full")
        return load(client)

    server, client, _, seen, finished = recipes(load=broken)
    with pytest.raises(ClientFailedError, match=r"^client 1 failed: .*OSError.* its disk is full"):
        run(server_app(server), client_app(client), CLIENTS)
    assert len(seen) == (0 if when == "while training" else 2) and not finished


def test_too_few_clients_end_the_wait():
    server, client, *_, seen, _ = recipes()
    with pytest.raises(ClientsMissingError, match="2 of 3 clients came within 0 s"):
        run(server_app(server), client_app(client), CLIENTS - 1)
    assert not seen


def test_a_client_that_cannot_tell_its_number_is_an_error():
    _, client, *_ = recipes()

    class Lost(InProcessGrid):
        """Its second node was never told which partition it is."""

        def __init__(self, *arguments):
            super().__init__(*arguments)
            del self._contexts[FIRST_NODE_ID + 1].node_config["partition-id"]

    with pytest.raises(ClientFailedError, match=rf"node {FIRST_NODE_ID + 1} failed: .*partition-id"):
        find_clients(Lost(client_app(client), CLIENTS), CLIENTS, patience=1)


def test_clients_are_found_by_their_number_not_by_the_order_of_nodes():
    _, client, *_ = recipes()

    class Backwards(InProcessGrid):
        def get_node_ids(self):
            return list(reversed(super().get_node_ids()))

    grid = Backwards(client_app(client), CLIENTS)
    assert isinstance(grid, Grid)
    found = find_clients(grid, CLIENTS, patience=1)
    assert list(found.items()) == [(c, FIRST_NODE_ID + c) for c in range(CLIENTS)]
