"""The control: an attacker that sees the records and no model. If it succeeds, the two files differ by themselves."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import rankdata

from sim.audit.records import Case

FOLDS = 5
COMPONENTS = 32

Features = Float[np.ndarray, "records features"]
Scores = Float[np.ndarray, " records"]


def scores(case: Case, rng: np.random.Generator) -> Scores:
    """Scores of a classifier that is told who was a member in the other folds, from each record and its target alone.

    Gradient boosting on the first principal components (Das et al. 2024, arXiv 2406.16201). Nobody's records are in the
    fold and out of it, where the files name people who have records on both sides: knowing a person again would be no
    difference between members and others. Ranks within a fold, since folds differ in their base rate.
    """
    features, found = _features(case), np.zeros(len(case.member))
    for learn, tell in _folds(case, int(rng.integers(2**31))):
        found[tell] = _tell(features[learn], case.member[learn], features[tell], int(rng.integers(2**31)))
    return found


def _features(case: Case) -> Features:
    flat = case.candidates.x.reshape(len(case.member), -1)
    y = case.candidates.y
    if case.task in ("classes", "binary"):
        return np.column_stack([flat, np.eye(int(y.max()) + 1, dtype=np.float32)[y]])
    return np.column_stack([flat, y]) if case.task == "regression" else flat


def _folds(case: Case, seed: int) -> Iterator[tuple[Int[np.ndarray, " learn"], Int[np.ndarray, " tell"]]]:
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    sides = int(case.member.sum()), int((~case.member).sum())
    if case.straddling >= FOLDS:
        grouped = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
        folds = list(grouped.split(case.person, case.member, case.person))
        if all(0 < case.member[learn].sum() < len(learn) for learn, _ in folds):
            yield from folds
            return
    yield from StratifiedKFold(min(FOLDS, *sides), shuffle=True, random_state=seed).split(case.person, case.member)


def _tell(known: Features, member: np.ndarray, asked: Features, seed: int) -> Scores:
    from sklearn.decomposition import PCA
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(
        StandardScaler(),
        PCA(min(COMPONENTS, *known.shape), svd_solver="randomized", random_state=seed),
        HistGradientBoostingClassifier(max_iter=50, max_depth=3, random_state=seed),
    )
    model.fit(known, member)
    return np.asarray(rankdata(model.predict_proba(asked)[:, 1]) / len(asked))
