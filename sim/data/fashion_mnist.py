"""Fashion-MNIST: 70,000 pictures of clothes, read from the four idx files of the Debian package or of any folder."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from sim.data.dataset import DataError, Dataset, check

TITLE = "Fashion-MNIST"
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
HOW = "apt-get install dataset-fashion-mnist, or set `folder` to one that holds the four idx files"
CLASSES = (
    "T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "trainer", "bag", "ankle boot",
)  # fmt: skip
_UBYTE = 8  # the idx type code of unsigned bytes
MOST_BYTES = 1 << 28  # of one file, unpacked: five times the largest


def load(folder: Path | None = None) -> Dataset:
    """The training and test pictures together: (1, 28, 28) from 0 to 1, 10 classes, no natural clients.

    Raises:
        DataError: a file is missing, damaged, or not what it should be.
    """
    folder = folder or DEBIAN_FOLDER
    images = np.concatenate([read_idx(folder, f"{part}-images-idx3-ubyte", dims=3) for part in ("train", "t10k")])
    labels = np.concatenate([read_idx(folder, f"{part}-labels-idx1-ubyte", dims=1) for part in ("train", "t10k")])
    return check(
        Dataset(
            source="fashion-mnist",
            title=TITLE,
            licence="MIT (Zalando Research)",
            synthetic=False,
            x=images[:, None].astype(np.float32) / np.float32(255),
            y=labels.astype(np.int64),
            classes=CLASSES,
            channels=("brightness from 0 (black) to 1",),
        )
    )


def read_idx(folder: Path, name: str, dims: int) -> UInt8[np.ndarray, " *sizes"]:
    """The unsigned bytes in the idx file `name` of `folder`, with `dims` dimensions; `name`.gz is read as well.

    Raises:
        DataError: no such file, cut short, too long, or another format.
    """
    path = next((p for p in (folder / f"{name}.gz", folder / name) if p.is_file()), None)
    if path is None:
        raise DataError(f"{folder / name}(.gz): there is no such file. To get Fashion-MNIST: {HOW}.")
    content = _content(path)
    header = 4 + 4 * dims
    magic = bytes((0, 0, _UBYTE, dims))
    if len(content) < header or content[:4] != magic:
        raise DataError(
            f"{path}: begins with {content[:4].hex(' ') or 'nothing'}; an idx file of bytes with {dims} dimension(s) "
            f"begins with {magic.hex(' ')} and the sizes. Fetch it again: {HOW}."
        )
    shape = tuple(int.from_bytes(content[4 + 4 * i : 8 + 4 * i], "big") for i in range(dims))
    if len(content) - header != math.prod(shape):
        raise DataError(
            f"{path}: holds {len(content) - header:,} bytes of data, but its header promises {math.prod(shape):,} "
            f"{shape}. It is cut short or damaged; fetch it again: {HOW}."
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _content(path: Path) -> bytes:
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
            return file.read(MOST_BYTES)  # what is longer is refused for its length
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be unpacked ({error}). Fetch it again: {HOW}.") from error
