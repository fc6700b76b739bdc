"""Studies: which runs they are made of, and how their figures are read together."""

import json

import numpy as np
import pyarrow as pa
import pytest

from sim.errors import InputError
from sim.results import Arm, Refusal
from sim.scenario import changed, load_scenario
from sim.score import auc
from sim.study.config import StudyConfig
from sim.study.evidence import key, shown
from sim.study.figures import Choice, counted, differences, over_choices, over_seeds
from sim.study.gather import gather
from sim.study.page import page
from sim.study.plan import Part, parts
from sim.study.results import StudyResults
from sim.verdict import Adjusted
from tests.sim.conftest import TINY
from tests.sim.report.conftest import make_run

TWO = """
[study]
seeds = 2
[study.variants.none]
[study.variants.small.model]
width = 4
"""


@pytest.fixture
def load(tmp_path):
    def write(text):
        file = tmp_path / "scenario.toml"
        file.write_text(text)
        return load_scenario(file)

    return write


def test_every_variant_is_run_with_every_seed(load):
    scenario = load(TINY + TWO)
    found = [
        (part.variant, part.scenario.name, part.scenario.seed, part.scenario.model.width) for part in parts(scenario)
    ]
    assert found == [
        ("none", "tiny.none", 7, 8),
        ("none", "tiny.none", 8, 8),
        ("small", "tiny.small", 7, 4),
        ("small", "tiny.small", 8, 4),
    ]
    assert all(part.scenario.study.single for part in parts(scenario))
    assert len({part.scenario.fingerprint for part in parts(scenario)}) == 4


def test_a_plain_scenario_is_one_run_of_itself(tiny):
    (only,) = parts(tiny)
    assert tiny.study.single and only == Part("as-is", tiny)


def test_changes_merge_into_tables_and_replace_values(tiny):
    assert changed(tiny, {"model": {"width": 4}}).model.name == "mlp"
    assert changed(tiny, {"attacks": {"names": ["loss"]}}).attacks.names == ("loss",)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            "[study.variants.odd.model]\nwidht = 4\n",
            "study.variants.odd: model.widht: unknown key. Did you mean width?",
        ),
        ("[study.variants.odd]\nseed = 4\n", "variant 'odd' sets seed, which belongs to the study"),
        ('[study.variants."Odd one"]\n', "variant 'Odd one': names are small letters"),
        ("[study]\nseeds = 0\n", "study.seeds = 0: should be greater than or equal to 1"),
    ],
)
def test_faults_name_the_variant_and_the_setting(load, table, message):
    with pytest.raises(InputError, match=message):
        load(TINY + table)


def test_the_interval_over_seeds_is_student_s():
    found = over_seeds([0.5, 0.6, 0.7])
    assert found.value == pytest.approx(0.6)
    half = 4.302652729911275 * 0.1 / np.sqrt(3)  # the t table at two degrees of freedom, the deviation is 0.1
    assert found.ci == pytest.approx((0.6 - half, 0.6 + half))
    assert over_seeds([0.99, 0.9]).ci[1] == 1.0
    assert over_seeds([0.6], (0.5, 0.7)).ci == (0.5, 0.7)


def test_one_value_has_no_interval_of_its_own():
    with pytest.raises(ValueError, match="no interval over seeds"):
        over_seeds([0.6])
    assert differences([0.7], [0.6]) is None


def test_differences_are_paired():
    found = differences([0.6, 0.8], [0.5, 0.7])
    assert found.value == pytest.approx(0.1)
    assert found.ci == pytest.approx((0.1, 0.1))


def covered(studies, seeds, attacks, shared, rng):
    """How often the interval of the strongest of equally strong attacks holds their common value, 0."""
    hits = 0
    for _ in range(studies):
        luck = np.sqrt(shared) * rng.normal(size=(seeds, 1))
        figures = luck + np.sqrt(1 - shared) * rng.normal(size=(seeds, attacks))
        low, high = over_choices(Choice(figures, figures).read, seeds, bounds=(-np.inf, np.inf)).ci
        hits += low <= 0 <= high
    return hits / studies


@pytest.mark.parametrize(("seeds", "attacks", "shared"), [(2, 16, 0.0), (3, 8, 0.0), (5, 16, 0.0), (10, 16, 0.6)])
def test_the_strongest_of_equals_is_covered(seeds, attacks, shared):
    """Student's interval of the same figures covers 94, 90, 83 and 86 %. Luck alone leaves 93 % of 400."""
    assert covered(400, seeds, attacks, shared, np.random.default_rng(seeds)) >= 0.93


@pytest.mark.slow
@pytest.mark.parametrize("shared", [0.0, 0.6])
@pytest.mark.parametrize("seeds", [3, 5, 10, 20])
@pytest.mark.parametrize("attacks", [2, 16, 40])
def test_the_strongest_of_equals_is_covered_everywhere(seeds, attacks, shared):
    assert covered(1000, seeds, attacks, shared, np.random.default_rng(seeds)) >= 0.935


def test_choices_of_one_attack_are_student_s_twice_over():
    """Nothing is chosen: the jackknife's variance is Student's own, and both are added up."""
    figures = np.array([[0.5], [0.6], [0.7]])
    found = over_choices(Choice(figures, figures).read, 3)
    assert found.value == pytest.approx(0.6)
    assert found.ci[1] - 0.6 == pytest.approx(np.sqrt(2) * (over_seeds([0.5, 0.6, 0.7]).ci[1] - 0.6))


def test_an_interval_counted_once_is_itself():
    one = over_seeds([0.5, 0.55, 0.6])
    assert counted(one, 1) == pytest.approx(one.ci)
    assert counted(one, 5)[0] < one.ci[0]


def null_study(rng, seeds, attacks=6, variants=2, lift=0.0):
    """Runs of whole studies in which every attack's scores are luck, half of it in common."""
    template = make_run().results
    first = template.attacks[0]
    found = {}
    for variant in range(variants):
        runs = []
        for seed in range(seeds):
            client, member = np.repeat(np.arange(4), 40), rng.random(160) < 0.5
            shared = rng.normal(size=160) + lift * member
            rows, tables = [], []
            for number in range(attacks):
                scores = shared + rng.normal(size=160)
                name = f"attack {number}"
                rows.append(first.model_copy(update={"attack": name, "auc": auc(scores, member), "tpr_at_fpr": {}}))
                who = {"attack": name, **{k: getattr(first, k) for k in ("vantage", "target", "precision", "output")}}
                fixed = {k: pa.array([value] * 160, pa.string()) for k, value in who.items()}
                tables.append(pa.table({**fixed, "client": client, "score": scores, "member": member}))
            results = template.model_copy(update={"attacks": rows, "seed": 100 * variant + seed})
            runs.append((results, pa.concat_tables(tables)))
        found[str(variant)] = runs
    return found


def test_a_study_of_nothing_says_so_and_one_of_a_leak_shows_it():
    said = [any(map(leaks_of, shown(null_study(np.random.default_rng(seed), 2)).values())) for seed in range(8)]
    assert sum(said) <= 2  # of 8 at one in forty, more happen once in a thousand
    weak = shown(null_study(np.random.default_rng(3), 4, lift=0.7))
    assert all(map(leaks_of, weak.values()))


def leaks_of(found):
    return found.auc_ci[0] > 0.5


def study_of(tmp_path, load, runs, text=TINY + TWO):
    """A study whose runs are made up: variant -> results of its seeds."""
    scenario = load(text)
    evidence = {
        (variant, key(row)): Adjusted((row.auc - 0.05, row.auc + 0.05), None)
        for variant, each in runs.items()
        for results in each
        for row in results.attacks
    }
    return gather(
        scenario,
        [(Part(variant, scenario), f"{variant}-{n}", r) for variant, each in runs.items() for n, r in enumerate(each)],
        evidence,
    )


def made_up(areas, **changes):
    """The made-up run, in which some attacks on personal float models have these areas and no others are there."""
    results = make_run().results
    row = next(a for a in results.attacks if (a.vantage, a.precision) == ("query", "float32"))
    rows = [row.model_copy(update={"attack": name, "auc": auc}) for name, auc in areas.items()]
    return results.model_copy(update={"attacks": rows, "refused": [], **changes})


def test_the_strongest_attack_is_chosen_without_the_seed_it_is_measured_on(tmp_path, load):
    runs = [made_up({"a": a, "b": b}) for a, b in ((0.6, 0.7), (0.6, 0.7), (0.9, 0.5))]
    study = study_of(tmp_path, load, {"none": runs})
    (row,) = study.strongest
    assert row.attacks == ["a", "a", "b"]  # by the other two seeds: 1.5 against 1.2, and 1.2 against 1.4
    assert row.auc.by_seed == [0.6, 0.6, 0.5]
    assert row.chosen_blind


def test_with_one_seed_the_strongest_is_the_largest_and_says_so(tmp_path, load):
    study = study_of(tmp_path, load, {"none": [made_up({"a": 0.6, "b": 0.7})]})
    (row,) = study.strongest
    assert (row.attacks, row.chosen_blind) == (["b"], False)
    assert row.auc.ci == made_up({"b": 0.7}).attacks[0].auc_ci
    assert any("One seed" in sentence for sentence in study.findings)


def test_what_could_not_be_tried_says_what_the_vantage_lacks(tmp_path, load):
    where = {"vantage": "query", "target": "personal", "precision": "float32", "output": "logits"}
    refusal = Refusal(attack="c", lacks="training rounds", reason="long", **where)
    lost = Refusal(attack="a", lacks="", reason="diverged", **where)
    runs = [
        made_up({"a": 0.6, "b": 0.6}, refused=[refusal]),
        made_up({"b": 0.6}, refused=[refusal, lost]),
    ]
    study = study_of(tmp_path, load, {"none": runs})
    cells = {cell.attack: cell for cell in study.cells}
    assert cells["c"].auc is None and cells["c"].lacks == "vantage lacks training rounds"
    assert cells["a"].auc is None and cells["a"].lacks == "measured with 1 of 2 seeds; else: diverged"
    assert cells["b"].auc.value == pytest.approx(0.6) and not cells["b"].lacks


def test_a_variant_is_held_against_the_first_seed_by_seed(tmp_path, load):
    runs = {"none": [made_up({"a": 0.70}), made_up({"a": 0.80})], "small": [made_up({"a": 0.60}), made_up({"a": 0.71})]}
    (row,) = study_of(tmp_path, load, runs).differences
    assert (row.question, row.variant, row.attack) == ("protection", "small", "a")
    assert row.difference.value == pytest.approx(-0.095)
    assert row.difference.by_seed == pytest.approx([-0.10, -0.09])


def test_a_variant_that_names_fewer_attacks_is_reported_all_the_same(tmp_path, load):
    study = study_of(tmp_path, load, {"none": [made_up({"loss": 0.7, "rmia": 0.6})], "small": [made_up({"loss": 0.6})]})
    text = page(study)
    assert text.count("not asked for") == 1
    assert "0.700" in text and "0.600" in text


def test_variants_are_compared_on_the_attacks_that_both_name(tmp_path, load):
    both = [made_up({"a": 0.6, "b": 0.9})] * 2, [made_up({"a": 0.6})] * 2
    (row,) = study_of(tmp_path, load, dict(zip(("none", "small"), both, strict=True))).differences
    assert row.attack == "a" and row.difference.value == 0


def test_newcomers_are_held_against_participants(tmp_path, load):
    def arms(participants, newcomers):
        results = made_up({"a": 0.7})
        sides = (("participants", participants), ("newcomers", newcomers))
        each = [
            Arm(who=who, clients=2, members=9, nonmembers=9, auc=auc, auc_ci=(0.4, 0.9), tpr_at_fpr={})
            for who, auc in sides
        ]
        return results.model_copy(update={"attacks": [results.attacks[0].model_copy(update={"arms": each})]})

    (row,) = study_of(tmp_path, load, {"none": [arms(0.6, 0.7), arms(0.6, 0.74)]}).differences
    assert (row.question, row.attack) == ("newcomers", "a")
    assert row.difference.value == pytest.approx(0.12)


def test_a_study_runs_from_the_command_line_and_is_reported_again(seepage, tmp_path):
    file = tmp_path / "two.toml"
    names = '[attacks]\nreferences = 1\nnames = ["loss", "cosine"]\n'
    file.write_text(TINY.split("[attacks]")[0] + names + "[study]\nseeds = 2\n")
    said = seepage("run", file, "--out", tmp_path / "runs")
    assert said.code == 0, said.err
    (folder,) = (tmp_path / "runs").iterdir()
    study = StudyResults.model_validate_json((folder / "study.json").read_text())
    assert study.seeds == [7, 8] and len(study.variants[0].runs) == 2
    assert all((folder / run / "report.html").exists() for run in study.variants[0].runs)
    seen = {(cell.attack, cell.vantage): cell for cell in study.cells}
    assert seen["cosine", "server"].auc is not None
    assert seen["cosine", "query"].lacks == "vantage lacks training rounds"
    assert seen["loss", "server"].like == "global-user"  # it has the final model
    assert all(sum([cell.auc is not None, bool(cell.lacks), cell.like is not None]) == 1 for cell in study.cells)
    assert "The strongest attack at each place" in said.out
    page = (folder / "report.html").read_text()
    assert page.count("cannot<sup>") == sum(1 for cell in study.cells if cell.lacks)
    shown = seepage("run", file, "--out", tmp_path / "runs", "--json")
    assert shown.code == 0 and shown.err.count("finished already") == 2
    assert StudyResults.model_validate(json.loads(shown.out)) == study
    assert json.loads(seepage("verify", folder, "--json").out)["belongs_together"]
    again = seepage("report", folder, "--json")
    assert again.code == 0 and StudyResults.model_validate(json.loads(again.out)) == study
    attacked = seepage("attack", folder, "--json")
    assert attacked.code == 0
    assert [c.auc for c in StudyResults.model_validate(json.loads(attacked.out)).cells] == [c.auc for c in study.cells]
    (folder / study.variants[0].runs[1] / "models" / "global.safetensors").unlink()
    for verb in ("attack", "verify", "run"):
        words = ("run", file, "--out", tmp_path / "runs") if verb == "run" else (verb, folder)
        said = seepage(*words)
        assert (
            said.code == 2 and f"{study.variants[0].runs[1]}/models/global.safetensors: missing" in said.out + said.err
        )


def test_a_budget_is_said_for_each_variant(seepage, tmp_path):
    file = tmp_path / "two.toml"
    file.write_text(TINY + TWO)
    said = seepage("budget", file, "--json")
    assert said.code == 0 and list(json.loads(said.out)) == ["none", "small"]
    assert "variant small" in seepage("budget", file).out


def test_a_study_of_nothing_but_one_seed_is_single():
    assert StudyConfig().single
    assert not StudyConfig(seeds=2).single
    assert not StudyConfig(variants={"none": {}}).single


def test_forms_of_a_model_are_held_against_its_float_answers(tmp_path, load):
    def run(soft, four_bits, labels):
        results = made_up({"a": soft})
        forms = ({"precision": "int4", "auc": four_bits}, {"output": "label", "auc": labels})
        rows = [results.attacks[0], *(results.attacks[0].model_copy(update=form) for form in forms)]
        return results.model_copy(update={"attacks": rows})

    study = study_of(tmp_path, load, {"none": [run(0.80, 0.75, 0.6), run(0.90, 0.83, 0.7)]})
    found = {(row.precision, row.output): row.difference for row in study.differences}
    assert found["int4", "logits"].by_seed == pytest.approx([-0.05, -0.07])
    assert found["float32", "label"].value == pytest.approx(-0.2)
    assert all(row.question == "format" for row in study.differences)
    assert any("personal int4 -0.060 [-0.187, +0.067]" in sentence for sentence in study.findings)
    assert "against float32 answers" in page(study)
