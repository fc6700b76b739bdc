"""The graph follows from who takes part; its degree is what the bounds ask for, whoever colludes and wherever."""

from fractions import Fraction
from math import ceil, comb

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clients.aggregation.graph import Neighbourhood, Rules, degree, graph, harary, neighbourhood, ring, threshold_of


@given(st.integers(3, 30), st.integers(1, 29), st.integers(0, 99))
def test_every_client_has_so_many_neighbours_and_is_theirs(clients, wanted, number):
    k = neighbourhood(clients, Rules(neighbours=wanted)).neighbours
    numbers = list(range(7, 7 + clients))
    found = graph(numbers, number, k)
    assert sorted(found) == numbers and min(wanted, clients - 1) <= k <= clients - 1
    for client, others in found.items():
        assert len(others) == k and client not in others
        assert all(client in found[other] for other in others)
    assert found == graph(reversed(numbers), number, k)


def test_the_ring_is_in_an_order_that_only_the_round_changes():
    orders = {tuple(ring(range(20), number)) for number in range(50)}
    assert len(orders) == 50
    assert [client for client in ring(range(20), 1) if client < 9] == ring(range(9), 1)
    assert ring(range(9), 1) == [2, 0, 8, 5, 4, 6, 1, 3, 7]  # all clients and the server must have it alike


@settings(max_examples=300)
@given(st.integers(4, 16), st.integers(2, 8), st.integers(0, 3), st.sampled_from([0.51, 0.6, 2 / 3, 0.9]), st.data())
def test_if_everybody_keeps_the_threshold_the_honest_ones_hang_together(clients, wanted, colluding, share, data):
    """Wherever the colluders are, and whoever drops out: what is left of the graph without both is in one piece."""
    try:
        size = neighbourhood(clients, Rules(neighbours=wanted, colluding=colluding, threshold=share))
    except ValueError:
        return
    found = harary(range(clients), size.neighbours)
    colluders = data.draw(st.sets(st.integers(0, clients - 1), max_size=colluding), "colluders")
    left = data.draw(st.sets(st.integers(0, clients - 1), min_size=clients - 4), "survivors")
    while poor := {client for client in left if len(found[client] & left) < size.threshold}:
        left -= poor
    if not (honest := left - colluders):
        return
    reached, edge = set(), {min(honest)}
    while edge:
        reached |= edge
        edge = set().union(*(found[c] & honest for c in edge)) - reached
    assert reached == honest


@pytest.mark.parametrize(
    ("clients", "rules", "expected"),
    [
        (3, Rules(), (2, 2, 2)),
        (5, Rules(), (4, 3, 3)),
        (5, Rules(threshold=0.51), (4, 3, 3)),
        (5, Rules(threshold=1.0), (4, 4, 3)),
        (4, Rules(neighbours=2, colluding=1), (2, 2, 3)),
        (20, Rules(neighbours=19), (19, 13, 11)),
        (20, Rules(neighbours=100, colluding=6), (19, 13, 14)),
        (9, Rules(neighbours=5), (6, 5, 5)),  # so many on both sides
        (10, Rules(neighbours=5), (6, 5, 6)),
        (9, Rules(neighbours=7), (8, 6, 5)),
    ],
)
def test_thresholds_by_hand(clients, rules, expected):
    assert neighbourhood(clients, rules) == Neighbourhood(*expected)


@pytest.mark.parametrize(
    ("clients", "rules", "fault"),
    [
        (2, Rules(), "2 clients, 0 of them colluding: a sum over fewer than 3 honest clients .* it takes 3"),
        (4, Rules(colluding=2), "4 clients, 2 of them colluding: .* it takes 5"),
        (5, Rules(threshold=0.4), "threshold 2 for 4 neighbours .* 3 or more"),
        (20, Rules(neighbours=19, colluding=7), "7 of them colluding: threshold 13 for 19 neighbours .* 14 or more"),
        (100, Rules(neighbours=6, colluding=6), "threshold 5 for 6 neighbours .* 7 or more"),
        (5, Rules(colluding=4), "it takes 7"),
    ],
)
def test_rules_that_let_the_server_have_both_shares_are_refused(clients, rules, fault):
    with pytest.raises(ValueError, match=fault):
        neighbourhood(clients, rules)


@given(st.integers(3, 60), st.integers(0, 9), st.floats(0.501, 0.999), st.none() | st.integers(2, 20))
@settings(max_examples=60, deadline=None)
def test_whatever_the_settings_neither_both_secrets_nor_two_lists_can_be_had(clients, colluding, threshold, neighbours):
    try:
        size = neighbourhood(clients, Rules(threshold=threshold, colluding=colluding, neighbours=neighbours))
    except ValueError:
        return
    assert size.threshold <= size.neighbours < clients and size.neighbours + colluding < 2 * size.threshold
    assert size.quorum <= clients and clients + colluding < 2 * size.quorum


def test_two_thirds_of_three_are_two():
    assert [threshold_of(k, 2 / 3) for k in (1, 2, 3, 4, 6, 18)] == [1, 2, 3, 3, 5, 13]
    assert [threshold_of(k, 0.67) for k in (3, 4, 100)] == [3, 3, 68]


def tail(population, marked, draws, least):
    """P[at least so many marked ones among the draws], exactly."""
    ways = sum(comb(marked, i) * comb(population - marked, draws - i) for i in range(least, min(marked, draws) + 1))
    return Fraction(ways, comb(population, draws))


@pytest.mark.parametrize(("clients", "colluding", "dropped"), [(300, 5, 0.1), (1000, 20, 0.05), (1000, 0, 0.1)])
def test_the_degree_is_the_first_that_the_exact_tails_allow(clients, colluding, dropped):
    found = degree(clients, Rules(colluding=colluding, dropouts=dropped))
    assert found < clients - 1
    lost = ceil(clients * dropped)

    def safe(k):
        t = 2 * k // 3 + 1
        return 2 * t > k + colluding and clients * tail(clients - 1, lost, k, k - t + 1) <= Fraction(1, 2**20)

    assert safe(found) and not any(safe(k) for k in range(2, found, 2))


def test_the_degree_grows_slowly_and_small_federations_are_complete():
    assert degree(1_000_000, Rules()) < 2 * degree(1000, Rules())
    assert [degree(n, Rules(dropouts=0.3)) for n in (3, 5, 20)] == [2, 4, 19]
    assert degree(1000, Rules(colluding=150)) > degree(1000, Rules(colluding=20)) >= degree(1000, Rules())
