"""Our scores against those of other people's tools, on the same arrays. They are installed next to us for this test.

Pinned, and without what they drag in, where our own environment has it. tensorflow-privacy 0.9.0 comes without its
membership inference, 0.8.12 with it. privacy-meter on PyPI is version 1, from before RMIA; its successor is not there.
So RMIA is held against the formulas of its authors' repository, written out below; so is LiRA's plot.py.
"""

import os
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from attacks import signals
from attacks.likelihood import log_normal, offline, online
from attacks.lira import pooled_deviation
from attacks.references import mean_left_out
from attacks.rmia import log_ratio, share

RECORDS, CLASSES, MODELS = 60, 5, 12
PACKAGES = [
    *("adversarial-robustness-toolbox==1.20.1", "six"),
    *("tensorflow-privacy==0.8.12", "pandas", "python-dateutil", "immutabledict", "statsmodels", "patsy"),
    # sacroml's reports need the rest even where nothing is reported
    *("sacroml==2.0.1", "fpdf2", "fonttools", "pillow", "defusedxml", "pypdf", "pyyaml", "multiprocess", "dill"),
    *("matplotlib", "cycler", "kiwisolver", "contourpy", "pyparsing"),
]

THEIRS = """
import sys
sys.skip_tf_privacy_import = True
import numpy as np
folder = sys.argv[1]
given, found = np.load(folder + "/given.npz"), {}
p, y, phi, references, trained_on = (given[k] for k in ("p", "y", "phi", "references", "trained_on"))

from art.attacks.inference.membership_inference import MembershipInferenceBlackBoxRuleBased
from art.estimators.classification import BlackBoxClassifier
classifier = BlackBoxClassifier(lambda x: p[x[:, 0].astype(int)], input_shape=(1,), nb_classes=p.shape[1])
numbers = np.arange(len(p), dtype=np.float32)[:, None]
found["art_gap"] = MembershipInferenceBlackBoxRuleBased(classifier).infer(numbers, y)

from tensorflow_privacy.privacy.privacy_tests.membership_inference_attack import advanced_mia
from tensorflow_privacy.privacy.privacy_tests.membership_inference_attack.data_structures import AttackInputData
found["tfp_entropy"] = AttackInputData._get_entropy(p, None)
found["tfp_modified"] = AttackInputData._get_entropy(p, y)
found["tfp_phi"] = advanced_mia.calculate_statistic(p.copy(), y, is_logits=False, option="logit")
target = [[each] for each in phi]
sides = [[references[side[:, i], i][:, None] for i in range(len(phi))] for side in (trained_on, ~trained_on)]
found["tfp_offset"] = advanced_mia.compute_score_offset(target, *sides, option="out", median_or_mean="mean")
found["tfp_lira"] = advanced_mia.compute_score_lira(target, *sides, median_or_mean="mean")
found["tfp_lira_fixed"] = advanced_mia.compute_score_lira(target, *sides, fix_variance=True, median_or_mean="mean")

from sacroml.attacks.likelihood_attack import LIRAAttack
inside, outside = ({i: list(each[:, 0]) for i, each in enumerate(side)} for side in sides)
for mode in ("offline", "offline-carlini", "online-carlini"):
    attack = LIRAAttack(output_dir=folder, write_report=False, mode=mode)
    scores, _ = attack._compute_scores(y, p, outside, inside)
    found["sacro_" + mode] = np.array(scores)[:, 1]  # what it ranks members by
np.savez(folder + "/found.npz", **found)
"""


@pytest.fixture(scope="module")
def given():
    rng = np.random.default_rng(0)
    logits, y = rng.normal(scale=2, size=(RECORDS, CLASSES)), rng.permutation(np.arange(RECORDS) % CLASSES)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    phi = signals.scaled_confidence(p, y, "probabilities")
    trained_on = rng.permuted(np.tile([True, False], (RECORDS, MODELS // 2)), axis=1).T
    references = rng.normal(scale=3, size=RECORDS) + rng.normal(size=(MODELS, RECORDS)) + trained_on
    return {"p": p, "y": y, "phi": phi, "references": references, "trained_on": trained_on}


@pytest.fixture(scope="module")
def found(given, tmp_path_factory):
    """What the other tools make of it, in a process of its own that sees our packages and theirs."""
    packages, folder = tmp_path_factory.mktemp("packages"), tmp_path_factory.mktemp("arrays")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", packages, *PACKAGES]
    subprocess.run(install, check=True)
    np.savez(folder / "given.npz", **given)
    environment = os.environ | {"PYTHONPATH": str(packages)}
    subprocess.run([sys.executable, "-c", THEIRS, folder], check=True, env=environment, cwd=folder)
    return np.load(folder / "found.npz")


@pytest.fixture(scope="module")
def arrays(given):
    return given["phi"], given["references"], given["trained_on"]


def same(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9)


@pytest.mark.slow
def test_art(given, found):
    same(signals.correctness(given["p"], given["y"]), found["art_gap"])


@pytest.mark.slow
def test_tensorflow_privacy_entropies(given, found):
    same(signals.entropy(given["p"], given["y"], "probabilities"), found["tfp_entropy"])
    same(signals.modified_entropy(given["p"], given["y"], "probabilities"), found["tfp_modified"])
    same(given["phi"], found["tfp_phi"])


@pytest.mark.slow
def test_tensorflow_privacy_calibration_and_lira(arrays, found):
    """Their scores are small for members. Their one deviation divides by n, where ours divides by n - 1."""
    phi, references, trained_on = arrays
    same(phi - mean_left_out(references, ~trained_on)[0], found["tfp_offset"])
    same(online(*arrays), -found["tfp_lira"])
    shrunk = np.sqrt(1 - 1 / (MODELS // 2))
    sides = [
        log_normal(phi, mean_left_out(references, side)[0], pooled_deviation(references, side) * shrunk)
        for side in (trained_on, ~trained_on)
    ]
    same(sides[0] - sides[1], -found["tfp_lira_fixed"])


@pytest.mark.slow
def test_sacro(arrays, found):
    """Its 'offline' is the paper's one-sided test, its 'carlini' modes take means where plot.py takes medians."""
    same(stats.norm.cdf(offline(*arrays, "per-record")), found["sacro_offline"])
    same(online(*arrays), found["sacro_online-carlini"])
    phi, references, trained_on = arrays
    out = np.ma.masked_array(references, trained_on)
    two_sided = -stats.norm.logpdf(phi, out.mean(axis=0).data, out.std(axis=0).data)
    same(two_sided, found["sacro_offline-carlini"])


@pytest.mark.parametrize("variance", ["fixed", "per-record"])
def test_carlini_plot(arrays, variance):
    """Against plot.py's formulas; every record has six references on each side."""
    phi, references, trained_on = arrays
    inside, outside = (
        np.stack([references[side[:, i], i] for i in range(RECORDS)]) for side in (trained_on, ~trained_on)
    )
    axis = None if variance == "fixed" else 1
    deviation_in, deviation_out = inside.std(axis=axis), outside.std(axis=axis)
    p_in = stats.norm.logpdf(phi, np.median(inside, axis=1), deviation_in)
    p_out = stats.norm.logpdf(phi, np.median(outside, axis=1), deviation_in if axis is None else deviation_out)
    same(online(*arrays, variance, "carlini-plot"), p_in - p_out)
    theirs = -stats.norm.logpdf(phi, np.median(outside, axis=1), deviation_out)
    same(offline(*arrays, variance, "carlini-plot"), theirs)


def test_ml_privacy_meter():
    """Against run_rmia's formulas, which hold all pairs in memory."""
    rng = np.random.default_rng(1)
    p, out_p, z, out_z = rng.uniform(0.01, 1, size=(4, 300))
    for a in (0.0, 0.3, 1.0):
        ratio, own = (at / ((1 + a) / 2 * out + (1 - a) / 2) for at, out in ((p, out_p), (z, out_z)))
        theirs = (ratio[:, None] / own > 1).mean(axis=1)
        ours = share(log_ratio(np.log(p), out_p, a), log_ratio(np.log(z), out_z, a), compat="privacy-meter")
        same(ours, theirs)
