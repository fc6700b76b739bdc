"""The graph is regular, mutual and drawn by the generator; its degree is what the tails ask for."""

from fractions import Fraction
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.aggregation.graph import Neighbourhood, Rules, degree, harary, neighbourhood, threshold_of


@given(st.integers(2, 30), st.integers(1, 29), st.integers(0, 99))
def test_every_client_has_so_many_neighbours_and_is_theirs(clients, wanted, seed):
    k = neighbourhood(clients, Rules(neighbours=wanted)).neighbours
    numbers = list(range(7, 7 + clients))
    graph = harary(numbers, k, np.random.default_rng(seed))
    assert sorted(graph) == numbers and min(wanted, clients - 1) <= k <= clients - 1
    for client, others in graph.items():
        assert len(others) == k and client not in others
        assert all(client in graph[other] for other in others)
    assert graph == harary(numbers, k, np.random.default_rng(seed))


def test_the_ring_is_in_random_order():
    graphs = {tuple(sorted(harary(range(20), 4, np.random.default_rng(s))[0])) for s in range(50)}
    assert len(graphs) > 40


@given(st.integers(4, 14), st.integers(2, 6), st.integers(0, 9), st.data())
def test_if_everybody_keeps_the_threshold_the_rest_hangs_together(clients, wanted, seed, data):
    size = neighbourhood(clients, Rules(neighbours=wanted))
    graph = harary(range(clients), size.neighbours, np.random.default_rng(seed))
    left = data.draw(st.sets(st.integers(0, clients - 1), min_size=2))
    if any(len(graph[client] & left) < size.threshold for client in left):
        return
    reached, edge = set(), {min(left)}
    while edge:
        reached |= edge
        edge = set().union(*(graph[c] & left for c in edge)) - reached
    assert reached == left


@pytest.mark.parametrize(
    ("clients", "rules", "expected"),
    [
        (2, Rules(), (1, 1)),
        (3, Rules(), (2, 2)),
        (5, Rules(), (4, 3)),
        (5, Rules(threshold=0.5), (4, 3)),
        (5, Rules(threshold=1.0), (4, 4)),
        (20, Rules(neighbours=19), (19, 13)),
        (20, Rules(neighbours=100, colluding=6), (19, 13)),
        (9, Rules(neighbours=5), (6, 5)),  # nine clients cannot have five neighbours each
    ],
)
def test_thresholds_by_hand(clients, rules, expected):
    assert neighbourhood(clients, rules) == Neighbourhood(*expected)


@pytest.mark.parametrize(
    ("clients", "rules", "fault"),
    [
        (1, Rules(), "fewer than two"),
        (5, Rules(threshold=0.4), "threshold 2 for 4 neighbours and 0 colluders: .* 3 or more"),
        (20, Rules(neighbours=19, colluding=7), "threshold 13 for 19 neighbours and 7 colluders: .* 14 or more"),
        (5, Rules(colluding=4), "colluders"),
    ],
)
def test_rules_that_let_the_server_have_both_shares_are_refused(clients, rules, fault):
    with pytest.raises(ValueError, match=fault):
        neighbourhood(clients, rules)


def test_two_thirds_of_three_are_two():
    assert [threshold_of(k, 2 / 3) for k in (1, 2, 3, 4, 6, 18)] == [1, 2, 3, 3, 5, 13]
    assert [threshold_of(k, 0.67) for k in (3, 4, 100)] == [3, 3, 68]


def tail(population, marked, draws, least):
    """P[at least so many marked ones among the draws], exactly."""
    ways = sum(comb(marked, i) * comb(population - marked, draws - i) for i in range(least, min(marked, draws) + 1))
    return Fraction(ways, comb(population, draws))


@pytest.mark.parametrize(("clients", "colluding", "dropped"), [(300, 0.1, 0.1), (1000, 0.05, 0.05), (1000, 0.0, 0.1)])
def test_the_degree_is_the_first_that_the_exact_tails_allow(clients, colluding, dropped):
    found = degree(clients, colluding, dropped)
    assert found < clients - 1
    bad, lost = round(clients * colluding), round(clients * dropped)

    def safe(k):
        t = 2 * k // 3 + 1
        exposed = clients * tail(clients - 1, bad, k, 2 * t - k) <= Fraction(1, 2**40)
        cut = clients * tail(clients, bad + lost, k // 2, k // 2) <= Fraction(1, 2**40)
        return exposed and cut and clients * tail(clients - 1, lost, k, k - t + 1) <= Fraction(1, 2**20)

    assert safe(found) and not any(safe(k) for k in range(2, found, 2))


def test_the_degree_grows_slowly_and_small_federations_are_complete():
    assert degree(1_000_000, 0.05, 0.05) < 2 * degree(1000, 0.05, 0.05)
    assert [degree(n, 0.3, 0.3) for n in (2, 5, 20)] == [1, 4, 19]
    assert degree(1000, 0.2, 0.2) > degree(1000, 0.1, 0.2) > degree(1000, 0.05, 0.05)
