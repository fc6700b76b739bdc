"""A small scenario walked from end to end: what lies in its folder, and that it comes out the same every time."""

import hashlib
import json

import jsonschema
import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

from attacks.registry import ATTACKS
from sim import manifest
from sim.engines import ENGINES
from sim.federate import federate
from sim.folder import RunFolder, create
from sim.results import Results
from sim.run import run
from sim.scenario import load_scenario

TIMES = {"timing", "cpu_seconds"}


def untimed(value):
    """A results document without what depends on the clock."""
    if isinstance(value, dict):
        return {key: untimed(part) for key, part in value.items() if key not in TIMES}
    return [untimed(part) for part in value] if isinstance(value, list) else value


def document(folder):
    return untimed(json.loads(folder.results.read_text()))


def weights(folder):
    """Name of each model file -> its tensors, byte for byte."""
    return {
        file.name: {name: tensor.tobytes() for name, tensor in load_file(file).items()}
        for file in sorted(folder.models.glob("*.safetensors"))
    }


def fingerprints(folder):
    """Hash and time of each file that an attack must leave alone."""
    parts = [folder.scenario, *(f for part in (folder.models, folder.edge, folder.transcript) for f in part.iterdir())]
    return {f.name: (hashlib.sha256(f.read_bytes()).hexdigest(), f.stat().st_mtime_ns) for f in parts}


def test_the_folder_holds_what_it_should(finished):
    folder, _ = finished
    assert {file.relative_to(folder.path).as_posix() for file in folder.path.rglob("*") if file.is_file()} == {
        *("scenario.toml", "stages.json", "scores.parquet", "results.json", "report.html", "edge/checks.json"),
        *("manifest.json", ".lock"),
        *(f"edge/{name}.tflite" for name in ("global", *(f"personal-{i:04d}" for i in range(4)))),
        *(f"models/{name}.safetensors" for name in ("global", "attackers-2", *(f"personal-{i:04d}" for i in range(4)))),
        *(f"transcript/round-{r:06d}.safetensors" for r in (1, 2, 3)),
        *("transcript/rounds.jsonl", "transcript/ledger.json"),
    }


def test_results_are_as_the_schema_says_and_as_they_were_told(finished, tiny, results_schema):
    folder, results = finished
    loaded = json.loads(folder.results.read_text())
    jsonschema.validate(loaded, results_schema)
    assert Results.model_validate(loaded) == results
    rows = {(a.attack, a.vantage, a.target, a.precision, a.output) for a in results.attacks}
    refused = {(r.attack, r.vantage, r.target, r.precision, r.output) for r in results.refused}
    targets = {row[1:] for row in rows | refused}
    assert rows | refused == {(name, *target) for name in tiny.attacks.names for target in targets}
    assert not rows & refused and len(rows) == len(results.attacks)
    asked = {name for name in tiny.attacks.names if "model to query" in ATTACKS[name].needs}
    assert {row[0] for row in rows if row[1] in ("global-user", "query")} <= asked
    assert {"cosine", "loss-series", "loss", "lira", "rmia"} <= {row[0] for row in rows}
    assert {(row[1], row[4]) for row in rows} == {("server", None), ("global-user", "logits"), ("query", "logits")}
    assert all(r.attack in r.reason for r in results.refused)
    assert {a.references for a in results.attacks if a.attack in ("lira", "rmia")} == {2}
    assert [c.client for c in results.clients] == [0, 1, 2, 3] and [r.round for r in results.rounds] == [1, 2, 3]


def test_scores_have_one_row_per_attack_and_record(finished):
    folder, results = finished
    scores = pq.read_table(folder.scores).to_pydict()
    records = results.data.records
    assert len(scores["score"]) == records * len(results.attacks)
    assert np.isfinite(scores["score"]).all()
    per_client = [scores["record"][i] for i in range(records) if scores["client"][i] == 1]
    assert per_client == list(range(50))
    members = sum(scores["member"][:records])
    assert members == results.attacks[0].members == sum(c.members for c in results.clients)


def test_inprocess_and_ray_give_the_same_run(finished, tiny, quiet, tmp_path):
    """And with it: the same seed twice gives the same run, for everything that the engines do not do themselves."""
    folder, _ = finished
    other, _ = run(tiny, "ray", tmp_path, quiet)
    assert weights(folder) == weights(other)
    assert document(folder) == document(other)
    assert pq.read_table(folder.scores).equals(pq.read_table(other.scores))
    for file in folder.edge.glob("*.tflite"):
        assert file.read_bytes() == other.artifact(file.stem).read_bytes()


def test_a_finished_run_is_shown_and_not_run_again(finished, tiny_file, copied, seepage):
    before = {file: file.stat().st_mtime_ns for file in copied.rglob("*") if file.name != ".lock"}
    said = seepage("run", tiny_file, "--out", copied.parent, "--json")
    assert said.code == 0 and "finished already" in said.err and "--again" in said.err
    assert Results.model_validate_json(said.out) == finished[1]
    assert before == {file: file.stat().st_mtime_ns for file in copied.rglob("*") if file.name != ".lock"}


def test_results_say_what_the_run_was_made_of(finished):
    folder, results = finished
    assert results.made_of == manifest.made_of(manifest.read(folder.path))
    assert {"scenario", "data", "transcript", "models", "edge"} == set(results.made_of)


def test_the_seed_decides(finished, tiny, quiet, tmp_path):
    again, other = create(tiny, tmp_path), create(tiny.model_copy(update={"seed": 4}), tmp_path)
    federate(tiny, ENGINES["inprocess"], again, quiet)
    federate(tiny.model_copy(update={"seed": 4}), ENGINES["inprocess"], other, quiet)
    first = weights(finished[0])
    assert weights(again) == {name: model for name, model in first.items() if not name.startswith("attackers")}
    assert all(weights(other)[name] != model for name, model in weights(again).items())


def test_a_run_killed_in_its_attacks_goes_on_there_and_trains_nothing(finished, copied, quiet):
    folder = RunFolder(copied)
    before = fingerprints(folder)
    outcome = (folder.scores, folder.results, folder.report)
    manifest.forget(copied, manifest.read(copied), [file.name for file in outcome])
    folder.results.unlink()
    run(load_scenario(folder.scenario), "inprocess", copied.parent, quiet)
    assert fingerprints(folder) == before
    assert document(folder) == document(finished[0])


def test_attacking_with_other_references_leaves_the_target_alone(finished, copied, seepage):
    folder = RunFolder(copied)
    before = fingerprints(folder)
    sets = ("--set", "attacks.references=3", "--set", 'attacks.names=["loss", "lira"]')
    said = seepage("attack", copied, "--json", *sets)
    assert said.code == 0, said.err
    after = fingerprints(folder)
    assert after.pop("attackers-3.safetensors") and after.pop("scenario.toml") != before.pop("scenario.toml")
    assert after == before and seepage("verify", copied).code == 0
    results = json.loads(said.out)
    assert {a["attack"] for a in results["attacks"]} == {"loss", "lira"}
    assert {a["references"] for a in results["attacks"] if a["attack"] == "lira"} == {3}
    # What needs no references is as it was.
    old = {(a["target"], a["precision"]): a["auc"] for a in document(finished[0])["attacks"] if a["attack"] == "loss"}
    assert {(a["target"], a["precision"]): a["auc"] for a in results["attacks"] if a["attack"] == "loss"} == old


def test_a_device_that_answers_probabilities(tiny_file, seepage, tmp_path, results_schema):
    """The attacker's references then answer in the same steps; and a client may never take part at all."""
    sets = ["edge.output=probabilities", "federation.participation=0.25", "federation.rounds=2"]
    said = seepage("run", tiny_file, "--out", tmp_path, "--json", *(w for s in sets for w in ("--set", s)))
    assert said.code == 0, said.err
    results = json.loads(said.out)
    jsonschema.validate(results, results_schema)
    outputs = {(a["precision"], a["output"]) for a in results["attacks"] if a["vantage"] != "server"}
    assert outputs == {("float32", "logits"), ("int8", "probabilities")}
    assert max(check["max_logit_error"] for check in results["edge"]) < 0.2  # in units of probability
    (path,) = tmp_path.iterdir()
    assert document(RunFolder(path)) == untimed(results)
    took_part = {c for f in (path / "transcript").glob("round-*") for c in load_file(f)["clients"].tolist()}
    scores = pq.read_table(path / "scores.parquet", filters=[("attack", "=", "cosine")]).to_pydict()
    silent = {score for score, client in zip(scores["score"], scores["client"], strict=True) if client not in took_part}
    assert 1 <= len(took_part) <= 2 and silent == {0}
    assert len(set(scores["score"])) > 20


def test_a_report_is_written_from_results_and_scores_alone(copied, seepage):
    folder = RunFolder(copied)
    page = folder.report.read_text()
    folder.report.unlink()
    for part in (folder.models, folder.edge, folder.transcript):
        for file in part.iterdir():
            file.unlink()
    said = seepage("report", copied)
    assert said.code == 0 and "tiny" in said.out
    assert folder.report.read_text() == page


def test_a_report_without_results_says_how_to_get_them(copied, seepage):
    folder = RunFolder(copied)
    folder.results.unlink()
    folder.report.unlink()
    said = seepage("report", copied)
    assert said.code == 2 and f"seepage attack {copied}" in said.err and not said.out
    assert not folder.report.exists()


@pytest.mark.parametrize("verb", ["attack", "report"])
def test_one_json_document_and_nothing_else(verb, copied, seepage, results_schema):
    said = seepage(verb, copied, "--json")
    assert said.code == 0, said.err
    jsonschema.validate(json.loads(said.out), results_schema)
    assert "Traceback" not in said.err
