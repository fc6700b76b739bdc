"""What the stage hands to a client: its members, and not one of the records that were held out."""

import numpy as np

from sim.federate import client_recipe
from sim.folder import RunFolder
from sim.given import federation_of
from sim.protect import Protections


def test_held_out_records_never_reach_a_client(tiny, tmp_path):
    load = client_recipe(tiny, RunFolder(tmp_path), Protections()).load
    for client in federation_of(tiny).clients:
        x, y = load(client.client)
        assert np.array_equal(x, client.x[client.member]) and np.array_equal(y, client.y[client.member])
        given, (held, _) = {row.tobytes() for row in x}, client.held_out
        assert len(held) and not [row for row in held if row.tobytes() in given]
