"""Every data set by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from sim.data import digits, fashion_mnist, npz, own, purchase_like, watch
from sim.data.dataset import DataError, Dataset
from sim.data.own import Layout
from sim.data.purchase_like import PurchaseOptions

OWN = "npz:"


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of a loader: the source as written, where to look, how it is laid out, and what to make up."""

    source: str
    folder: Path | None = None
    seed: int = 0
    purchase: PurchaseOptions = field(default_factory=PurchaseOptions)
    layout: Layout | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """One data set: what it is, whether it knows whose each record is, how to get it, and how it is loaded.

    `synthetic` and `natural` are None where that depends on the file.
    """

    title: str
    synthetic: bool | None
    natural: bool | None
    how: str
    loader: Callable[[Request], Dataset]


def _own(request: Request) -> Dataset:
    """The user's own file; a relative path starts from the request's folder, or from the working directory."""
    path = own_path(request.source.removeprefix(OWN))
    return own.load((request.folder or Path()) / path, request.source, request.layout)


def own_path(text: str) -> Path:
    """A path as somebody wrote it, with the home folder in place of `~`. Raises DataError for a user who is unknown."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise DataError(f"{text}: {error}. Write the folder out.") from error


DATASETS: dict[str, Source] = {
    "watch": Source(watch.TITLE, False, True, watch.HOW, lambda _: watch.load()),
    "digits": Source(digits.TITLE, False, False, "installed with scikit-learn", lambda _: digits.load()),
    "fashion-mnist": Source(
        fashion_mnist.TITLE, False, False, fashion_mnist.HOW, lambda request: fashion_mnist.load(request.folder)
    ),
    "purchase-like": Source(
        purchase_like.TITLE,
        True,
        False,
        purchase_like.HOW,
        lambda request: purchase_like.load(request.purchase, request.seed),
    ),
    "npz:PATH": Source("your own data in an .npz file", None, None, npz.HOW, _own),
}


def find(source: str) -> Source:
    """The entry that `source` names.

    Raises:
        DataError: there is none.
    """
    if source.startswith(OWN) and source not in (OWN, "npz:PATH"):
        return DATASETS["npz:PATH"]
    if source not in DATASETS or source == "npz:PATH":
        raise DataError(f"{source!r} is not a data set; set `source` to one of {', '.join(DATASETS)}.")
    return DATASETS[source]


def load(
    source: str,
    folder: Path | None = None,
    seed: int = 0,
    purchase: PurchaseOptions | None = None,
    layout: Layout | None = None,
) -> Dataset:
    """The data set that `source` names, checked.

    `folder` is where its files are, if not in the usual place; `seed` and `purchase` matter to synthetic data only,
    `layout` to the user's own.

    Raises:
        DataError: unknown source, missing or damaged files, or contents that cannot be used.
    """
    return find(source).loader(Request(source, folder, seed, purchase or PurchaseOptions(), layout))
