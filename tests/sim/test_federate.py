"""What the stage hands to a client: its members, and not one of the records that were held out."""

from dataclasses import replace

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict

from clients.app import client_app
from clients.weights import to_arrays
from sim.engines import ENGINES
from sim.errors import CannotWriteError, InputError
from sim.federate import client_recipe, federate
from sim.folder import RunFolder, create
from sim.given import federation_of, fresh_model
from sim.protect import Protections
from sim.scenario import load_scenario
from sim.transcript import summaries


def test_held_out_records_never_reach_a_client(tiny, tmp_path):
    load = client_recipe(tiny, RunFolder(tmp_path), Protections()).load
    for client in federation_of(tiny).clients:
        x, y = load(client.client)
        assert np.array_equal(x, client.x[client.member]) and np.array_equal(y, client.y[client.member])
        given, (held, _) = {row.tobytes() for row in x}, client.held_out
        assert len(held) and not [row for row in held if row.tobytes() in given]


def test_a_client_that_cannot_store_its_model_is_told_as_what_it_is(tiny, tmp_path, quiet):
    """Flower makes a client's exception into text: a full disk must not come out as something that broke inside."""
    folder = create(tiny, tmp_path)
    folder.personal_model(1).mkdir()
    with pytest.raises(CannotWriteError, match=r"^\S+personal-0001\.safetensors: cannot be written .*--out$"):
        federate(tiny, ENGINES["inprocess"], folder, quiet)


@pytest.mark.usefixtures("task_identity")
def test_a_client_that_fails_hands_its_state_back_in_a_reply(tiny, tmp_path):
    """Flower on Ray forgets the state of an app that raises: the round would be free, and could be asked for again."""

    def fails(client):
        raise ValueError("no such file")

    recipe = replace(client_recipe(tiny, RunFolder(tmp_path), Protections()), load=fails)
    app, context = client_app(recipe), Context(1, 1000, {"partition-id": 0}, RecordDict(), {})
    said = []
    for number in (1, 1, 2):
        content = {"arrays": to_arrays(fresh_model(tiny)), "config": ConfigRecord({"server-round": number})}
        said.append(app(Message(RecordDict(content), dst_node_id=1000, message_type="train"), context))
    assert [reply.error.reason.split(":")[0] for reply in said] == ["ValueError", "AnsweredRoundError", "ValueError"]
    assert context.state["privacy"]["rounds"] == 2


@pytest.mark.parametrize("table", ["record", "client"])
def test_where_there_is_privacy_nobody_learns_that_personalising_failed(table, tiny, tiny_file, tmp_path):
    """The servers' rows count training only, and that a personal model came about is a release of its own."""
    words = [f"privacy.{table}.noise_multiplier=1", *(["privacy.client.where=local"] * (table == "client"))]
    told = [
        client_recipe(scenario, RunFolder(tmp_path), Protections()).tells_failures
        for scenario in (tiny, load_scenario(tiny_file, words))
    ]
    assert told == [True, False]


def test_under_central_noise_the_study_tells_that_nobody_could_train_and_only_at_the_end(tiny_file, tmp_path, quiet):
    settings = ["training.learning_rate=10", "training.weight_decay=1000", "training.epochs=4", "federation.rounds=2"]
    noise = ["privacy.client.where=central", "privacy.client.noise_multiplier=1"]
    folder = create(scenario := load_scenario(tiny_file, [*settings, *noise]), tmp_path)
    with pytest.raises(InputError, match=r"client 0 failed: .*diverged"):
        federate(scenario, ENGINES["inprocess"], folder, quiet)
    assert [len(each.dropped) for each in summaries(folder.transcript)] == [4, 4]
