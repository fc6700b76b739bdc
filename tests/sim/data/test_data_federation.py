"""The federation: fair coins tossed alone, nobody's record on two sides, and hopeless clients refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from sim.data.config import DataConfig, PopulationConfig
from sim.data.dataset import DataError
from sim.data.federation import build_federation, noted, toss

WATCH = DataConfig(source="watch")


def keys(x):
    return {row.tobytes() for row in x}


def own(folder, **arrays):
    np.savez(folder / "mine.npz", **arrays)
    return f"npz:{folder / 'mine.npz'}"


def records(n, seed=0):
    return np.random.default_rng(seed).normal(size=(n, 4)).astype(np.float32)


CASES = {
    "people": (WATCH, PopulationConfig()),
    "capped": (DataConfig(source="watch", records_per_client=40), PopulationConfig(people=3, records=50)),
    "same people": (WATCH, PopulationConfig(who="same-people", share=0.25)),
    "dirichlet": (
        DataConfig(source="digits", partition="dirichlet", clients=6, records_per_client=100, alpha=1.0),
        PopulationConfig(people=3),
    ),
    "shards": (
        DataConfig(source="digits", partition="shards", clients=6, shards_per_client=4),
        PopulationConfig(people=2, records=301),
    ),
    "iid, same people": (DataConfig(source="digits", partition="iid", clients=5), PopulationConfig(who="same-people")),
}


@pytest.mark.parametrize("case", CASES)
def test_no_record_is_on_two_sides_and_the_seed_decides(case):
    built = build_federation(*CASES[case], seed=5)
    sides = [keys(client.x) for client in built.clients] + [keys(built.population.x)]
    assert sum(map(len, sides)) == len(set().union(*sides)) == built.records + len(built.population)
    assert [client.client for client in built.clients] == list(range(len(built.clients)))
    again, other = (build_federation(*CASES[case], seed=seed) for seed in (5, 6))
    for a, b in zip(built.clients, again.clients, strict=True):
        assert np.array_equal(a.x, b.x) and np.array_equal(a.member, b.member) and a.name == b.name
    assert np.array_equal(built.population.x, again.population.x)
    assert keys(built.population.x) != keys(other.population.x)


@pytest.mark.parametrize("case", CASES)
def test_members_and_held_out_are_all_of_a_client(case):
    built = build_federation(*CASES[case], seed=1)
    for client in built.clients:
        assert len(client.members[1]) + len(client.held_out[1]) == len(client)
        assert keys(client.members[0]) | keys(client.held_out[0]) == keys(client.x)
        assert np.array_equal(client.member, toss(len(client), CASES[case][0].member_share, 1, client.client))


def test_other_people_leave_whole():
    built = build_federation(WATCH, PopulationConfig(people=2), seed=0)
    assert len(built.clients) == 16 and len(built.people) == 8
    assert built.population.people == 2 and set(built.population.device) == {0, 1, 2, 3}
    n = len(built.population)
    assert built.records + n == 2369
    assert built.population.assumption == (
        f"The attacker holds labelled records of 2 other people (4 devices, {n} records) who took no part."
    )


def test_same_people_lend_a_share_of_every_client():
    built = build_federation(WATCH, PopulationConfig(who="same-people", share=0.3), seed=0)
    assert len(built.clients) == 20 and built.population.people == 10
    for client in built.clients:
        lent = int((built.population.device == client.client).sum())
        assert abs(lent - 0.3 * (lent + len(client))) <= 0.5
    assert "30 % of the same people's own records" in built.population.assumption
    assert "stronger assumption" in built.population.assumption


def test_simulated_clients_and_as_many_more_for_the_attacker():
    built = build_federation(*CASES["dirichlet"], seed=0)
    assert [len(client) for client in built.clients] == [100] * 6
    assert np.bincount(built.population.device).tolist() == [100] * 3
    built = build_federation(*CASES["shards"], seed=0)
    assert np.bincount(built.population.device).tolist() == [151, 150]
    assert "2 more simulated clients (301 records)" in built.population.assumption


def test_a_partition_that_mixes_people_says_so():
    data = DataConfig(source="watch", partition="iid", clients=4)
    assert "a person can be on both sides" in build_federation(data, PopulationConfig(), 0).population.assumption


def test_the_cap_holds_for_everybody():
    built = build_federation(*CASES["capped"], seed=0)
    assert max(map(len, built.clients)) == 40 and len(built.population) == 50


@settings(max_examples=50, deadline=None)
@given(n=st.integers(0, 200), share=st.floats(0.06, 0.94), seed=st.integers(0, 2**32), client=st.integers(0, 99))
def test_the_coin_depends_on_its_arguments_only_and_on_no_other_record(n, share, seed, client):
    coin = toss(n, share, seed, client)
    assert coin.dtype == bool and coin.shape == (n,)
    assert np.array_equal(coin, toss(n, share, seed, client))
    assert np.array_equal(coin, toss(n + 7, share, seed, client)[:n])  # more records change no other's coin


def test_coins_are_fair_and_those_of_clients_are_unlike():
    coins = np.array([toss(1_000, 0.3, 0, client) for client in range(200)])
    assert abs(coins.mean() - 0.3) < 4 * np.sqrt(0.21 / coins.size)
    # Independent tosses make counts vary as the binomial does; balanced ones would not.
    assert 0.7 < coins.sum(axis=1).var() / (1_000 * 0.21) < 1.4
    assert abs(np.corrcoef(coins[:20])[np.triu_indices(20, 1)]).max() < 0.15


SAME = PopulationConfig(who="same-people", share=0.1)


def test_duplicates_are_dropped_and_counted_in_every_disguise(tmp_path):
    x = records(40)
    x[0] = 0
    x[30:] = x[:10]  # the second client holds ten records of the first
    x[30] = -0.0
    y = np.arange(40) % 2
    y[31] = 1 - y[1]
    source = own(tmp_path, x=x.astype(">f8"), y=y, client=[0] * 20 + [1] * 20)
    built = build_federation(DataConfig(source=source), SAME, 0)
    found = built.duplicates
    assert (found.of, found.removed, found.other_label, found.other_client) == (40, 10, 1, 10)
    assert built.records + len(built.population) == 30
    assert noted(built)[0].startswith("10 of 40 records have the same `x` as an earlier one and were left out")
    assert not build_federation(WATCH, PopulationConfig(), 0).duplicates.removed


def test_a_refusal_names_the_duplicates(tmp_path):
    x = np.random.default_rng(0).integers(0, 2, (400, 2))
    source = own(tmp_path, x=x, y=np.arange(400) % 2, client=np.sort(np.arange(400) % 6))
    with pytest.raises(DataError, match=r"396 of 400 records have the same `x`"):
        build_federation(DataConfig(source=source), PopulationConfig(people=5), 0)


def test_every_record_leads_back_to_its_row(tmp_path):
    x, y = records(300), np.arange(300) % 3
    x[10:20] = x[:10]
    source = own(tmp_path, x=x, y=y, client=np.arange(300) % 5)
    natural = DataConfig(source=source)
    for data in (natural, DataConfig(source=source, partition="dirichlet", clients=4, alpha=0.1)):
        for client in build_federation(data, PopulationConfig(), 3).clients:
            np.testing.assert_array_equal(x[client.row], client.x)
            np.testing.assert_array_equal(y[client.row], client.y)


def test_clients_of_one_class_and_of_few_records_take_part(tmp_path):
    y = np.arange(64) % 2
    y[21:41] = 1
    who = ["ann"] * 20 + ["bob"] + ["cid"] * 20 + ["dan"] * 20 + ["eve"] * 3
    source = own(tmp_path, x=records(64), y=y, client=np.array(who))
    built = [build_federation(DataConfig(source=source), SAME, seed) for seed in range(12)]
    for federation in built:
        names = [client.name for client in federation.clients]
        assert [client.client for client in federation.clients] == list(range(len(names)))
        assert federation.participants == len(names) and {"ann", "cid", "dan"} <= set(names)
        assert all(client.member.any() for client in federation.clients)
        told = " ".join(federation.notes)
        assert ("bob (1 record)" in told) == ("bob" not in names)  # its only record is held out
        whole = [client for client in federation.clients if not client.two_sided]
        assert all(f"{client.client} ({client.name}, " in told for client in whole)  # nothing is held out
        assert "bob" not in names or "bob" in {client.name for client in whole}
    assert 0 < sum("bob" in {c.name for c in federation.clients} for federation in built) < 12


def test_too_many_clients_without_members_are_refused_by_name(tmp_path):
    source = own(tmp_path, x=records(24), y=np.arange(24) % 2, client=[0] * 16 + [1] * 4 + [2] * 4)
    data = DataConfig(source=source, member_share=0.06)
    sides = {s: [toss(n, 0.06, s, c).any() for c, n in enumerate((16, 4, 4))] for s in range(200)}
    seed = next(seed for seed, found in sides.items() if sum(found) < 2)
    with pytest.raises(DataError, match=r"left to take part(.|\n)*left no member to train on.*change the seed"):
        build_federation(data, SAME, seed)


@pytest.mark.parametrize(
    ("data", "population", "says"),
    [
        (DataConfig(source="digits"), PopulationConfig(), "Set `partition` to dirichlet, shards or iid"),
        (WATCH, PopulationConfig(people=10), "watch has only 10"),
        (WATCH, PopulationConfig(records=2_000), "the attacker's people have"),
        (
            DataConfig(source="digits", partition="iid", clients=3, records_per_client=600),
            PopulationConfig(),
            "ask for",
        ),
        (DataConfig(source="digits", partition="iid", clients=9_999), PopulationConfig(), "(0 records)"),
        (DataConfig(source="digits", partition="iid", clients=2), PopulationConfig(records=1_797), "(0 records)"),
    ],
)
def test_what_cannot_be_built_says_what_to_change(data, population, says):
    with pytest.raises(DataError) as caught:
        build_federation(data, population, 0)
    assert says in str(caught.value)


def test_one_client_is_no_federation(tmp_path):
    source = own(tmp_path, x=records(40), y=np.arange(40) % 2, client=np.zeros(40, int))
    with pytest.raises(DataError, match="`client` names 1 client"):
        build_federation(DataConfig(source=source), PopulationConfig(people=1), 0)
    assert build_federation(DataConfig(source=source, partition="iid", clients=2), PopulationConfig(people=1), 0)
    source = own(tmp_path, x=records(40), y=np.arange(40) % 2, client=np.repeat([0, 1], 20))
    with pytest.raises(DataError, match="1 client is left to take part; a federation needs at least 2"):
        build_federation(DataConfig(source=source), PopulationConfig(people=1), 0)


@pytest.mark.parametrize(
    ("table", "values", "says"),
    [
        (DataConfig, {"source": "nothing"}, "watch, digits"),
        (DataConfig, {"source": "watch", "clients": 5}, "leave `clients` out"),
        (DataConfig, {"source": "digits", "partition": "iid"}, "set `clients`"),
        (DataConfig, {"source": "watch", "member_share": 0.05}, "greater than 0.05"),
        (DataConfig, {"source": "watch", "alpha": 0}, "greater than"),
        (DataConfig, {"source": "watch", "colour": 1}, "Extra inputs"),
        (PopulationConfig, {"people": 3, "records": 2}, "raise `records` or lower `people`"),
        (PopulationConfig, {"who": "nobody"}, "other-people"),
    ],
)
def test_tables_are_checked(table, values, says):
    with pytest.raises(ValidationError, match=says):
        table(**values)


def test_every_setting_is_described():
    purchase = DataConfig.model_fields["purchase"].annotation
    for table in (DataConfig, PopulationConfig, purchase):
        assert all(field.description for field in table.model_fields.values())
