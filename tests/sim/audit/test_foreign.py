"""Audits of files as other people bring them: asked rightly, or refused by name and with what to do."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from edge.sandbox import Limits
from sim.audit import subject
from sim.audit.run import _constant, _repeated
from sim.audit.task import Form
from sim.errors import InputError
from tests.edge.foreign import made, records, with_uint8_ends
from tests.sim.audit import conftest

REFUSED = {
    "vela": "compiled for an Arm Ethos-U NPU, by Arm's compiler Vela; only that hardware runs it. Audit the file that",
    "edgetpu": "compiled for a Coral Edge TPU",
    "random": r"draws random numbers \(RANDOM_UNIFORM\)",
    "forgotten": r"nothing in the file sets \(kept\)",
    "two-outputs": "it has 1 inputs and 2 outputs, not one of each",
    "label": "'Identity' is int32",
    "circular-buffer": r"gathers a stream slice by slice \(CIRCULAR_BUFFER\)",
    "normalised-over-its-batch": "depends on the others in its batch of 3",
    "lstm-time-major": "the first axis is time and no batch",
}
ASKED = ("ring-int8", "lstm", "batch-of-3", "uint8", "while")


@pytest.fixture(scope="module")
def examined(tmp_path_factory):
    """A foreign file by name, as an audit sees it."""
    folder = tmp_path_factory.mktemp("foreign")

    def examine(name: str) -> subject.Subject:
        path = folder / f"{name}.tflite"
        path.write_bytes(made(name))
        return subject.examine(path, Limits(seconds=60))

    return examine


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_asked_is_refused_by_name(name, examined):
    with pytest.raises(InputError, match=REFUSED[name]) as caught:
        subject.must_answer(examined(name))
    assert f"{name}.tflite" in str(caught.value)
    assert "without --members and --nonmembers" in str(caught.value)


@pytest.mark.parametrize("name", ASKED)
def test_what_is_asked_answers_in_any_order(name, examined):
    file, x = examined(name), records(name, 20)
    subject.must_answer(file)
    order = np.random.default_rng(3).permutation(len(x))
    for runtime in file.runtimes:
        np.testing.assert_array_equal(
            subject.asked(file, runtime)(x[order]), subject.asked(file, runtime)(x)[order], err_msg=runtime
        )


@dataclasses.dataclass
class _Records:
    """As much of a case as is needed to ask again."""

    x: np.ndarray

    @property
    def candidates(self):
        return self


def test_an_answer_that_is_not_repeated_ends_the_audit(examined):
    """The notes of what was answered are those of other records: as if the file had changed its mind."""
    file, x = examined("uint8"), records("uint8", 8)
    asked = subject.asked(file)
    asked(x)
    _repeated(_Records(x), file, asked)
    asked._notes = {key: -note for key, note in asked._notes.items()}
    with pytest.raises(InputError, match="answers 8 of 8 records otherwise when they are asked again"):
        _repeated(_Records(x), file, asked)


def test_a_model_that_answers_all_records_alike_is_said_to():
    target = dataclasses.make_dataclass("Target", ["asked", "form"])
    form = Form("classes", "logits", 0.0)
    alike, apart = (target(lambda x, spread=spread: np.ones((len(x), 2)) + spread * x, form) for spread in (0, 1))
    x = _Records(np.arange(12, dtype=np.float32).reshape(6, 2))
    assert "answers the same to all 6 records" in _constant(x, alike)
    assert not _constant(x, apart)


def test_a_count_that_leaves_something_out_is_a_lower_bound(examined):
    found = subject.structure(examined("while"))
    assert (found.macs, found.macs_uncounted) == (5 * 4, ["WHILE"])


@pytest.mark.slow
def test_uint8_ends_leak_what_the_int8_file_leaks(audited, model):
    """Levels are the same, moved by 128: every attack has the same AUC."""
    conftest.FILES["uint8"] = lambda: with_uint8_ends(conftest.model_file("leaky"))
    wide, plain = audited("uint8")[0], audited("leaky")[0]
    assert wide.structure.input.startswith("uint8")
    assert [(row.attack, row.auc) for row in wide.attacks] == [(row.attack, row.auc) for row in plain.attacks]
    assert Path(model("uint8")).is_file()


@pytest.mark.slow
def test_the_order_of_records_changes_no_figure_of_a_file_with_a_memory(saved, tmp_path):
    """Every attack that has no luck of its own gives each record the score it had, whatever came before it."""
    import io

    import pyarrow.parquet as pq
    from rich.console import Console

    from sim.audit.run import Request, audit
    from sim.progress import Progress

    (tmp_path / "ring.tflite").write_bytes(made("ring-int8"))
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(120, 2, 5)).astype(np.float32), rng.integers(4, size=120)
    scores = []
    for turn in (1, -1):
        files = [
            saved(f"{side}{turn}", x=x[part][::turn], y=y[part][::turn])
            for side, part in (("in", slice(0, 60)), ("out", slice(60, 120)))
        ]
        request = Request(
            model=tmp_path / "ring.tflite", members=files[0], nonmembers=files[1], out=tmp_path / str(turn)
        )
        document, folder = audit(request, Progress(Console(file=io.StringIO())))
        assert any("resource variable 'kept'" in words for words in document.findings)
        rows = pq.read_table(folder / "scores.parquet").to_pylist()
        loss = [row for row in rows if row["attack"] == "loss"]
        scores.append([[row["score"] for row in loss if row["member"] == side][::turn] for side in (True, False)])
    assert len(scores[0][0]) == 60
    np.testing.assert_array_equal(scores[0], scores[1])
