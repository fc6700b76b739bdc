"""What the stage hands to a client: its members, and not one of the records that were held out."""

import numpy as np
import pytest

from sim.engines import ENGINES
from sim.errors import CannotWriteError
from sim.federate import client_recipe, federate
from sim.folder import RunFolder, create
from sim.given import federation_of
from sim.protect import Protections


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
