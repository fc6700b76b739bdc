"""Random small files of all operators, weights, scales and paddings: no row may differ from TFLite Micro's."""

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from edge.arithmetic import KERNELS
from edge.runtimes import CannotRunError
from tests.edge.arithmetic.graphs import OPERATORS, WIDE, random_graph

FEW, MANY = 150, 4000
SEEDS = st.integers(0, 2**32 - 1)
ROW = st.lists(st.sampled_from(sorted(OPERATORS)), min_size=1, max_size=4)
WIDE_ROW = st.lists(st.sampled_from(sorted(WIDE)), min_size=1, max_size=4)
SHARED = {
    "deadline": None,
    "derandomize": True,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
}


def holds(differing, kinds, seed, numbers="int8", float_ends=False):
    """Equal, or refused: never another number."""
    model = random_graph(kinds, seed, numbers, float_ends)
    try:
        rows = differing(model, seed=seed)
    except CannotRunError:
        assume(False)
    assert rows == 0


@given(kinds=ROW, seed=SEEDS, float_ends=st.booleans())
@settings(max_examples=FEW, **SHARED)
def test_no_row_differs(differing, kinds, seed, float_ends):
    holds(differing, kinds, seed, float_ends=float_ends)


@given(kinds=WIDE_ROW, seed=SEEDS)
@settings(max_examples=FEW // 2, **SHARED)
def test_no_row_differs_in_int16(differing, kinds, seed):
    holds(differing, kinds, seed, "int16")


@pytest.mark.slow
@given(kinds=ROW, seed=SEEDS, float_ends=st.booleans())
@settings(max_examples=MANY, **SHARED)
def test_no_row_of_thousands_of_graphs_differs(differing, kinds, seed, float_ends):
    holds(differing, kinds, seed, float_ends=float_ends)


@pytest.mark.slow
@given(kinds=WIDE_ROW, seed=SEEDS)
@settings(max_examples=MANY, **SHARED)
def test_no_row_of_thousands_of_graphs_differs_in_int16(differing, kinds, seed):
    holds(differing, kinds, seed, "int16")


@pytest.mark.parametrize("kind", sorted(OPERATORS))
def test_hardly_any_graph_of_one_operator_is_refused(differing, kind):
    """Refusing is always equal: this says that it is not how the others come out equal."""
    refused = 0
    for seed in range(6):
        try:
            assert differing(random_graph([kind], seed)) == 0
        except CannotRunError:
            refused += 1
    assert refused <= 1


def test_every_operator_is_tried():
    assert set(KERNELS) - set(OPERATORS) == {"DEQUANTIZE", "PADV2"}  # the ends of a graph; half of all PADs


def test_the_same_seed_makes_the_same_file():
    assert random_graph(["CONV_2D", "ADD"], 5) == random_graph(["CONV_2D", "ADD"], 5)
    assert np.any(random_graph(["CONV_2D", "ADD"], 5) != random_graph(["CONV_2D", "ADD"], 6))
