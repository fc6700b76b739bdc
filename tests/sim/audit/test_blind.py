"""The control: it sees nothing where members and others were dealt out, and finds a shift between the files."""

import numpy as np
import pytest

from attacks.observation import Records
from sim.audit.blind import scores
from sim.audit.records import Case
from sim.score import score
from tests.tolerances import near_chance


def case(shift, person=None, count=300):
    rng = np.random.default_rng(4)
    member = np.repeat([True, False], count)
    x = rng.normal(size=(2 * count, 12)).astype(np.float32)
    x[member, 0] += shift
    people = np.zeros(2 * count, dtype=int) if person is None else person(rng, member, x)
    straddling = 0 if person is None else 20
    y = rng.integers(4, size=2 * count)
    return Case(
        "classes",
        Records(x, y),
        member,
        people,
        straddling,
        straddling,
        np.arange(2 * count),
        Records(x[:0], y[:0]),
        (),
    )


def interval(case):
    rng = np.random.default_rng(0)
    nobody = np.zeros(len(case.member), dtype=int)
    found = score(scores(case, rng), case.member, nobody, nobody, rng, bootstrap=300)
    return found.auc, found.auc_ci


def test_records_from_one_pool_cannot_be_told_apart():
    assert near_chance(*interval(case(0.0)))


def test_a_shift_between_the_files_is_found():
    assert interval(case(1.0))[1][0] > 0.6


def test_to_know_a_person_again_is_no_difference_between_the_files():
    """Twenty people each have a place of their own, and most of each one's records are on one side."""

    def crowd(rng, member, x):
        people = np.where(rng.random(len(x)) < 0.95, np.where(member, 0, 10), np.where(member, 10, 0))
        people = people + rng.integers(10, size=len(x))
        x += 3 * rng.normal(size=(20, x.shape[1]))[people]
        return people

    found = case(0.0, crowd)
    alone = Case(*[getattr(found, name) if name != "straddling" else 0 for name in found.__slots__])
    grouped, ungrouped = interval(found)[1], interval(alone)[1]
    assert grouped[0] < 0.75 < ungrouped[0]


@pytest.mark.parametrize("seed", [0, 1])
def test_the_control_is_the_same_every_time(seed):
    one, other = (scores(case(0.5, count=50), np.random.default_rng(seed)) for _ in range(2))
    np.testing.assert_array_equal(one, other)
