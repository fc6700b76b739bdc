"""Features on one scale: warned about where they are not, and brought there without a word from any member."""

import numpy as np
import pytest

from sim.data.federation import noted
from sim.errors import InputError
from sim.folder import RunFolder, start
from sim.given import data_hash_of, federation_of
from sim.run import _refuse_changed_data
from sim.scenario import load_scenario
from sim.summary import _data_card

TABLE = """
name = "table"
[data]
source = "npz:{source}"
{more}
[population]
people = 2
[model]
name = "mlp"
"""


@pytest.fixture
def scenario(tmp_path):
    def made(scales, more="", people=None):
        rng = np.random.default_rng(0)
        x = rng.normal(size=(120, len(scales))).astype(np.float32) * scales
        arrays = {"x": x, "y": rng.integers(0, 2, 120), "client": np.repeat(np.arange(6), 20)}
        if people is not None:
            arrays["person"] = np.repeat(people, 20)
        name = f"own-{len(list(tmp_path.iterdir()))}.npz"  # a federation is built once for each name
        np.savez(tmp_path / name, **arrays)
        file = tmp_path / "table.toml"
        file.write_text(TABLE.format(source=name, more=more))
        return load_scenario(file)

    return made


def test_a_hundredfold_is_warned_about_and_less_is_not(scenario):
    (warning,) = noted(federation_of(scenario([1.0, 1.0, 0.002])))
    assert "the features lie" in warning and "data.standardise = true" in warning
    assert not noted(federation_of(scenario([1.0, 1.0, 0.2])))


def test_the_data_sets_that_come_along_are_on_one_scale(tiny):
    assert not [note for note in noted(federation_of(tiny)) if "fold apart" in note]
    watch = tiny.model_copy(update={"data": tiny.data.model_copy(update={"source": "watch", "partition": "natural"})})
    assert not [note for note in noted(federation_of(watch)) if "fold apart" in note]


def test_standardising_takes_its_figures_from_records_of_no_member(scenario):
    plain, scaled = (federation_of(scenario([1.0, 50.0, 0.002], more)) for more in ("", "standardise = true"))
    own = plain.population.x.astype(np.float64)
    mean, deviation = scaled.scaling
    assert mean == pytest.approx(own.mean(axis=0)) and deviation == pytest.approx(own.std(axis=0))
    for before, after in zip(plain.clients, scaled.clients, strict=True):
        assert after.x == pytest.approx((before.x - own.mean(axis=0)) / own.std(axis=0), rel=1e-5, abs=1e-5)
        assert np.array_equal(before.member, after.member) and after.x.dtype == np.float32
    assert scaled.population.x.std(axis=0) == pytest.approx([1, 1, 1], rel=1e-5)
    assert "no member has a say" in noted(scaled)[0]


def test_a_channel_is_scaled_as_one(tiny):
    data = tiny.data.model_copy(update={"standardise": True})
    scaled = federation_of(tiny.model_copy(update={"data": data}))
    assert len(scaled.scaling[0]) == 1 and scaled.clients[0].x.shape[1:] == (1, 8, 8)
    assert scaled.population.x.mean() == pytest.approx(0, abs=1e-5)
    assert scaled.population.x.std() == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize(("more", "expected"), [("", None), ("synthetic = true", True), ("synthetic = false", False)])
def test_own_data_is_synthetic_only_where_the_scenario_says_so(scenario, more, expected):
    assert federation_of(scenario([1.0, 1.0], more)).synthetic is expected


def test_data_that_is_known_needs_no_word(tiny_file):
    with pytest.raises(InputError, match="synthetic = true is for your own data"):
        load_scenario(tiny_file, ["data.synthetic=true"])


def test_people_are_people_only_where_the_data_names_them(scenario):
    hospitals = scenario([1.0, 1.0])
    card = _data_card(hospitals, federation_of(hospitals), [])
    assert card.natural and not card.names_people and card.synthetic is None
    named = scenario([1.0, 1.0], people=["ann", "bob", "cat", "dan", "eve", "fay"])
    assert _data_card(named, federation_of(named), []).names_people


def test_standardised_records_are_not_taken_for_changed_ones(scenario, tmp_path):
    """What a run was made of are the records as they are trained on, before and after the training."""
    told, folder = scenario([1, 900], "standardise = true"), RunFolder(tmp_path / "run")
    folder.path.mkdir()
    start(folder, "run", told, data_hash_of(told))
    _refuse_changed_data(told, folder)
    file = next(tmp_path.glob("*.npz"))
    arrays = dict(np.load(file))
    np.savez(file, **(arrays | {"x": arrays["x"] + 1}))
    with pytest.raises(InputError, match="changed while this run read it"):
        _refuse_changed_data(told, folder)
