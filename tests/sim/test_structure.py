"""What weight updates tell by their shape: said before a run, and true of the run."""

import pytest
from torch import nn

from sim import structure
from sim.given import federation_of
from sim.scenario import load_scenario
from sim.structure import sentences, span_warnings


@pytest.fixture
def warn(tiny_file):
    """Warnings for the small scenario with some settings changed: four clients with about 25 members of 64 pixels."""
    return lambda *sets: {each.vantage: each for each in span_warnings(load_scenario(tiny_file, sets))}


def test_few_members_are_exact_to_the_server(warn, tiny):
    server = warn("model.width=16")["server"]
    members = [int(client.member.sum()) for client in federation_of(tiny).clients]
    assert (server.grade, server.exact_for, server.clients) == ("exact", 4, 4)
    assert server.rows == 16 * 3
    assert 50 < server.inputs <= 65
    assert server.members == (min(members), max(members))


@pytest.mark.parametrize(
    "sets",
    [
        ("model.width=4", "federation.rounds=1"),  # fewer rows than members
        ("data.records_per_client=200", "federation.rounds=20"),  # more members than inputs
        ("training.optimizer=adam", "model.width=16"),
    ],
)
def test_what_is_not_exact_is_not_called_so_and_not_called_safe(warn, sets):
    server = warn(*sets)["server"]
    assert (server.grade, server.exact_for) == ("graded", 0)


def test_sums_are_exact_where_all_clients_together_have_few_members(warn):
    secagg, few = "aggregation.protocol=secagg", "data.records_per_client=20"
    assert warn(secagg, few, "federation.rounds=20")["aggregator"].grade == "exact"
    assert warn(secagg)["aggregator"].grade == "graded"
    assert "server" not in warn(secagg)


@pytest.mark.parametrize(
    ("sets", "grades"),
    [
        (("privacy.record.noise_multiplier=1",), {"server": "noisy", "device": "noisy"}),
        (
            ("privacy.client.where=local", "privacy.client.noise_multiplier=1"),
            {"server": "noisy", "device": "graded"},
        ),
        (
            ("privacy.client.where=central", "privacy.client.noise_multiplier=1", "federation.sampling=poisson"),
            {"server": "exact", "device": "graded"},
        ),
        (("model.name=cnn",), {"server": "full", "device": "full"}),
        (("model.name=cnn", "privacy.record.noise_multiplier=1"), {"server": "noisy", "device": "noisy"}),
    ],
)
def test_noise_covers_whom_it_reaches(warn, sets, grades):
    wide = () if "model.name=cnn" in sets else ("model.width=16",)
    assert {vantage: each.grade for vantage, each in warn(*sets, *wide).items()} == grades


def test_patches_are_counted_against_their_values(warn, tiny):
    """Three by three, at each of 64 pixels: ten dimensions, which a single record fills."""
    server = warn("model.name=cnn")["server"]
    fewest = min(int(client.member.sum()) for client in federation_of(tiny).clients)
    assert (server.inputs, server.positions, server.exact_for) == (10, 64, 0)
    assert f"That is {64 * fewest:,} patches or more: they fill all inputs" in server.why


def test_patches_fewer_than_their_values_are_exact(warn, monkeypatch):
    """A kernel of 4 x 7 pixels and its bias, twice in a record: 29 dimensions, of which few members fill no more."""
    net = nn.Sequential(nn.Conv2d(1, 16, (4, 7), 4), nn.ReLU(), nn.Flatten(), nn.Linear(32, 10))
    monkeypatch.setattr(structure, "fresh_model", lambda _: net)
    few = warn("data.records_per_client=20")["server"]
    assert few.positions == 2 and few.inputs in range(20, 30)
    assert few.grade == "exact" and 1 <= few.exact_for <= 4
    assert (few.exact_for == 4) is (2 * few.members[1] < few.inputs)
    assert warn()["server"].grade == "full"


def test_budget_and_run_say_it(seepage, tiny_file, warn):
    said = seepage("budget", str(tiny_file), "--set", "model.width=16")
    assert said.code == 0
    assert "every member can be named" in " ".join(said.out.split())
    exact = [each for each in warn("model.width=16").values() if each.grade == "exact"]
    assert "What would change it: [privacy.record]" in next(iter(sentences(exact)))
