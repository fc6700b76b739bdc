"""The command as users meet it: a verdict in the first line, one JSON document, or exit code 2 and what to do."""

import json
import sys

import jsonschema
import numpy as np
import pytest

from sim import cli
from sim.audit.results import FILE


@pytest.fixture
def seepage(monkeypatch, capsys, tmp_path):
    """Runs the command in a folder of its own; gives exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["seepage", *map(str, words)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code or 0
        return code, *capsys.readouterr()

    return run


def test_the_verdict_comes_first(seepage, model, folder, tmp_path):
    code, out, _ = seepage(
        "audit", model("null"), "--members", folder / "members.npz", "--nonmembers", folder / "others.npz",
        "--device", "stm32f103",
    )  # fmt: skip
    assert code == 0
    assert " ".join(out.split()).startswith("null.tflite: no leak shown. The strongest of 6 attacks")
    assert "NO: flash" in out
    (made,) = (tmp_path / "audits").iterdir()
    assert {path.name for path in made.iterdir()} == {"audit.json", "report.html", "scores.parquet"}
    assert made.name in out.replace("\n", "")


def test_json_is_one_document_and_nothing_else(seepage, model):
    code, out, err = seepage("audit", model("leaky"), "--json")
    assert code == 0
    jsonschema.validate(json.loads(out), json.loads(FILE.read_text()))
    assert "sandbox" in err


RUBBISH = [
    (["gone.tflite"], "gone.tflite: there is no such file"),
    (["rubbish.tflite"], "rubbish.tflite: not a model that can be audited"),
    (["cut.tflite"], "cut.tflite: not a model that can be audited"),
    (["good.tflite", "--members", "m.npz"], "--nonmembers FILE.npz is missing"),
    (["good.tflite", "--nonmembers", "m.npz"], "--members FILE.npz is missing"),
    (["good.tflite", "--population", "m.npz"], "--population is for attacks, which need --members and --nonmembers"),
    (
        ["good.tflite", "--device", "toaster"],
        "--device toaster: not a board that is known. There are: nano-33-ble-sense",
    ),
    (["good.tflite", "--layout", "sideways"], "sideways"),
    (["good.tflite", "--members", "gone.npz", "--nonmembers", "m.npz"], "--members gone.npz: there is no such file"),
    (["good.tflite", "--members", "good.tflite", "--nonmembers", "m.npz"], "this is not an .npz file"),
    (
        ["good.tflite", "--members", "m.npz", "--nonmembers", "objects.npz"],
        "`x` holds Python objects, which are never unpickled",
    ),
    (["good.tflite", "--members", "m.npz", "--nonmembers", "small.npz"], "do not fit a model that takes (64,)"),
    (
        ["good.tflite", "--members", "m.npz", "--nonmembers", "m.npz"],
        "0 records are left once duplicates are taken out",
    ),
    (
        ["good.tflite", "--members", "m.npz", "--nonmembers", "o.npz", "--recipe", "r.toml"],
        "give --population FILE.npz",
    ),
    (
        ["good.tflite", "--members", "m.npz", "--nonmembers", "o.npz", "--population", "p.npz", "--recipe", "r.toml"],
        'model.name = "mpl"',
    ),
    (
        ["good.tflite", "--members", "m.npz", "--nonmembers", "o.npz", "--reference-model", "rubbish.tflite"],
        "--reference-model rubbish.tflite: not a model",
    ),
]


@pytest.fixture
def rubbish(tmp_path, model, folder):
    good = model("leaky").read_bytes()
    for name, content in (("good", good), ("rubbish", b"\x1c\0\0\0TFL3" + bytes(range(256))), ("cut", good[:5000])):
        (tmp_path / f"{name}.tflite").write_bytes(content)
    for name, source in (("m", "members"), ("o", "others"), ("p", "own")):
        (tmp_path / f"{name}.npz").write_bytes((folder / f"{source}.npz").read_bytes())
    np.savez(tmp_path / "objects.npz", x=np.array([{}] * 30, dtype=object))
    np.savez(tmp_path / "small.npz", x=np.ones((30, 7)), y=np.zeros(30, dtype=int))
    (tmp_path / "r.toml").write_text('[model]\nname = "mpl"\n')


@pytest.mark.usefixtures("rubbish")
@pytest.mark.parametrize(("words", "said"), RUBBISH)
def test_what_cannot_be_used_ends_with_exit_code_2_and_what_to_do(seepage, tmp_path, words, said):
    code, out, err = seepage("audit", *words)
    assert (code, out) == (2, "")
    assert said in err
    assert "Traceback" not in err
    assert not (tmp_path / "audits").exists()
