"""The command as users meet it: what they get wrong ends with exit code 2 and one clear message."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from time import monotonic

import numpy as np
import pytest
from typer.testing import CliRunner

from sim import cli, manifest, run
from sim.catalogue import CATALOGUE
from sim.engines import ENGINES
from sim.folder import RunFolder
from sim.scenario import shipped_scenarios

SEEPAGE = Path(sys.executable).with_name("seepage")
OWN = """
name = "own"
[data]
source = "npz:{file}"
[population]
people = 1
[model]
name = "mlp"
width = 8
[federation]
rounds = 1
[attacks]
references = 1
"""


def arrays(clients=4, each=12):
    rng = np.random.default_rng(0)
    n = clients * each
    x = rng.normal(size=(n, 5)).astype(np.float32)
    return {"x": x, "y": np.arange(n) % 3, "client": np.repeat(np.arange(clients), each)}


@pytest.fixture
def own(tmp_path):
    """Writes a scenario on the user's own arrays."""

    def write(**changed):
        np.savez(tmp_path / "mine.npz", **(arrays() | changed))
        return scenario(tmp_path)

    return write


def scenario(folder, text=OWN):
    file = folder / "own.toml"
    file.write_text(text.format(file=folder / "mine.npz"))
    return file


def clear(said, *parts):
    """Exit code 2, nothing on standard output, a message without a traceback that holds all parts."""
    assert said.code == 2, said
    assert not said.out and "Traceback" not in said.err
    for part in parts:
        assert part in said.err, said.err


def refused(seepage, tmp_path, file, *words, says):
    """The run is refused, and leaves no folder at all."""
    clear(seepage("run", file, "--out", tmp_path / "runs", *words), *says)
    assert not (tmp_path / "runs").exists()


def test_broken_toml(seepage, tmp_path):
    refused(seepage, tmp_path, scenario(tmp_path, "name = \n[data]\n"), says=["own.toml: not valid TOML", "line 1"])


def test_all_unknown_keys_at_once(seepage, tmp_path, tiny_file):
    sets = ("--set", "federation.rouns=3", "--set", "modle.name=mlp")
    refused(seepage, tmp_path, tiny_file, *sets, says=["2 things to mend", "mean rounds?", "mean model?"])


def test_no_such_scenario(seepage, tmp_path):
    refused(seepage, tmp_path, tmp_path / "quickstrat.toml", says=["no such file", "scenarios/quickstart.toml"])


def one_client():
    return {"client": np.zeros(48, dtype=int)}


def one_left():
    return {"client": np.repeat([0, 1], 24)}


def with_nan():
    x = arrays()["x"]
    x[7, 2] = np.nan
    return {"x": x}


BAD = {
    "one client": (one_client, ["`client` names 1 client", "at least 2"]),
    "one client left": (one_left, ["1 client is left", "at least 2"]),
    "NaN": (with_nan, ["mine.npz", "x"]),
    "labels of another length": (lambda: {"y": np.arange(7)}, ["y", "7", "48"]),
}


@pytest.mark.parametrize("case", BAD)
def test_data_that_cannot_be_used(case, seepage, own, tmp_path):
    make, says = BAD[case]
    refused(seepage, tmp_path, own(**make()), says=says)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"not a zip at all"])
def test_an_npz_file_that_cannot_be_read(content, seepage, tmp_path):
    (tmp_path / "mine.npz").write_bytes(content)
    refused(seepage, tmp_path, scenario(tmp_path), says=["mine.npz", "not an .npz file"])


def test_a_file_with_python_objects_is_never_unpickled(seepage, own, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "exploded",))

    np.savez(tmp_path / "mine.npz", **(arrays() | {"x": np.array([Bomb()] * 48, dtype=object)}))
    with np.load(tmp_path / "mine.npz", allow_pickle=True) as archive:
        assert len(archive["x"]) == 48
    (tmp_path / "exploded").unlink()  # it works; so its absence below means something
    refused(seepage, tmp_path, scenario(tmp_path), says=["mine.npz", "x"])
    assert not (tmp_path / "exploded").exists()


def test_a_missing_data_set_says_how_to_get_it(seepage, tmp_path, tiny_file):
    words = ("--set", "data.source=fashion-mnist", "--set", f"data.folder={tmp_path}")
    refused(seepage, tmp_path, tiny_file, *words, says=[str(tmp_path), "dataset-fashion-mnist"])
    refused(seepage, tmp_path, scenario(tmp_path), says=["mine.npz: there is no such file", "np.savez"])


def test_a_model_that_does_not_fit_the_data(seepage, tmp_path, tiny_file):
    fits = "models for this data: mlp, cnn, ds-cnn"
    refused(seepage, tmp_path, tiny_file, "--set", "model.name=cnn1d", says=["model.name = cnn1d", "(1, 8, 8)", fits])


def test_an_empty_round(seepage, tmp_path, tiny_file):
    words = ("--set", "federation.participation=0.2", "--set", "model.name=cnn1d")
    says = [
        "federation.participation = 0.2: of 4 clients that is less than one",
        "Set it to 0.25 or more",
        "model.name",
    ]
    refused(seepage, tmp_path, tiny_file, *words, says=says)


def test_clients_of_one_person_only(seepage, tmp_path):
    shipped = next(path for path in shipped_scenarios() if path.stem == "quickstart")
    says = ["all 2 clients belong to one person", "at least 2 people are needed"]
    refused(seepage, tmp_path, shipped, "--set", "population.people=9", says=says)


def test_an_attacker_without_records(seepage, tmp_path, tiny_file):
    words = ("--set", "population.people=1", "--set", "population.records=1")
    refused(seepage, tmp_path, tiny_file, *words, says=["population: the attacker holds 1 record", "at least 2"])


def test_an_unknown_engine(seepage, tmp_path, tiny_file):
    refused(seepage, tmp_path, tiny_file, "--engine", "dask", says=["dask", "inprocess", "ray"])
    assert [engine.value for engine in cli.EngineName] == list(ENGINES)


@pytest.mark.parametrize("verb", ["attack", "report", "verify"])
def test_what_is_no_run_folder(verb, seepage, tmp_path):
    clear(seepage(verb, tmp_path), str(tmp_path), "not a run folder")
    clear(seepage(verb, tmp_path / "nowhere"), "not a run folder")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("verb", ["attack", "report"])
def test_an_unfinished_run(verb, seepage, copied):
    whole = manifest.read(copied)
    stages = json.loads((copied / "stages.json").read_text())
    (copied / "stages.json").write_text(json.dumps({"federate": stages["federate"]}))
    manifest.record(copied, whole, [copied / "stages.json"])
    clear(seepage(verb, copied), "stopped before its models were exported", f"seepage run {copied}/scenario.toml")
    (copied / "stages.json").unlink()
    manifest.write(copied, whole.model_copy(update={"files": {"scenario.toml": whole.files["scenario.toml"]}}))
    clear(seepage(verb, copied), "stopped before")


@pytest.mark.parametrize("verb", ["attack", "report"])
def test_a_damaged_run_folder(verb, seepage, copied):
    (copied / "stages.json").write_text('{"export": ')
    clear(seepage(verb, copied), "stages.json", "bytes, not the")


def test_training_that_diverges_is_told_with_the_client_and_the_scale_of_its_data(seepage, tmp_path, tiny_file):
    """A learning rate that passes every check and still leaves the numbers: told in words, and nothing looks done."""
    words = ("--set", "training.learning_rate=10", "--set", "training.weight_decay=1000", "--out", tmp_path)
    said = seepage("run", tiny_file, *words, "--set", "training.epochs=4")
    clear(
        said, "client 0 failed", "diverged", "The clients' x runs to 1 (largest at client ", "lower the learning rate"
    )
    (path,) = tmp_path.iterdir()
    folder = RunFolder(path)
    assert not folder.results.exists() and not folder.report.exists() and not folder.scores.exists()
    clear(seepage("report", path), "stopped before")


@pytest.mark.parametrize("debug", [True, False])
def test_the_traceback_is_for_debugging(debug, seepage, monkeypatch, copied):
    monkeypatch.setattr(run, "report", lambda path: 1 / 0)
    said = seepage("report", copied, *(["--debug"] * debug))
    assert said.code == 3 and "division by zero" in said.err and not said.out
    assert ("Traceback" in said.err) == debug


def test_flower_s_own_tracebacks_are_for_debugging(seepage):
    """It logs each failure of a client as an error, with a traceback; we tell the same in one line."""
    assert seepage("list", "models").code == 0
    flower = logging.getLogger("flwr")
    told = [flower.filter(flower.makeRecord("flwr", level, "a.py", 1, "x", (), None)) for level in (40, 50)]
    assert [bool(kept) for kept in told] == [False, True]


def test_listing_everything(seepage):
    said = seepage("list", "--json")
    listing = json.loads(said.out)
    assert said.code == 0 and list(listing) == [kind.value for kind in cli.Kind] == list(CATALOGUE)
    assert all(rows and all(isinstance(v, str) for row in rows for v in row.values()) for rows in listing.values())


@pytest.mark.parametrize("kind", CATALOGUE)
def test_each_listing(kind, seepage, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    listing = json.loads(seepage("list", kind, "--json").out)
    assert list(listing) == [kind]
    said = seepage("list", kind)
    assert said.code == 0 and kind in said.out
    assert all(next(iter(row.values())) in said.out for row in listing[kind])


def test_a_kind_that_cannot_be_listed(seepage):
    clear(seepage("list", "modles"), "modles", "models")


def test_every_listed_data_set_model_and_attack_is_one(seepage):
    from attacks.audited import AUDITED
    from attacks.recoveries import RECOVERIES
    from attacks.registry import ATTACKS
    from clients.models import MODELS
    from sim.data.registry import DATASETS

    listing = json.loads(seepage("list", "--json").out)
    assert [row["name"] for row in listing["models"]] == list(MODELS)
    assert [row["name"] for row in listing["attacks"]] == [*ATTACKS, *AUDITED, *RECOVERIES, "calibration-ranges"]
    assert [row["name"] for row in listing["datasets"]] == list(DATASETS)
    assert {row["name"] for row in listing["scenarios"]} == {path.stem for path in shipped_scenarios()}


def test_doctor(seepage):
    said = seepage("doctor", "--json")
    findings = json.loads(said.out)
    assert said.code == 0 and "Traceback" not in said.err
    assert all(f["works"] for f in findings if f["needed"]), [f for f in findings if not f["works"]]
    assert all(bool(f["mend"]) != f["works"] for f in findings)
    assert {"inprocess", "ray", "tflm", "watch", "torch"} <= {f["name"] for f in findings}


def test_doctor_for_people(seepage):
    said = seepage("doctor")
    assert said.code == 0 and "inprocess" in said.out and "ok" in said.out


def test_every_command_explains_itself():
    for words in ([], ["run"], ["attack"], ["report"], ["list"], ["doctor"]):
        told = CliRunner().invoke(cli.app, [*words, "--help"])
        assert told.exit_code == 0 and "Usage" in told.output


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=900, check=True).stdout


def test_help_is_there_at_once():
    """None of the heavy libraries is imported for it."""
    code = """
import sys
from sim import cli
for words in (["--help"], ["run", "--help"]):
    sys.argv = ["seepage", *words]
    try:
        cli.main()
    except SystemExit as stop:
        assert not stop.code
print([name for name in ("torch", "tensorflow", "flwr", "ray", "numpy", "pyarrow") if name in sys.modules])
"""
    told = python(code)
    assert "Usage" in told and told.endswith("\n[]\n")


def test_the_installed_command():
    done = subprocess.run([SEEPAGE, "report", "/nowhere"], capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 2 and not done.stdout and "not a run folder" in done.stderr


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["interrupted", "killed"])
def test_a_stopped_run_leaves_no_worker_and_nothing_that_looks_finished(how, tiny_file, tmp_path):
    words = [SEEPAGE, "run", tiny_file, "--out", tmp_path, "--set", "federation.rounds=100000"]
    process = subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell that runs this suite in the background has interrupts ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        while "federating" not in (line := process.stderr.readline()):
            assert line, "it ended before it began"
        if how == signal.SIGINT:
            os.killpg(process.pid, how)  # as a terminal does: to the whole process group
        else:
            process.kill()
        out, err = process.communicate(timeout=600)
        assert _gone(process.pid), "a worker trains on for nobody"
    finally:
        process.kill()
    if how == signal.SIGINT:
        assert process.returncode == 130 and not out and "Traceback" not in err and "stopped" in err, err
    (path,) = tmp_path.iterdir()
    assert not RunFolder(path).results.exists() and not RunFolder(path).stages.exists()


def _gone(group: int, patience: float = 30) -> bool:
    deadline, pause = monotonic() + patience, threading.Event()
    while monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        pause.wait(0.1)
    return False
