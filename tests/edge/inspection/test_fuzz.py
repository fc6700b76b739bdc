"""Ten thousand hostile files: each ends in an inspection or in words, and nothing else happens."""

import collections
import json
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from edge.inspection import Inspection, inspect
from edge.sandbox import SANDBOXED, Limits, UnusableFileError, answers
from tests.edge import fuzz

LIMITS = Limits(seconds=3, memory_bytes=1 << 30, output_bytes=8 << 20)
LONGEST = 60.0  # seconds for one case: at most ten jobs, a few of which are stopped at their limit
SEED = 20261


@pytest.fixture(scope="session")
def seeds(made, exported):
    return [
        *(exported(name) for name in ("mlp", "cnn")),
        *map(made, ("full-int8", "float32", "dynamic-range", "training")),
    ]


def test_a_hundred_and_fifty(seeds, tmp_path, monkeypatch):
    counts = hunt(range(150), seeds, tmp_path, monkeypatch)
    assert sum(counts.values()) == 150
    assert counts["inspected"] > 10
    assert counts["refused"] > 50


@pytest.mark.slow
def test_ten_thousand(seeds, tmp_path, monkeypatch, capsys):
    counts = hunt(range(10_000), seeds, tmp_path, monkeypatch)
    with capsys.disabled():
        sys.stdout.write(f"\n10,000 hostile files: {dict(counts.most_common())}\n")
    assert sum(counts.values()) == 10_000


def hunt(cases, seeds, folder, monkeypatch):
    """Counts by outcome."""
    monkeypatch.chdir(folder)
    (folder / "decoy").write_text("decoy")
    before, threads, descriptors = snapshot(folder), threading.active_count(), len(listed("/proc/self/fd"))
    counts = collections.Counter()
    for number in cases:
        start = time.monotonic()
        counts[one(number, seeds)] += 1
        assert time.monotonic() - start < LONGEST, number
    assert snapshot(folder) == before
    assert not canaries(folder)
    assert threading.active_count() == threads
    assert len(listed("/proc/self/fd")) <= descriptors + 8  # two children's pipes
    return counts


def one(number, seeds):
    rng = np.random.default_rng([SEED, number])
    _, blob = fuzz.model(seeds, rng)
    if number % 8 == 0:
        blob = seeds[rng.integers(len(seeds))]  # a good file, and records that are not
    if number % 4 == 0:
        return asked(blob, rng)
    try:
        found = inspect(blob, LIMITS, rng=rng)
    except UnusableFileError as error:
        check_words(error)
        return error.ended
    check_complete(found)
    crashes = [each.runtime for each in found.runtimes if each.outcome == "crashes"]
    return f"inspected, {' and '.join(crashes)} crashed" if crashes else "inspected"


def asked(blob, rng):
    rows, runtime = (
        fuzz.array(rng, [(20,), (8, 8, 2), (8, 8, 3)][rng.integers(3)]),
        SANDBOXED[rng.integers(len(SANDBOXED))],
    )
    try:
        found = answers(blob, rows, runtime, LIMITS)
    except UnusableFileError as error:
        check_words(error)
        return f"not answered: {error.ended}"
    except ValueError as error:
        check_words(error)
        return "array refused"
    assert found.real.shape == found.levels.shape
    assert len(found.real) == len(rows)
    return "answered"


def check_words(error):
    words = str(error)
    assert words
    assert words.isprintable()
    assert len(words) < 2000
    assert "Traceback" not in words


def check_complete(found):
    """What says that it is complete is: sizes fit, nothing in it harms a terminal, a page or a JSON reader."""
    text = found.model_dump_json()
    assert text.isascii()
    assert text.isprintable()
    assert len(text) < 200_000
    assert Inspection.model_validate(json.loads(text, parse_constant=pytest.fail)) == found
    outcome = found.tried("tflm").outcome
    assert (found.arena_bytes is not None) <= (outcome == "takes")
    assert found.device_model <= (outcome == "takes")


def snapshot(folder):
    return listed(folder), listed("/"), (folder / "decoy").read_text()


def listed(path):
    return sorted(each.name for each in Path(path).iterdir())


def canaries(folder):
    places = [folder, folder.parent, folder.parents[1], Path("/"), Path("/tmp"), Path.home(), Path(__file__).parent]
    return [path for place in places for path in place.glob(f"*{fuzz.CANARY}*")]
