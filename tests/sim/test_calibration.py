"""The study of calibration sets on small exported models, and the words for it."""

import numpy as np
import pytest
from safetensors.torch import save_file

from attacks.calibration_set import SURE
from edge.reading import read
from sim.calibration import _called, calibration_leak
from sim.export import calibration_records, export_bytes
from sim.federate import GLOBAL
from sim.folder import RunFolder, personal_name
from sim.given import federation_of, fresh_model
from sim.report import calibrated
from tests.tolerances import near_chance


def calibrating(tiny, source, count):
    return tiny.model_copy(
        update={"edge": tiny.edge.model_copy(update={"calibration": source, "calibration_records": count})}
    )


@pytest.fixture
def exported(tiny, tmp_path):
    """A run folder whose models are untrained, exported as the scenario says."""

    def export(scenario):
        folder = RunFolder(tmp_path / scenario.edge.calibration)
        for part in (folder.models, folder.edge):
            part.mkdir(parents=True)
        clients, model = federation_of(scenario).clients, fresh_model(scenario)
        for name, owners in [("global", clients), *((personal_name(c.client), (c,)) for c in clients)]:
            save_file(model.state_dict(), folder.models / (GLOBAL if name == "global" else f"{name}.safetensors"))
            folder.artifact(name).write_bytes(export_bytes(scenario, model, calibration_records(scenario, owners)))
        return folder

    return export


@pytest.mark.parametrize("source", ["members", "held-out"])
def test_models_that_nobody_trained_tell_who_calibrated_them(tiny, exported, source):
    """So it is not training that shows."""
    scenario = calibrating(tiny, source, 10)
    shared, personal = calibration_leak(scenario, exported(scenario))
    clients = federation_of(scenario).clients
    pool = sum(len((c.members if source == "members" else c.held_out)[1]) for c in clients)
    assert (shared.target, shared.candidates, shared.inside, shared.compared) == ("global", pool, 10, pool)
    assert (personal.target, personal.models, personal.inside) == ("personal", len(clients), 10 * len(clients))
    assert personal.compared % 2 == 0
    for row in (shared, personal):
        assert row.vantage == "device"
        assert row.excluded.called > 0
        assert row.excluded.right >= 0.95 * row.excluded.called
        assert row.excluded.of == row.candidates - row.inside
    assert personal.auc > 0.55
    assert near_chance(personal.public_auc, personal.public_auc_ci)


def test_rounded_ranges_name_nobody(tiny, exported):
    scenario = calibrating(tiny, "members", 10)
    scenario = scenario.model_copy(update={"edge": scenario.edge.model_copy(update={"round_ranges": 2.0})})
    folder = exported(scenario)
    highest = read(folder.artifact("global").read_bytes()).ranges[0].high
    assert np.log2(highest) == pytest.approx(round(np.log2(highest)), abs=0.01)  # the zero point is a whole number
    assert all(row.found.called == 0 for row in calibration_leak(scenario, folder))


def test_public_calibration_is_not_studied(tiny, finished):
    assert calibration_leak(tiny, finished[0]) == []
    assert finished[1].calibration_leak == []


def test_where_every_record_calibrates_there_is_nobody_to_tell_apart(tiny, exported):
    scenario = calibrating(tiny, "members", 40)
    rows = calibration_leak(scenario, exported(scenario))
    assert [row.target for row in rows] == ["global"]


def test_same_files_same_figures(tiny, exported):
    scenario = calibrating(tiny, "members", 10)
    folder = exported(scenario)
    first, second = (
        [row.model_dump(exclude={"cpu_seconds"}) for row in calibration_leak(scenario, folder)] for _ in range(2)
    )
    assert first == second


def test_calls_are_counted_by_hand():
    scores = np.array([9.0, 8.0, 1.0, -9.0])
    calls = _called(scores > SURE, np.array([True, False, True, False]))
    assert (calls.called, calls.right, calls.of) == (2, 1, 2)
    assert calls.right_ci == pytest.approx((0.0126, 0.9874), abs=1e-4)
    assert _called(scores > 10, np.array([True, False, True, False])).right_ci is None


def test_words(tiny, finished, exported):
    scenario = calibrating(tiny, "held-out", 10)
    rows = calibration_leak(scenario, exported(scenario))
    card = finished[1].calibration.model_copy(update={"source": "held-out"})
    results = finished[1].model_copy(update={"calibration_leak": rows, "calibration": card})
    shared, personal = calibrated.sentences(results)
    assert "the global int8 model: of" in shared
    assert "none of them trained on, 10 set the ranges" in shared
    assert f"the {len(federation_of(scenario).clients)} personal int8 models" in personal
    assert "Calibrate on records that may be public" in personal
