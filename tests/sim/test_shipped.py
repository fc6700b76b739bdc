"""Further variants and heads trained on the device: exported, checked, attacked, compared; bundles of what ships."""

from __future__ import annotations

import json

import numpy as np
import pytest

from clients.randomness import generator
from edge.artifact import Artifact
from edge.bundle import read_bundle
from edge.firmware import missing
from edge.head import flashed, train
from edge.runtimes import predict
from sim.errors import InputError
from sim.given import federation_of
from sim.preflight import preflight
from sim.run import run
from sim.scenario import changed
from sim.shipped import answers, load_head, of_devices

EDGE = {"variants": ["int8", "int4"], "head": {"epochs": 5, "learning_rate": 0.2}}


@pytest.fixture(scope="module")
def forms(tiny, quiet, tmp_path_factory):
    """The small scenario with an int4 variant and a head beside what ships: scenario, folder, results."""
    scenario = changed(tiny, {"edge": EDGE})
    return scenario, *run(scenario, "inprocess", tmp_path_factory.mktemp("forms"), quiet)


def test_every_form_is_attacked_and_held_against_float(forms):
    scenario, _, results = forms
    assert of_devices(scenario) == ("int8", "int4", "head")
    asked = {(row.vantage, row.precision) for row in results.attacks if row.output == "logits"}
    assert asked == {
        *(("global-user", precision) for precision in ("float32", "int8", "int4")),
        *(("query", precision) for precision in ("float32", "int8", "int4", "head")),
    }
    compared = {(row.before, row.after) for row in results.comparisons if row.question == "rounding"}
    assert compared == {
        *(("global float32", f"global {form}") for form in ("int8", "int4")),
        *(("personal float32", f"personal {form}") for form in ("int8", "int4", "head")),
    }
    assert set(results.utility.beside) == {"int4", "head"}
    assert results.litert is not None and results.litert.records == sum(
        c.members + c.nonmembers for c in results.clients
    )


def test_every_file_is_checked_and_says_what_it_costs(forms):
    _, folder, results = forms
    assert [(row.target, row.variant) for row in results.edge] == [
        (target, variant) for variant in ("int8", "int4") for target in ("global", *["personal"] * 4)
    ]
    for row in results.edge:
        assert row.bytes == (folder.path / row.artifact).stat().st_size
        assert row.macs == 64 * 8 + 8 * 10  # 8x8 digits, eight hidden units, ten classes
        assert row.latency.interval is None or row.latency.interval[0] < row.latency.interval[1]
        assert row.latency.anchor and row.energy.anchor and row.fit


def test_a_head_is_what_the_device_trained_on_its_own_members(forms):
    scenario, folder, _ = forms
    split = flashed(Artifact.from_bytes(folder.artifact("global").read_bytes()))
    client = federation_of(scenario).clients[2]
    x, y = client.members
    rng = generator(scenario.seed, "on-device head", 2)
    wanted = train(split.head, split.features(x), y, scenario.edge.head, rng)
    found = load_head(folder, "personal-0002")
    np.testing.assert_array_equal(found.weight, wanted.weight)
    shown = answers(scenario, folder, "personal-0002", "head")(x)
    np.testing.assert_array_equal(shown, split.answers(wanted, split.features(x)))


def test_answers_are_tflite_micros(forms):
    scenario, folder, _ = forms
    x = federation_of(scenario).population.x
    for variant, name in (("int8", "personal-0001"), ("int4", "personal-0001-int4")):
        file = Artifact.from_bytes(folder.artifact(name).read_bytes())
        np.testing.assert_array_equal(answers(scenario, folder, "personal-0001", variant)(x), predict(file, x, "tflm"))


def test_heads_without_noise_are_refused_where_records_are_promised_an_epsilon(tiny):
    noisy = changed(tiny, {"edge": EDGE, "privacy": {"record": {"epsilon": 8.0}}})
    with pytest.raises(InputError, match=r"edge\.head: devices train their last layer without noise"):
        preflight(noisy)


def test_a_variant_named_twice_or_unknown_is_refused(seepage, tiny_file):
    said = seepage("run", tiny_file, "--set", 'edge.variants=["int8","int8"]')
    assert said.code == 2 and "edge.variants" in said.err and "each variant once" in said.err
    said = seepage("run", tiny_file, "--set", 'edge.variants=["int2"]')
    assert said.code == 2 and "int8-per-tensor" in said.err


@pytest.mark.parametrize(("model", "name"), [("global", "global"), ("3", "personal-0003")])
def test_a_bundle_says_where_the_model_comes_from(model, name, forms, seepage, tmp_path):
    _, folder, results = forms
    said = seepage("export", folder.path, "--model", model, "--out", tmp_path, "--json")
    assert said.code == 0, said.err
    manifest = read_bundle(tmp_path / f"{name}-int8")
    assert json.loads(said.out)["facts"]["name"] == f"{name}-int8" == manifest.facts.name
    assert (tmp_path / f"{name}-int8" / f"{name}-int8.tflite").read_bytes() == folder.artifact(name).read_bytes()
    assert manifest.facts.calibration.source == results.calibration.source
    assert {row.vantage for row in manifest.facts.audit} == {"server", "global-user" if model == "global" else "query"}
    assert manifest.facts.controls[0].auc == results.controls.blind.auc
    assert (tmp_path / "global-int8-head-training.tflite").exists() == (model == "global")


def test_a_variant_that_the_run_did_not_ask_for_is_exported_from_its_model(forms, seepage, tmp_path):
    _, folder, _ = forms
    said = seepage("export", folder.path, "--variant", "int16x8", "--out", tmp_path)
    assert said.code == 0, said.err
    assert "same label as float" in said.out
    assert Artifact.load(tmp_path / "global-int16x8" / "global-int16x8.tflite").input.numbers == "int16"


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        (("--model", "9"), r"--model 9: no such model"),
        (("--device", "abacus"), r"--device abacus: not known; choose one of nano"),
        (("--firmware", "z80"), r"--firmware z80: not known; choose one of cortex-m4"),
    ],
)
def test_what_does_not_exist_is_refused(words, wrong, forms, seepage, tmp_path):
    said = seepage("export", forms[1].path, *words, "--out", tmp_path)
    assert said.code == 2 and wrong in said.err.replace("\n", " ")
    assert not any(tmp_path.iterdir())


def test_firmware_answers_as_tflite_micro_does(forms, seepage, tmp_path, lacking):
    if why := missing():
        lacking(why)
    said = seepage("export", forms[1].path, "--firmware", "cortex-m4", "--out", tmp_path, "--json")
    assert said.code == 0, said.err
    counted = json.loads(said.out)["emulated"]
    assert counted["records_differing_from_tflite_micro"] == 0 and counted["records_compared"] == 20
    assert counted["emulated"]["instructions"] > 0
    assert (tmp_path / "global-int8-cortex-m4" / "firmware.elf").exists()
