"""Scenario files: every fault at once and in words, overrides, and a round trip through the run folder."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.data.config import DataConfig, PopulationConfig
from sim.errors import InputError
from sim.folder import RunFolder, make, named, start
from sim.scenario import Scenario, load_scenario, shipped_scenarios
from sim.study.plan import parts

SMALLEST = 'name = "a"\n[data]\nsource = "watch"\n[model]\nname = "cnn1d"\n'


@pytest.fixture
def written(tmp_path):
    def write(text):
        file = tmp_path / "mine.toml"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return file

    return write


def refused(file, *sets):
    with pytest.raises(InputError) as error:
        load_scenario(file, sets)
    return str(error.value)


@pytest.mark.parametrize("path", list(shipped_scenarios()), ids=lambda path: path.stem)
def test_shipped_scenarios_load(path):
    scenario = load_scenario(path)
    assert scenario.name == path.stem and scenario.title
    assert f"seepage run scenarios/{path.name}" in path.read_text()  # its head says how to run it


def test_the_smallest_scenario(written):
    scenario = load_scenario(written(SMALLEST))
    assert (scenario.model.name, scenario.model.width, scenario.federation.rounds) == ("cnn1d", None, 20)


def test_every_fault_is_told_at_once(written):
    message = refused(
        written(
            'name = "A b"\nsed = 3\n[data]\nsource = "wach"\n[data.purchase]\nx = 1\n'
            '[model]\nname = "cnn2"\nwidht = 9\n[federation]\nrounds = 0\nparticipation = "some"\n'
            '[attacks]\nnames = ["lira", "liar"]\n[trainig]\nepochs = 1\n'
        )
    )
    head, *lines = message.splitlines()
    assert head.endswith("mine.toml: 10 things to mend")
    told = {line.split(" = ")[0].split(":")[0].strip(): line for line in lines}
    assert set(told) == {
        *("name", "sed", "data.source", "model.name", "model.widht", "federation.rounds", "federation.participation"),
        *("attacks.names", "trainig", "data.purchase.x"),
    }
    assert '"A b"' in told["name"]
    assert "Did you mean seed?" in told["sed"]
    assert '"wach"' in told["data.source"] and "watch, digits, fashion-mnist" in told["data.source"]
    assert '"cnn2"' in told["model.name"] and "'mlp'" in told["model.name"] and "Did you mean cnn" in told["model.name"]
    assert "unknown key. Did you mean width? Known here: name, norm, width" in told["model.widht"]
    assert "= 0: should be greater than or equal to 1" in told["federation.rounds"]
    assert '= "some": should be a valid number' in told["federation.participation"]
    assert "'liar'" in told["attacks.names"] and "cosine" in told["attacks.names"]
    assert "Did you mean training?" in told["trainig"] and "personalization" in told["trainig"]
    assert "unknown key. Known here: " in told["data.purchase.x"]


def test_a_name_where_a_list_belongs_or_nothing_in_it(written):
    assert "attacks.names = []: should have at least 1 item, not 0" in refused(written(SMALLEST), "attacks.names=[]")
    assert 'attacks.names = "loss": should be a list, such as ["a", "b"]' in refused(
        written(SMALLEST), "attacks.names=loss"
    )


def test_one_fault_is_one_thing(written):
    assert "mine.toml: 1 thing to mend\n" in refused(written(SMALLEST), "seed=-1")


def test_what_is_missing_is_named(written):
    message = refused(written('name = "a"\n[data]\npartition = "natural"\n'))
    assert "  data.source: missing" in message and "  model: missing" in message


def test_a_table_where_a_value_belongs_and_the_other_way_round(written):
    message = refused(written('name = "a"\nmodel = 3\n[data]\nsource = "watch"\n[seed]\nx = 1\n'))
    assert (
        "model = 3: should be a table of settings" in message
        and 'seed = {"x": 1}: should be a valid integer' in message
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("federation.rounds=5", 5),
        ("federation.rounds = 5 ", 5),
        ("federation.participation=0.5", 0.5),
        ("model.name=mlp", "mlp"),
        ('model.name="mlp"', "mlp"),
        ("attacks.names=['loss']", ("loss",)),
        ("title=a = b, no c", "a = b, no c"),
        ("title=", ""),
        ("seed=7", 7),
        ("data.purchase.records=700", 700),
    ],
)
def test_overrides(written, text, value):
    found = load_scenario(written(SMALLEST), [text])
    for part in text.partition("=")[0].strip().split("."):
        found = getattr(found, part)
    assert found == value


def test_later_overrides_win(written):
    assert load_scenario(written(SMALLEST), ["seed=2", "seed=3"]).seed == 3


@pytest.mark.parametrize("text", ["federation.rounds", "=5", ".rounds=5", "federation..rounds=5", ""])
def test_bad_forms_of_overrides(written, text):
    message = refused(written(SMALLEST), text)
    assert message.startswith(f"--set {text}: write it as table.key=value")


def test_an_override_below_a_value(written):
    assert "--set name.x.y=1: name is a value, not a table" in refused(written(SMALLEST), "name.x.y=1")
    assert "federation.rouns: unknown key. Did you mean rounds?" in refused(written(SMALLEST), "federation.rouns=1")


def test_broken_toml_says_where(written):
    message = refused(written("name = \n"))
    assert "mine.toml: not valid TOML" in message and "line 1" in message


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b'name = "\xe9"'])
def test_a_file_that_is_not_text(written, content):
    assert "mine.toml: cannot be read as a text file" in refused(written(content))


def test_a_folder_is_no_scenario(tmp_path):
    assert "cannot be read" in refused(tmp_path)


def test_a_missing_file_and_the_nearest_that_is_there(tmp_path):
    message = refused(tmp_path / "quikstart.toml")
    assert "quikstart.toml: no such file. did you mean scenarios/quickstart.toml?" in message
    assert "did you mean" not in refused(tmp_path / "zzz.toml")


def text():
    return st.text(st.characters(codec="utf-8", exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)


SCENARIOS = st.builds(
    Scenario,
    name=st.from_regex(r"[a-z0-9][a-z0-9._-]{0,20}", fullmatch=True),
    title=text(),
    seed=st.integers(0, 2**63 - 1),
    data=st.one_of(
        st.builds(
            DataConfig,
            source=st.sampled_from(["watch", "digits", "npz:some file.npz"]),
            folder=st.sampled_from([Path("/a b/c"), Path("/ü"), Path('/we"ird\\')]),
            records_per_client=st.one_of(st.none(), st.integers(2, 1000)),
            member_share=st.floats(0.06, 0.94),
        ),
        st.builds(
            DataConfig,
            source=st.just("digits"),
            partition=st.sampled_from(["iid", "shards", "dirichlet"]),
            clients=st.integers(2, 50),
            alpha=st.floats(1e-3, 1e6),
        ),
    ),
    population=st.builds(PopulationConfig, who=st.sampled_from(["other-people", "same-people"])),
    model=st.fixed_dictionaries(
        {"name": st.sampled_from(["mlp", "ds-cnn"]), "width": st.one_of(st.none(), st.integers(4, 512))}
    ),
    attacks=st.fixed_dictionaries({"names": st.sampled_from([("loss",), ("rmia", "cosine")])}),
)


@settings(max_examples=60, deadline=None)
@given(scenario=SCENARIOS)
def test_the_resolved_file_loads_to_the_same_scenario(scenario, tmp_path_factory):
    folder = named(scenario, tmp_path_factory.mktemp("runs"), "of some data")
    make(folder)
    start(folder, "run", scenario, "of some data")
    loaded = load_scenario(folder.scenario)
    assert loaded == scenario and loaded.sha256 == scenario.sha256
    assert folder == named(loaded, folder.path.parent, "of some data")


def test_the_finished_run_s_scenario_is_its_own(finished, tiny):
    assert load_scenario(RunFolder(finished[0].path).scenario) == tiny


def test_every_setting_is_in_the_fingerprint(written):
    file = written(SMALLEST)
    settings = json.loads(load_scenario(file).model_dump_json())
    changed = {"seed=2", "model.width=8", "attacks.references=5", "edge.output=probabilities"}
    assert settings["model"]["width"] is None
    assert len({load_scenario(file, [s]).fingerprint for s in changed} | {load_scenario(file).fingerprint}) == 5
    for same in ("seed=1", "data.folder=/x"):  # where the data lies is no setting: it has another place elsewhere
        assert load_scenario(file, [same]).fingerprint == load_scenario(file).fingerprint


def test_paths_start_from_the_scenario_s_folder(written, tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    text = SMALLEST.replace('"watch"', '"npz:mine.npz"')
    assert load_scenario(written(text)).data.folder == tmp_path
    assert load_scenario(written(text), ["data.folder=below"]).data.folder == tmp_path / "below"
    varied = f'{text}[study.variants.a.data]\nsource = "npz:other.npz"\n[study.variants.b.data]\nmember_share = 0.4\n'
    assert {part.scenario.data.folder for part in parts(load_scenario(written(varied)))} == {tmp_path}
    assert load_scenario(written(SMALLEST)).data.folder is None


def test_a_byte_order_mark_is_no_part_of_the_text(written):
    assert load_scenario(written(b"\xef\xbb\xbf" + SMALLEST.encode())) == load_scenario(written(SMALLEST))


@pytest.mark.parametrize(
    "text",
    [
        "title = " + "[" * 20_000,
        "title = " + "{a=" * 20_000,
        "a." * 2_000 + "b = 1",
        "[" + "a." * 300 + "b]",
        'x = "' + "y" * (1 << 20) + '"',
        "seed = " + "9" * 5_000,
        "when = 2021-99-99",
    ],
    ids=range(7),
)
def test_what_no_scenario_holds_is_refused(written, text):
    assert len(refused(written(SMALLEST + "[training]\n" + text))) < 1_000
    assert refused(written(SMALLEST), "training.epochs=0x" + "f" * 5_000)


def test_runs_of_a_study_have_names_and_seeds_of_their_own(written):
    long = SMALLEST.replace('"a"', f'"{"a" * 55}"')
    assert load_scenario(written(long + "[study.variants.four]\n"))
    message = refused(written(long + "[study.variants.fives]\n"))
    assert "study.variants.fives: its runs would be called NAME.VARIANT, 61 letters; 60 are allowed" in message
    message = refused(written(SMALLEST), f"seed={2**63 - 1}", "study.seeds=2")
    assert "the last seed would be 9223372036854775808" in message
