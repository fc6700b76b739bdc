"""Shopping baskets made up after the Purchase-100 benchmark: always synthetic, and always called so.

The benchmark (Shokri et al., IEEE S&P 2017, arXiv:1610.05820) is one record a shopper, 600 products bought or not, and
the label is the shopper's "purchase style": the cluster that k-means puts the basket in. The same order is kept here:
baskets first, labels last. Drawing the bits for a given label would make every class a set of independent bits, too
easy to learn and without records at a boundary.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from pathlib import Path
from typing import Self

import numpy as np
from jaxtyping import Bool, Float, Int
from pydantic import BaseModel, ConfigDict, Field, model_validator

from clients.randomness import generator
from sim.data.dataset import DataError, Dataset, check
from sim.data.npz import read

TITLE = "synthetic shopping baskets in the manner of Purchase-100"
HOW = "made on this machine; `purchase` sets its size"
VERSION = 1  # part of the cache's key: raise it when the same options give other records
SMALLEST = 20  # records of the smallest class that is kept
_log = logging.getLogger(__name__)


class PurchaseOptions(BaseModel):
    """How many baskets to make up, and how much shoppers differ."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    records: int = Field(default=24_000, ge=200, le=200_000, description="shoppers, one record each")
    products: int = Field(default=600, ge=40, le=10_000, description="products, one 0/1 feature each")
    classes: int = Field(default=100, ge=2, le=1_000, description="clusters asked of k-means; small ones are merged")
    styles: int = Field(default=300, ge=2, le=10_000, description="latent purchase styles that shoppers follow")
    alpha: float = Field(
        default=0.8, ge=1e-3, le=1e3, description="Dirichlet parameter of a style's mix of departments"
    )
    taste: float = Field(
        default=0.6, ge=0, le=5, description="spread of a style's product tastes (sigma of a lognormal)"
    )
    zipf: float = Field(default=0.6, ge=0, le=5, description="how unequal the products' popularity is (Zipf exponent)")
    items: float = Field(
        default=70.0, ge=0.1, le=1e5, description="typical purchases a year, counted before repeats fall together"
    )
    tilt: float = Field(
        default=2.0, ge=0.01, le=1e3, description="how closely a shopper follows the style (gamma shape)"
    )

    @model_validator(mode="after")
    def _enough_records(self) -> Self:
        if self.classes > self.records:
            raise ValueError(f"classes = {self.classes:,} is more than records = {self.records:,}; each needs some")
        return self


def load(options: PurchaseOptions, seed: int) -> Dataset:
    """The baskets that `options` and `seed` stand for, from the cache or made now. `x` is 0 or 1, (records, products).

    Raises:
        DataError: k-means found fewer than two classes of 20 records.
    """
    bits, labels = _cached(options, seed)
    classes = int(labels.max()) + 1
    return check(
        Dataset(
            source="purchase-like",
            title=f"{TITLE}, {classes} styles",
            licence="made by seepage: none needed",
            synthetic=True,
            x=bits.astype(np.float32),
            channels=("each number 1 for an article that was bought, 0 for one that was not",),
            y=labels.astype(np.int64),
            classes=tuple(f"style {i}" for i in range(classes)),
        )
    )


def baskets(options: PurchaseOptions, rng: np.random.Generator) -> Bool[np.ndarray, "records products"]:
    """What each shopper bought in a year.

    A product is bought with probability 1 - exp(-activity * share): Poisson purchases, at least one of them.
    """
    o = options
    shares = _style_shares(o, rng)
    department = np.arange(o.products) % _departments(o)
    style = rng.choice(o.styles, size=o.records, p=rng.dirichlet(np.ones(o.styles)))
    activity = o.items * rng.lognormal(sigma=0.6, size=o.records)
    bits = np.empty((o.records, o.products), dtype=bool)
    for start in range(0, o.records, 2_000):  # in parts, to bound the memory
        rows = slice(start, start + 2_000)
        tilt = rng.gamma(o.tilt, size=(len(style[rows]), _departments(o)))
        share = shares[style[rows]] * tilt[:, department]
        share /= share.sum(axis=1, keepdims=True)
        bits[rows] = rng.random(share.shape) < -np.expm1(-activity[rows, None] * share)
    return bits


def _departments(options: PurchaseOptions) -> int:
    return min(40, options.products)


def _style_shares(o: PurchaseOptions, rng: np.random.Generator) -> Float[np.ndarray, "styles products"]:
    """Each style's share of its purchases that goes to each product, up to a factor."""
    popularity = rng.permutation((1.0 + np.arange(o.products)) ** -o.zipf)
    department = np.arange(o.products) % _departments(o)
    within = popularity / np.bincount(department, weights=popularity)[department]
    mix = rng.dirichlet(np.full(_departments(o), o.alpha), size=o.styles)
    shares: Float[np.ndarray, "styles products"] = (  # abs: NumPy refuses a zero with a sign
        mix[:, department] * within * rng.lognormal(sigma=abs(o.taste), size=(o.styles, o.products))
    )
    return shares


def cluster(
    bits: Bool[np.ndarray, "records products"], classes: int, rng: np.random.Generator
) -> Int[np.ndarray, " records"]:
    """The k-means cluster of each basket, numbered from 0; clusters under 20 records go to the nearest larger one."""
    x = bits.astype(np.float32)
    distance = _k_means(x, classes, rng)
    label = distance.argmin(axis=1)
    kept = np.flatnonzero(np.bincount(label, minlength=classes) >= SMALLEST)
    if len(kept) < 2:
        raise DataError(
            f"purchase-like: {len(bits):,} records leave {len(kept)} of {classes} classes with {SMALLEST} records; at "
            "least 2 are needed. Raise `records` or lower `classes`."
        )
    nearest: Int[np.ndarray, " records"] = distance[:, kept].argmin(axis=1)
    return nearest


def _k_means(
    x: Float[np.ndarray, "records products"], classes: int, rng: np.random.Generator, rounds: int = 60
) -> Float[np.ndarray, "records classes"]:
    """Distance (squared, up to a constant of each record) to each centre that k-means ends with.

    Lloyd's rounds are written out because scikit-learn adds a centre up in the order its threads finish. Here a
    centre is a sum of bits, exact in any order, so the same seed gives the same clusters again.
    """
    centres = x[rng.choice(len(x), classes, replace=False)]
    label = np.full(len(x), -1)
    distance: Float[np.ndarray, "records classes"]
    for _ in range(rounds):
        distance = (centres**2).sum(axis=1) - 2 * (x @ centres.T)
        before, label = label, distance.argmin(axis=1)
        if np.array_equal(before, label):
            break
        mine = (label[:, None] == np.arange(classes)).astype(np.float32)
        count = mine.sum(axis=0)[:, None]
        centres = np.where(count > 0, mine.T @ x / np.maximum(count, 1), centres)
    return distance


def cache_file(options: PurchaseOptions, seed: int) -> Path:
    """Where the records for `options` and `seed` are kept: in $XDG_CACHE_HOME/seepage, or ~/.cache/seepage."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    key = json.dumps([VERSION, seed, options.model_dump()], sort_keys=True)
    return Path(base) / "seepage" / f"purchase-like-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz"


def _cached(
    options: PurchaseOptions, seed: int
) -> tuple[Bool[np.ndarray, "records products"], Int[np.ndarray, " records"]]:
    path = cache_file(options, seed)
    try:
        arrays = read(path, str(path), required=("bits", "labels"))
        bits = np.unpackbits(arrays["bits"], axis=1, count=options.products).astype(bool)
        if bits.shape == (options.records, options.products) and arrays["labels"].shape == (options.records,):
            return bits, arrays["labels"]
    except (DataError, ValueError, TypeError) as error:  # not there yet, or damaged: make it again
        _log.debug("no cached baskets: %s", error)
    bits = baskets(options, generator(seed, "purchase-like", "baskets"))
    labels = cluster(bits, options.classes, generator(seed, "purchase-like", "labels"))
    _keep(path, bits, labels)
    return bits, labels


def _keep(path: Path, bits: Bool[np.ndarray, "records products"], labels: Int[np.ndarray, " records"]) -> None:
    """Writes the cache file whole or not at all; a cache that cannot be written only costs time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            part = Path(folder) / path.name
            np.savez_compressed(part, bits=np.packbits(bits, axis=1), labels=labels)
            part.replace(path)
    except OSError as error:
        _log.warning("the baskets were not cached in %s: %s", path, error)
