"""The attackers' models: trained on their own halves, strangers on other people, kept and not trained twice."""

import dataclasses

import numpy as np
import pytest

from attacks.observation import Records
from clients.randomness import generator
from sim.folder import RunFolder
from sim.given import federation_of
from sim.noise import strengths
from sim.prepare import prepare, stranger_side
from sim.recipe import follow


@pytest.fixture(scope="module")
def prepared(tiny, finished, quiet):
    return prepare(tiny, finished[0], quiet)


def test_each_reference_followed_the_recipe_on_its_half(tiny, prepared):
    own = federation_of(tiny).population
    assert prepared.trained_on.shape == (2, len(own)) and prepared.trained_on.dtype == bool
    assert np.array_equal(prepared.trained_on[0], ~prepared.trained_on[1])
    for number, half in enumerate(prepared.trained_on):
        records = Records(own.x[half], own.y[half])
        found = follow(tiny, strengths(tiny), records, own.device[half], generator(tiny.seed, "reference", number))
        assert np.array_equal(prepared.global_[number], found.global_)
        assert np.array_equal(prepared.personal[number], found.personal)


def test_each_stranger_learned_from_the_other_side_s_members(tiny, prepared):
    clients = federation_of(tiny).clients
    side = stranger_side(tiny, clients)
    assert 0 < side.sum() < len(clients)
    for number in range(2):
        others = [client for client, first in zip(clients, side, strict=True) if first == bool(number)]
        records = Records(*(np.concatenate(part) for part in zip(*(c.members for c in others), strict=True)))
        device = np.repeat([c.client for c in others], [len(c.members[1]) for c in others])
        found = follow(tiny, strengths(tiny), records, device, generator(tiny.seed, "stranger", number))
        assert np.array_equal(prepared.strangers[number], found.personal)


def test_one_person_s_devices_are_on_one_side(tiny):
    clients = tuple(
        dataclasses.replace(client, person=f"person {client.client // 2}") for client in federation_of(tiny).clients
    )
    side = stranger_side(tiny, clients)
    assert side[0] == side[1] != side[2] == side[3]


def test_what_is_there_is_not_trained_again(tiny, copied, quiet, prepared):
    folder = RunFolder(copied)
    (file,) = folder.models.glob("attackers-*")
    before = file.stat().st_mtime_ns
    again = prepare(tiny, folder, quiet)
    assert file.stat().st_mtime_ns == before
    assert all(np.array_equal(getattr(again, f.name), getattr(prepared, f.name)) for f in dataclasses.fields(again))
