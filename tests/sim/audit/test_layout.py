"""Which number goes where: the file's own layout first, torch's where it fits, and a question where both do."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.audit.layout import apply, read_as
from sim.errors import InputError


def records(*shape):
    return np.arange(2 * np.prod(shape), dtype=np.float32).reshape(2, *shape)


@pytest.mark.parametrize(
    ("given", "takes", "layout"),
    [
        ((8, 8, 3), (8, 8, 3), "channels-last"),
        ((3, 8, 8), (8, 8, 3), "channels-first"),
        ((8, 8), (8, 8, 1), "channels-last"),
        ((8, 8, 1), (8, 8, 1), "channels-last"),
        ((1, 8, 8), (8, 8, 1), "channels-last"),
        ((64,), (8, 8, 1), "channels-last"),
        ((3, 32), (1, 32, 3), "channels-first"),
        ((32, 3), (1, 32, 3), "channels-last"),
        ((5,), (5,), "channels-last"),
    ],
)
def test_the_layout_is_recognised(given, takes, layout):
    reading = read_as(given, takes, None, "x")
    assert reading.layout == layout
    x = records(*given)
    expected = np.moveaxis(x, 1, -1) if layout == "channels-first" else x
    np.testing.assert_array_equal(apply(x, takes, reading).ravel(), expected.ravel())


@pytest.mark.parametrize(("given", "takes"), [((3, 3, 3), (3, 3, 3)), ((8, 8), (1, 8, 8)), ((192,), (8, 8, 3))])
def test_where_both_layouts_fit_the_user_is_asked(given, takes):
    with pytest.raises(InputError, match=r"both as they are .* Say which with --layout channels-last or --layout"):
        read_as(given, takes, None, "x")
    both = [
        apply(records(*given), takes, read_as(given, takes, layout, "x"))
        for layout in ("channels-last", "channels-first")
    ]
    assert both[0].shape == both[1].shape == (2, *takes)
    assert not np.array_equal(*both)


def test_what_does_not_fit_says_what_would():
    with pytest.raises(InputError, match=r"records of shape \(7, 7\) do not fit a model that takes \(8, 8, 1\)"):
        read_as((7, 7), (8, 8, 1), None, "x")
    with pytest.raises(InputError, match="as channels-first"):
        read_as((8, 8, 3), (8, 8, 3), "channels-first", "x")


@given(st.tuples(*[st.integers(1, 4)] * 3))
def test_channels_first_and_last_of_the_same_records_meet(takes):
    x = records(*takes)
    for layout, stored in (("channels-last", x), ("channels-first", np.moveaxis(x, -1, 1))):
        reading = read_as(stored.shape[1:], takes, layout, "x")
        np.testing.assert_array_equal(apply(stored, takes, reading), x)
