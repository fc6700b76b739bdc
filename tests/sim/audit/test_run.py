"""Whole audits of real files: members are found where there are any, and only there; every kind gets its own words."""

import io
import json

import jsonschema
import numpy as np
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from sim.audit import folder as folders
from sim.audit.results import FILE, Audit, json_schema
from sim.audit.run import Request, audit
from sim.errors import InputError
from sim.progress import Progress
from sim.verdict import control_holds

from .conftest import diabetes, digits

RECIPE = """
references = 2
[model]
name = "mlp"
width = 128
[training]
epochs = 40
optimizer = "adam"
learning_rate = 0.005
batch_size = 32
"""


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def row(document, attack, which="file"):
    return next(row for row in document.attacks if (row.attack, row.model) == (attack, which))


@pytest.fixture(scope="module")
def recipe(folder):
    path = folder / "recipe.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def full(audited, folder, model, recipe):
    """The model that remembers, with everything that an auditor can have."""
    return audited("leaky", population=folder / "own.npz", recipe=recipe, float_model=model("float"))


def test_the_members_of_a_model_that_remembers_are_found(full):
    document, _ = full
    assert document.verdict in ("singled out", "some, nobody singled out", "some, singling out not measurable")
    assert document.summary.startswith("leaky.tflite leaks: ")
    assert row(document, "loss").auc_ci[0] > 0.55
    assert row(document, "gap").auc_ci[0] > 0.55
    assert row(document, "label-copies").auc_ci[0] > 0.55
    assert row(document, "rmia").auc > row(document, "loss").auc
    assert document.members.accuracy > document.nonmembers.accuracy + 0.1
    assert control_holds(document.blind)
    assert row(document, "rmia").references == 2
    assert row(document, "loss").own_threshold is not None


def test_intervals_are_wider_for_the_best_of_many(full):
    for each in full[0].attacks:
        assert each.auc_ci_adjusted[0] <= each.auc_ci[0] <= each.auc <= each.auc_ci[1] <= each.auc_ci_adjusted[1]


def test_the_float_model_is_attacked_alone_and_together_with_the_file(full):
    document, _ = full
    assert row(document, "pair-joint", "pair").auc_ci[0] > 0.55
    assert row(document, "loss", "float model").auc_ci[0] > 0.55
    (pair,) = document.paired
    assert (pair.attack, pair.before, pair.after) == ("loss", "float model", "file")
    assert abs(pair.auc_difference) < 0.02


def test_host_and_device_are_compared_on_the_records(full):
    host = full[0].host_and_device
    assert (host.inputs, host.records) == ("the records", 800)
    assert 0 < host.rows_differing < 800  # LiteRT rounds once, the device twice
    assert host.labels_differing <= host.rows_differing
    assert abs(host.auc_difference) < 0.02


def test_the_files_are_whole_and_keep_to_the_schema(full):
    document, where = full
    assert where.name.startswith("leaky-")
    assert names(where) == ["audit.json", "report.html", "scores.parquet"]
    written = json.loads((where / "audit.json").read_text())
    jsonschema.validate(written, json.loads(FILE.read_text()))
    assert Audit.model_validate(written) == document
    scores = pq.read_table(where / "scores.parquet")
    assert len(scores) == 800 * len(document.attacks)
    page = (where / "report.html").read_text()
    assert document.summary[:40] in page
    assert 'http-equiv="Content-Security-Policy"' in page
    assert not [name for name in names(where.parent) if name.endswith((".part", ".old"))]


def test_the_shipped_schema_is_that_of_the_document():
    assert FILE.read_text() == json_schema(), "python -m sim.audit.results writes it again"


@pytest.fixture(scope="module")
def null(audited):
    """A model that trained on none of the records in either file."""
    return audited("null")[0]


def test_a_model_that_never_saw_the_members_leaks_nothing(null):
    assert null.verdict == "none shown"
    for name in ("loss", "entropy", "gap"):
        low, high = row(null, name).auc_ci_adjusted
        assert low < 0.5 < high
    assert "No reference models were given" in " ".join(null.findings)


def test_the_same_audit_gives_the_same_figures(audited, null):
    again = audited("null")[0]
    first, second = ([(r.attack, r.auc, r.auc_ci, r.tpr_at_fpr) for r in each.attacks] for each in (null, again))
    assert first == second


def test_a_softmax_in_steps_is_attacked_as_what_it_is(audited, model):
    document, _ = audited("softmax", reference_models=(model("null"),))
    assert (document.data.resolution, document.data.references_from) == (1 / 256, "files")
    assert row(document, "loss").output == "probabilities"
    assert row(document, "lira").auc_ci[0] > 0.55


def test_a_softmax_is_attacked_with_references_that_are_quantised_as_well(audited, folder, recipe):
    document, _ = audited("softmax", population=folder / "own.npz", recipe=recipe)
    assert (document.data.references, document.data.references_from) == (2, "recipe")
    assert row(document, "rmia").auc_ci[0] > 0.55


def test_without_records_there_is_the_structure_alone(audited):
    document, where = audited("leaky", members=None)
    assert (document.verdict, document.attacks, document.data) == ("structure only", [], None)
    assert document.structure.device_model
    assert document.structure.operators == {"FULLY_CONNECTED": 2}
    assert any(board.fits for board in document.boards)
    assert any(board.latency_ms for board in document.boards)
    assert document.host_and_device.inputs == "random numbers"
    assert names(where) == ["audit.json", "report.html"]


def test_files_that_differ_by_themselves_are_not_to_be_trusted(audited, saved):
    data = digits()
    shifted = saved("shifted", x=np.clip(data.x[400:800] + 0.15, 0, 1), y=data.y[400:800])
    document, _ = audited("leaky", nonmembers=shifted.with_suffix(""))
    assert document.verdict == "controls failed"
    assert document.summary.startswith("Do not trust these figures")
    assert any(pair.before == "blind control" for pair in document.paired)


def test_a_file_that_the_device_computes_wrongly_is_refused_as_such_and_audited_on_the_host(audited):
    document, _ = audited("weight-only")
    assert not document.structure.device_model
    assert all(board.fits is None for board in document.boards)
    assert document.data.runtime == "litert"
    said = " ".join(document.findings)
    assert "WRONG numbers" in said
    assert "audited as a host model" in said
    assert row(document, "loss").auc_ci[0] > 0.55


def test_one_logit_is_a_binary_classifier(audited, saved):
    data = digits()
    sides = [
        saved(name, x=data.x[part], y=(data.y[part] >= 5).astype(int)).with_suffix("")
        for name, part in (("m", slice(0, 400)), ("o", slice(400, 800)))
    ]
    document, _ = audited("binary", members=sides[0], nonmembers=sides[1])
    assert (document.data.task, document.data.answers) == ("binary", "one logit")
    assert row(document, "loss").auc_ci[0] > 0.55


def test_an_autoencoder_is_audited_by_what_it_rebuilds(audited, saved, folder):
    data = digits()
    members, others = saved("m", x=data.x[:150]).with_suffix(""), saved("o", x=data.x[400:800]).with_suffix("")
    recipe = folder / "rebuild.toml"
    recipe.write_text(RECIPE.replace("references = 2", "references = 1"))
    own = saved("p", x=data.x[800:1100])
    document, _ = audited("autoencoder", members=members, nonmembers=others, population=own, recipe=recipe)
    assert document.data.task == "reconstruction"
    assert row(document, "error").auc_ci[0] > 0.5
    assert row(document, "error-calibrated").auc_ci[0] > 0.55
    assert document.members.median_error < document.nonmembers.median_error
    assert {r.attack for r in document.attacks} == {"error", "error-relative", "error-calibrated", "error-likelihood"}


def test_a_regressor_is_audited_by_what_it_predicts(audited, saved):
    x, y = diabetes()
    members, others = (
        saved(n, x=x[s], y=y[s]).with_suffix("") for n, s in (("m", slice(0, 150)), ("o", slice(150, 300)))
    )
    document, _ = audited("regressor", members=members, nonmembers=others)
    assert (document.data.task, document.structure.kind) == ("regression", "float32")
    assert row(document, "error").auc_ci[0] > 0.6


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 60))])
def test_a_damaged_model_is_refused_or_audited_whole(model, tmp_path, seed):
    """tests/edge goes deeper: here a changed file ends in an input error or in a whole folder, never in between."""
    rng, out = np.random.default_rng(seed), tmp_path / "out"
    content = bytearray(model("leaky").read_bytes())
    content = content[: len(content) - 997 * (seed % 2)]
    for place in rng.integers(len(content) // 4, size=6):
        content[place] ^= 1 << rng.integers(8)
    path = tmp_path / "changed.tflite"
    path.write_bytes(content)
    try:
        _, where = audit(Request(model=path, out=out), Progress(Console(file=io.StringIO())))
    except InputError as error:
        assert str(path) in str(error)
        assert not out.exists()
    else:
        assert names(where) == ["audit.json", "report.html"]
        assert names(out) == [where.name]


def test_a_file_name_cannot_speak_to_the_terminal_or_the_page(model, tmp_path):
    path = tmp_path / "\x1b[31m<b>\udcff.tflite"
    path.write_bytes(model("leaky").read_bytes())
    document, where = audit(Request(model=path, out=tmp_path / "out"), Progress(Console(file=io.StringIO())))
    assert document.summary.isprintable()
    assert "<b>" not in (where / "report.html").read_text()


def test_an_audit_that_breaks_off_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), folders.written(tmp_path, "a-1") as part:
        (part / "report.html").write_text("half")
        raise RuntimeError
    assert names(tmp_path) == []


def test_an_audit_is_replaced_as_a_whole(tmp_path):
    for text in ("first", "second"):
        with folders.written(tmp_path, "a-1") as part:
            (part / text).write_text(text)
    assert names(tmp_path) == ["a-1"]
    assert names(tmp_path / "a-1") == ["second"]


@pytest.mark.parametrize("name", ["../../etc/passwd", "..", "/", "a b\nc", "%2e%2e/x", "\u202egnp.exe"])
def test_a_name_cannot_leave_the_folder(name):
    made = folders.name_of(name, [b"x"])
    assert "/" not in made
    assert not made.startswith(".")
    assert made.isascii()
    assert made.isprintable()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"reference_models": ("leaky",)}, "the same bytes as the audited file"),
        ({"reference_models": ("autoencoder",)}, "Both must be alike"),
        ({"float_model": "binary"}, "Both must be alike"),
    ],
)
def test_another_model_must_be_like_the_audited_one(audited, model, more, words):
    paths = {k: tuple(model(n) for n in v) if isinstance(v, tuple) else model(v) for k, v in more.items()}
    with pytest.raises(InputError, match=words):
        audited("leaky", **paths)
