"""Two attacks that cannot succeed. If one does, the data or the tool leaks the answer, and no other figure counts."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import rankdata
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from attacks.observation import Guess, Records
from clients.randomness import generator
from sim.data.federation import Federation
from sim.diverged import whose
from sim.judge import Truth, guess_all, score_guesses
from sim.observe import candidates, stranger
from sim.prepare import Prepared
from sim.results import Control, Controls
from sim.scenario import Scenario

FOLDS = 5
COMPONENTS = 32


def controls(scenario: Scenario, federation: Federation, prepared: Prepared, truth: Truth) -> Controls:
    """Both controls, scored like any attack."""
    return Controls(
        blind=_blind(scenario, candidates(federation.clients), truth), stranger=_stranger(scenario, prepared, truth)
    )


def _blind(scenario: Scenario, records: Records, truth: Truth) -> Control:
    """An attacker that sees the data and no model, and is even told who was a member in four fifths of the records.

    A gradient-boosted classifier on the first principal components and the label, cross-fitted. If members and
    non-members differ in themselves, it finds out (Das et al. 2024, arXiv 2406.16201).
    """
    rng = generator(scenario.seed, "blind")
    flat = records.x.reshape(len(records), -1)
    features = np.column_stack([flat, np.eye(len(truth.classes))[records.y]])
    scores = np.zeros(len(records))
    larger = max(int(truth.member.sum()), int((~truth.member).sum()))  # a fold each at most
    folds = StratifiedKFold(min(FOLDS, larger), shuffle=True, random_state=int(rng.integers(2**31)))
    for learn, tell in folds.split(features, truth.member):
        scores[tell] = _tell(features[learn], truth.member[learn], features[tell], int(rng.integers(2**31)))
    scored = score_guesses(scenario, [Guess(scores)], truth, "blind")
    return Control(attack="data only", auc=scored.auc, auc_ci=scored.auc_ci)


def _tell(
    known: Float[np.ndarray, "known features"],
    member: Bool[np.ndarray, " known"],
    asked: Float[np.ndarray, "asked features"],
    seed: int,
) -> Float[np.ndarray, " asked"]:
    """Ranks in (0, 1] within the fold: folds differ in their base rate, which must not count against the attacker."""
    components = min(COMPONENTS, *known.shape)
    model = make_pipeline(
        StandardScaler(),
        PCA(components, svd_solver="randomized", random_state=seed),
        HistGradientBoostingClassifier(max_iter=50, max_depth=3, random_state=seed),
    )
    model.fit(known, member)
    ranks: Float[np.ndarray, " asked"] = rankdata(model.predict_proba(asked)[:, 1]) / len(asked)
    return ranks


def _stranger(scenario: Scenario, prepared: Prepared, truth: Truth) -> Control:
    """The most capable query attack of the scenario, on models that never saw the client it is asked about."""
    attack = next((name for name in ("rmia", "lira", "loss") if name in scenario.attacks.names), "loss")
    with whose(scenario, "the control 'stranger'"):
        guesses = guess_all(scenario, attack, stranger(scenario, prepared), "stranger")
    scored = score_guesses(scenario, guesses, truth, "stranger")
    return Control(attack=attack, auc=scored.auc, auc_ci=scored.auc_ci)
