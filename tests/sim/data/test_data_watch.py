"""The shipped watch data: the released bytes, what they say, and that they can be made again from the package."""

import hashlib
import io
import os
import pickle  # noqa: TID251 - to make what the builder must refuse
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from sim.data import watch
from sim.data.dataset import DataError
from sim.data.registry import load
from sim.data.watch import build

GET_IT = "needs the package: pip download seglearn==1.2.5 --no-deps, then set SEEPAGE_SEGLEARN_WHEEL to the wheel"


def test_the_shipped_file_is_the_released_one():
    assert hashlib.sha256(watch.FILE.read_bytes()).hexdigest() == watch.FILE_SHA256
    assert build.content_sha256(watch.FILE) == watch.CONTENT_SHA256
    assert watch.FILE.stat().st_size < 2_500_000


def test_what_it_holds():
    data = load("watch")
    assert data.x.shape == (2369, 6, 100) and data.x.dtype == np.float32
    assert len(data.classes) == 7 and len(data.client_names) == 20 and len(set(data.person)) == 10
    sizes = np.bincount(data.client)
    assert (sizes.min(), sizes.max(), sizes.sum()) == (69, 153, 2369)
    assert data.client_names[4:6] == ("person 3, left wrist", "person 3, right wrist")
    assert all(len(np.unique(data.y[data.client == c])) == 7 for c in range(20))


def test_units_are_physical():
    x = load("watch").x
    gravity = np.linalg.norm(x[:, :3].mean(axis=2), axis=1)
    assert 0.8 < np.median(gravity) < 1.1  # 1 is one g
    # A wrist that hangs points the watch's x axis the other way on the other arm.
    client = load("watch").client
    assert x[client % 2 == 0, 0].mean() > 0.4 and x[client % 2 == 1, 0].mean() < -0.4


def test_a_replaced_file_is_refused(tmp_path, monkeypatch):
    (tmp_path / "windows.npz").write_bytes(b"something else")
    monkeypatch.setattr(watch, "FILE", tmp_path / "windows.npz")
    with pytest.raises(DataError, match="Install seepage again"):
        watch.load()


def test_licence_and_source_are_shipped():
    folder = watch.FILE.parent
    assert "David M. Burns" in (folder / "LICENSE").read_text()
    text = (folder / "ATTRIBUTION.md").read_text()
    assert "1802.01489" in text and "seglearn==1.2.5" in text


@pytest.fixture
def wheel(tmp_path, tools_required, lacking):
    if named := os.environ.get("SEEPAGE_SEGLEARN_WHEEL"):
        return Path(named)
    if not tools_required:
        lacking(GET_IT)
    command = [sys.executable, "-m", "pip", "download", "seglearn==1.2.5", "--no-deps", "-d", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        lacking(f"{GET_IT}\n{done.stderr}")
    return next(tmp_path.glob("*.whl"))


def test_it_can_be_made_again(wheel, tmp_path):
    build.build(wheel, tmp_path / "again.npz")
    assert build.content_sha256(tmp_path / "again.npz") == watch.CONTENT_SHA256
    with zipfile.ZipFile(wheel) as archive:
        content = archive.read(build.MEMBER)
    (tmp_path / "watch_dataset.npy").write_bytes(content)
    build.build(tmp_path / "watch_dataset.npy", tmp_path / "once_more.npz")
    assert (tmp_path / "again.npz").read_bytes() == (tmp_path / "once_more.npz").read_bytes()
    made = build.windows(build.recordings(content))
    recorded = {
        (s, r, e): x
        for x, e, s, r in zip(*(build.recordings(content)[k] for k in ("X", "y", "subject", "side")), strict=True)
    }
    first = recorded[1, 0, 0][:100].T
    assert (made["person"][0], made["right"][0], made["y"][0]) == (1, 0, 0)
    assert np.abs(made["x"][0] - first).max() < 0.002


def test_the_same_arrays_make_the_same_bytes(tmp_path):
    arrays = {"x": np.arange(6, dtype="<f2"), "y": np.zeros(3, np.uint8)}
    for name in ("a", "b"):
        build.write(tmp_path / name, arrays)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with np.load(tmp_path / "a", allow_pickle=False) as archive:
        assert archive["x"].tolist() == list(range(6))


def test_another_package_is_not_read(tmp_path):
    for name in ("seglearn-1.2.5-py3-none-any.whl", "watch_dataset.npy"):
        (tmp_path / name).write_bytes(b"something else")
        with pytest.raises(DataError, match=r"pip download seglearn==1\.2\.5"):
            build.build(tmp_path / name, tmp_path / "out.npz")
    assert not (tmp_path / "out.npz").exists()


def test_the_unpickler_rebuilds_arrays_and_nothing_else():
    allowed = pickle.dumps({"X": [np.arange(3.0)]}, protocol=2).replace(b"numpy._core", b"numpy.core")
    assert build.ArrayUnpickler(io.BytesIO(allowed)).load()["X"][0].tolist() == [0, 1, 2]
    with pytest.raises(pickle.UnpicklingError, match="not allowed"):
        build.ArrayUnpickler(io.BytesIO(pickle.dumps(os.getcwd))).load()
