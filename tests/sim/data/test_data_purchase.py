"""The made-up baskets: the same again for the same seed, cached safely, and shaped as documented."""

import numpy as np
import pytest

from clients.randomness import generator
from sim.data import purchase_like
from sim.data.dataset import DataError
from sim.data.purchase_like import PurchaseOptions, baskets, cache_file, cluster
from sim.data.registry import DATASETS, load

SMALL = PurchaseOptions(records=600, products=120, classes=10, styles=20)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_the_same_seed_gives_the_same_baskets_cached_or_not():
    first = load("purchase-like", seed=3, purchase=SMALL)
    path = cache_file(SMALL, 3)
    assert path.is_file() and [p.name for p in path.parent.iterdir()] == [path.name]
    cached = load("purchase-like", seed=3, purchase=SMALL)
    path.unlink()
    made = load("purchase-like", seed=3, purchase=SMALL)
    for other in (cached, made):
        assert np.array_equal(first.x, other.x) and np.array_equal(first.y, other.y)
    assert not np.array_equal(first.x, load("purchase-like", seed=4, purchase=SMALL).x)


def test_every_option_and_the_seed_are_in_the_key():
    keys = {cache_file(SMALL, 0), cache_file(SMALL, 1)}
    for name, value in SMALL.model_dump().items():
        keys.add(cache_file(SMALL.model_copy(update={name: value + 1}), 0))
    assert len(keys) == 2 + len(PurchaseOptions.model_fields)


def test_it_is_called_synthetic_and_holds_bits():
    data = load("purchase-like", purchase=SMALL)
    assert data.synthetic and "synthetic" in data.title and DATASETS["purchase-like"].synthetic
    assert data.x.shape == (600, 120) and set(np.unique(data.x)) == {0, 1}
    assert np.bincount(data.y).min() >= purchase_like.SMALLEST


@pytest.mark.parametrize("content", [b"", b"not a zip"])
def test_a_damaged_cache_is_made_again(content):
    first = load("purchase-like", purchase=SMALL)
    cache_file(SMALL, 0).write_bytes(content)
    assert np.array_equal(load("purchase-like", purchase=SMALL).x, first.x)
    assert cache_file(SMALL, 0).stat().st_size > 100


def test_a_cache_that_cannot_be_written_only_costs_time(tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert len(load("purchase-like", purchase=SMALL)) == 600


def test_the_documented_basket_size():
    items = baskets(PurchaseOptions(records=4_000), generator(0, "test")).sum(axis=1)
    assert 53 < items.mean() < 65
    assert 100 < np.percentile(items, 95) < 130


def test_small_clusters_are_merged_and_labels_have_no_gap():
    bits = baskets(SMALL, generator(0, "test"))
    labels = cluster(bits, 25, generator(0, "labels"))
    counts = np.bincount(labels)
    assert 2 <= len(counts) < 25 and counts.min() >= purchase_like.SMALLEST and counts.sum() == 600


def test_too_many_classes_for_the_records():
    bits = baskets(SMALL, generator(0, "test"))[:100]
    with pytest.raises(DataError, match="Raise `records` or lower `classes`"):
        cluster(bits, 90, generator(0, "labels"))


def test_labels_can_be_learned_but_not_perfectly():
    from sklearn.linear_model import LogisticRegression

    data = load("purchase-like", purchase=PurchaseOptions(records=2_000, products=200, classes=15, styles=40))
    model = LogisticRegression(C=0.05, max_iter=200).fit(data.x[:1_000], data.y[:1_000])
    assert model.score(data.x[:1_000], data.y[:1_000]) > 0.9
    assert 0.5 < model.score(data.x[1_000:], data.y[1_000:]) < 0.95
