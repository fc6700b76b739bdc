"""What is asked about: records that the model can take, each on one side only."""

import numpy as np
import pytest

from edge.artifact import Port
from sim.audit.records import Files, load
from sim.audit.task import Ends, form
from sim.errors import InputError

ENDS = Ends((5,), (3,), 0.1, "FULLY_CONNECTED")
PORT = Port((1, 5), "float32")
INT8 = Port((1, 5), "int8", 1 / 255, -128)  # from 0 to 1


def side(seed, count=30, **more):
    rng = np.random.default_rng(seed)
    return {"x": rng.random((count, 5)).astype(np.float32), "y": rng.integers(3, size=count)} | more


@pytest.fixture
def loaded(saved):
    def go(members, others, own=None, ends=ENDS, port=PORT):
        paths = [
            saved(name, **arrays) if arrays else None for name, arrays in (("m", members), ("o", others), ("p", own))
        ]
        return load(Files(*paths, None), ends, port)

    return go


def test_both_sides_are_joined_and_the_truth_stays_outside(loaded):
    case = loaded(side(1), side(2), side(3, 40))
    assert case.task == "classes"
    assert (case.member.sum(), len(case.member), len(case.population)) == (30, 60, 40)
    np.testing.assert_array_equal(case.candidates.x[:30], side(1)["x"])
    assert case.people == 0


def test_records_in_both_files_are_taken_out_and_counted(loaded):
    members, others, own = side(1), side(2), side(3)
    others["x"][:4] = members["x"][:4]
    own["x"][0] = members["x"][9]
    members["x"][20] = members["x"][21]
    case = loaded(members, others, own)
    assert (case.member.sum(), (~case.member).sum(), len(case.population)) == (25, 26, 29)
    notes = " ".join(case.notes)
    assert "4 records are in both the member and the non-member file" in notes
    assert "1 record is more than once among members" in notes
    assert "1 record is of the population also in" in notes
    assert 21 not in case.row[case.member]


def test_the_same_file_twice_is_refused(loaded):
    with pytest.raises(InputError, match="0 records are left once duplicates are taken out; 10 or more are needed"):
        loaded(side(1), side(1))


def test_people_are_known_where_both_files_name_them(loaded):
    people = np.repeat(["a", "b", "c"], 10)
    case = loaded(side(1, person=people), side(2, person=np.repeat(["b", "c", "d"], 10)))
    assert (case.people, case.straddling) == (4, 2)
    assert loaded(side(1, client=np.arange(30)), side(2)).people == 0
    with pytest.raises(InputError, match="`person` is float64"):
        loaded(side(1, person=np.ones(30)), side(2))


def test_bytes_become_what_the_file_takes(loaded):
    rng = np.random.default_rng(0)
    images = [side(s, x=rng.integers(256, size=(30, 5), dtype=np.uint8)) for s in (1, 2)]
    case = loaded(*images, port=INT8)
    np.testing.assert_allclose(case.candidates.x[:30], images[0]["x"] / 255, rtol=1e-6)
    assert any("divided by 255" in note for note in case.notes)
    levels = [side(s, x=rng.integers(-128, 128, size=(30, 5), dtype=np.int8)) for s in (1, 2)]
    case = loaded(*levels, port=INT8)
    np.testing.assert_array_equal(INT8.levels(case.candidates.x[:30]), levels[0]["x"])


def test_numbers_that_the_input_cannot_hold_are_refused_or_said(loaded):
    with pytest.raises(InputError, match=r"outside what the file's input holds, 0 to 1; .*|Scale x as it was scaled"):
        loaded(side(1, x=side(1)["x"] * 255), side(2), port=INT8)
    edge = side(1)
    edge["x"][:, 0] += 1
    assert any("they are clipped" in note for note in loaded(edge, side(2), port=INT8).notes)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"x": np.full((30, 5), np.nan)}, r"has 150 value\(s\) that are NaN or infinite"),
        ({"x": np.array([["a"] * 5] * 30)}, "must hold numbers"),
        ({"x": np.ones((30, 6))}, "do not fit a model that takes"),
        ({"y": np.arange(29)}, "has 29 entries for 30 records"),
        ({"y": np.arange(30)}, "runs from 0 to 29; the model tells 3 classes apart"),
        ({"y": np.array(["a"] * 30)}, "number its classes as they were for training"),
        ({"y": np.ones((30, 2))}, "2 numbers for each record, and the model answers 3"),
        ({"y": np.eye(3)[np.arange(30) % 3]}, "one-hot"),
        ({"x": side(1, 5)["x"], "y": side(1, 5)["y"]}, "5 records are left"),
    ],
)
def test_what_is_wrong_with_the_records_is_said(loaded, wrong, words):
    with pytest.raises(InputError, match=words):
        loaded(side(1) | wrong, side(2))


def test_both_files_must_speak_of_the_same_task(loaded):
    with pytest.raises(InputError, match="speaks of regression"):
        loaded(side(1), side(2, y=np.ones((30, 3)) * 0.5))


def test_without_targets_a_model_must_be_an_autoencoder(loaded):
    members, others = ({"x": side(s)["x"]} for s in (1, 2))
    with pytest.raises(InputError, match="the model is no autoencoder: it takes 5 numbers and answers 3"):
        loaded(members, others)
    case = loaded(members, others, ends=Ends((5,), (5,), 0.0, ""))
    assert case.task == "reconstruction"
    np.testing.assert_array_equal(case.candidates.y, case.candidates.x)


def test_answers_are_read_as_what_they_are():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(50, 3)).astype(np.float32)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    steps = np.round(p * 256) / 256
    assert form("classes", ENDS, logits).output == "logits"
    behind = Ends((5,), (3,), 0.0, "FULLY_CONNECTED")  # a softmax that the operators do not show
    assert (form("classes", behind, p).output, form("classes", behind, p).resolution) == ("probabilities", 0.0)
    assert form("classes", behind, steps).resolution == 1 / 256
    softmax = Ends((5,), (3,), 1 / 256, "SOFTMAX")
    assert form("classes", softmax, steps).resolution == 1 / 256
    one = form("binary", Ends((5,), (1,), 1 / 256, "LOGISTIC"), steps[:, :1])
    np.testing.assert_allclose(one.read(steps[:, :1]), np.hstack([1 - steps[:, :1], steps[:, :1]]))
    plain = form("binary", Ends((5,), (1,), 0.1, "FULLY_CONNECTED"), logits[:, :1])
    np.testing.assert_array_equal(plain.read(logits[:, :1])[:, 1], logits[:, 0])
    many = form("classes", Ends((5,), (3,), 1 / 256, "LOGISTIC"), steps)
    np.testing.assert_allclose(many.read(np.full((1, 3), 0.5)), 0.0, atol=1e-12)
    assert np.isfinite(many.read(np.array([[0.0, 1.0, 0.5]]))).all()
