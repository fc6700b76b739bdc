"""What scoring costs: online LiRA with every model the target in turn, and RMIA of one target, against plain loops.

Run: python benchmarks/scoring.py        (under a minute)
256 models, 50,000 records; RMIA compares 50,000 records with 5,000 of the attacker's own. The loops take one record at
a time, as published code does; they are timed on some records and one target, and scaled up. Ratio: loop over ours.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from scipy.stats import norm

from attacks.lira_all import lira_all
from attacks.rmia import dominance

MODELS, RECORDS, OWN = 256, 50_000, 5_000
SOME = 1_000  # records that a loop is timed on
REPEATS = 3


def fastest(work: Callable[[], object], repeats: int = REPEATS) -> tuple[float, float]:
    """Wall and CPU seconds of the fastest of a few runs."""
    times = []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        times.append((time.perf_counter() - wall, time.process_time() - cpu))
    return min(times)


def lira_loop(phi: np.ndarray, member: np.ndarray, target: int) -> np.ndarray:
    """Online LiRA of one target, record by record."""
    others = np.arange(len(phi)) != target
    scores = []
    for column, inside in zip(phi[others].T, member[others].T, strict=True):
        index = len(scores)
        in_, out = column[inside], column[~inside]
        scores.append(
            norm.logpdf(phi[target, index], in_.mean(), in_.std())
            - norm.logpdf(phi[target, index], out.mean(), out.std())
        )
    return np.array(scores)


def rmia_loop(x: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Share of z dominated, record by record."""
    return np.array([np.mean(one - z >= 0) for one in x])


def told(what: str, ours: tuple[float, float], loop: float) -> None:
    wall, cpu = (seconds * 1e3 for seconds in ours)
    print(f"{what:<44} {wall:>8.1f} ms wall {cpu:>8.1f} ms CPU   loop {loop:>8.2f} s   x{loop / ours[1]:,.0f}")


def main() -> None:
    rng = np.random.default_rng(0)
    member = rng.random((MODELS, RECORDS)) < 0.5
    phi = rng.normal(size=RECORDS) * 5 + rng.normal(size=(MODELS, RECORDS)) + 2 * member
    some = slice(0, SOME)
    _, loop = fastest(lambda: lira_loop(phi[:, some], member[:, some], 0), 1)
    loop *= RECORDS / SOME * MODELS
    np.testing.assert_allclose(lira_all(phi[:, some], member[:, some])[0], lira_loop(phi[:, some], member[:, some], 0))
    told(f"LiRA, {MODELS} targets, a deviation per record", fastest(lambda: lira_all(phi, member)), loop)
    told(f"LiRA, {MODELS} targets, one deviation", fastest(lambda: lira_all(phi, member, "fixed")), loop)
    x, z = rng.normal(size=RECORDS), rng.normal(size=OWN)
    _, loop = fastest(lambda: rmia_loop(x[some], z), 1)
    told("RMIA, one target", fastest(lambda: dominance(x, z), 10), loop * RECORDS / SOME)


if __name__ == "__main__":
    main()
