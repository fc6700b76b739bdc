"""Makes windows.npz again from the pinned seglearn package, and checks that it comes out as it was released.

    pip download seglearn==1.2.5 --no-deps
    python -m sim.data.watch.build seglearn-1.2.5-py3-none-any.whl [OUTPUT]

The wheel keeps the recordings as a pickled dict. Only a file with the pinned hash is read, and the unpickler rebuilds
NumPy arrays and nothing else.
"""

from __future__ import annotations

import hashlib
import io
import pickle  # noqa: TID251 - a developer's script; the file's hash is pinned and the unpickler restricted
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from sim.data.dataset import DataError
from sim.data.watch import CONTENT_SHA256, FILE, FILE_SHA256, RECORDS, SAMPLES

WHEEL_SHA256 = "ec6b952c85c9627050102854b372d85951563d3b990df677d7c55547e87413dd"
MEMBER = "seglearn/data/watch_dataset.npy"
MEMBER_SHA256 = "eb122f23cdf06ef6bd6c6c5312958ec5cf9d038e2e6d457b8081662c75a42537"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the time stamped on every array, so that the same arrays make the same bytes
_ALLOWED = {
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("_codecs", "encode"),
}

Array = np.ndarray[Any, np.dtype[Any]]


class ArrayUnpickler(pickle.Unpickler):
    """Rebuilds NumPy arrays, and refuses everything else."""

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401 - what the base class returns
        """The class or function that the pickle asks for, if it is one of the four that arrays need."""
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed here")
        return super().find_class(module, name)


def recordings(content: bytes) -> dict[str, Any]:
    """The dict inside watch_dataset.npy: X (140 arrays of (samples, 6)), y, subject, side (1: right), labels.

    Raises:
        DataError: not the pinned file.
    """
    _pinned(MEMBER, content, MEMBER_SHA256)
    stream = io.BytesIO(content)
    np.lib.format.read_magic(stream)
    np.lib.format.read_array_header_1_0(stream)
    data: dict[str, Any] = ArrayUnpickler(stream).load().item()
    return data


def windows(data: dict[str, Any]) -> dict[str, Array]:
    """Windows of 100 samples that do not overlap, in the order person, wrist, exercise, time; the rest is dropped.

    `x` is float16 of shape (2369, 6, 100), in g and radians a second. Rounding to float16 moves a value by at most
    one part in 2,048: less than 0.002 g anywhere.
    """
    order = np.lexsort((data["y"], data["side"], data["subject"]))
    x: list[Array] = []
    about: list[tuple[int, int, int]] = []
    for i in order:
        samples = data["X"][i]
        for start in range(0, len(samples) - SAMPLES + 1, SAMPLES):
            x.append(samples[start : start + SAMPLES].T)
            about.append((int(data["y"][i]), int(data["subject"][i]), int(data["side"][i])))
    assert len(x) == RECORDS
    y, person, right = np.array(about, dtype=np.uint8).T
    return {"x": np.stack(x).astype("<f2"), "y": y, "person": person, "right": right}


def write(path: Path, arrays: dict[str, Array]) -> None:
    """An .npz file whose bytes depend on nothing but the arrays and the version of the compressor."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            info = zipfile.ZipInfo(f"{name}.npy", date_time=_EPOCH)
            info.compress_type = zipfile.ZIP_LZMA  # a tenth smaller than deflate, and below 2.5 MB
            info.create_system, info.external_attr = 3, 0o644 << 16
            archive.writestr(info, _npy(array))


def _npy(array: Array) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version=(1, 0), allow_pickle=False)
    return stream.getvalue()


def content_sha256(path: Path) -> str:
    """The hash of the arrays in an .npz file, before compression."""
    digest = hashlib.sha256()
    with zipfile.ZipFile(path) as archive:
        for name in sorted(archive.namelist()):
            digest.update(name.encode())
            digest.update(archive.read(name))
    return digest.hexdigest()


def build(source: Path, output: Path) -> None:
    """Writes `output` from the seglearn wheel, or from the watch_dataset.npy inside it, at `source`.

    Raises:
        DataError: `source` is not the pinned file, or `output` did not come out as released.
    """
    content = source.read_bytes()
    if source.suffix == ".whl":
        _pinned(source.name, content, WHEEL_SHA256)
        content = zipfile.ZipFile(io.BytesIO(content)).read(MEMBER)
    write(output, windows(recordings(content)))
    found = content_sha256(output)
    if found != CONTENT_SHA256:
        raise DataError(f"{output}: the arrays' sha256 is {found}; the released file's is {CONTENT_SHA256}.")


def _pinned(name: str, content: bytes, expected: str) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise DataError(
            f"{name}: its sha256 is {found}; only {expected} is read. Get it with "
            "`pip download seglearn==1.2.5 --no-deps`."
        )


def main() -> None:
    """Builds from the file named on the command line, into the package or the second file named."""
    if len(sys.argv) not in (2, 3):
        raise SystemExit(__doc__)
    output = Path(sys.argv[2]) if len(sys.argv) == 3 else FILE
    build(Path(sys.argv[1]), output)
    same = hashlib.sha256(output.read_bytes()).hexdigest() == FILE_SHA256
    note = "the same bytes as released" if same else "the same arrays as released, compressed differently"
    sys.stdout.write(f"{output}: {output.stat().st_size:,} bytes, {note}\n")


if __name__ == "__main__":
    main()
