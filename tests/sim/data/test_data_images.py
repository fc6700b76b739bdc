"""Fashion-MNIST and digits: the real files where they are installed, and damaged idx files."""

import gzip

import numpy as np
import pytest

from sim.data import fashion_mnist
from sim.data.dataset import DataError
from sim.data.registry import load

NAMES = {
    "train-images-idx3-ubyte": (20, 28, 28),
    "train-labels-idx1-ubyte": (20,),
    "t10k-images-idx3-ubyte": (10, 28, 28),
    "t10k-labels-idx1-ubyte": (10,),
}


def idx(array):
    sizes = b"".join(n.to_bytes(4, "big") for n in array.shape)
    return bytes((0, 0, 8, array.ndim)) + sizes + array.astype(np.uint8).tobytes()


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for name, shape in NAMES.items():
        array = np.arange(shape[0]) % 10 if len(shape) == 1 else rng.integers(0, 256, shape)
        (tmp_path / name).write_bytes(idx(array))
    return tmp_path


def test_digits():
    data = load("digits")
    assert data.x.shape == (1797, 1, 8, 8) and data.x.min() == 0 and data.x.max() == 1
    assert data.client is None and len(data.classes) == 10


def test_the_real_fashion_mnist(lacking):
    if not fashion_mnist.DEBIAN_FOLDER.is_dir():
        lacking("needs the pictures: apt-get install dataset-fashion-mnist")
    data = load("fashion-mnist")
    assert data.x.shape == (70_000, 1, 28, 28) and data.x.min() == 0 and data.x.max() == 1
    assert np.bincount(data.y).tolist() == [7_000] * 10
    assert data.y[:5].tolist() == [9, 0, 0, 3, 0]  # the published first labels
    assert abs(float(data.x[:60_000].mean(dtype=np.float64)) - 0.2860) < 1e-4  # the published mean of the training set


def test_a_named_folder_packed_or_not(folder):
    data = load("fashion-mnist", folder)
    assert data.x.shape == (30, 1, 28, 28) and data.y.tolist() == [*range(10)] * 3
    for name in NAMES:
        (folder / f"{name}.gz").write_bytes(gzip.compress((folder / name).read_bytes()))
        (folder / name).unlink()
    assert np.array_equal(load("fashion-mnist", folder).x, data.x)


def refused(folder):
    with pytest.raises(DataError) as caught:
        load("fashion-mnist", folder)
    assert "apt-get install dataset-fashion-mnist" in str(caught.value)
    assert str(folder) in str(caught.value)
    return str(caught.value)


def test_missing_files(tmp_path):
    assert "there is no such file" in refused(tmp_path)
    assert "there is no such file" in refused(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda b: b"", "begins with nothing"),
        (lambda b: b[:2], "begins with 00 00"),
        (lambda b: b"\x00\x00\x0d" + b[3:], "begins with 00 00 0d 03"),
        (lambda b: b[:3] + b"\x01" + b[4:], "begins with 00 00 08 01"),
        (lambda b: b[:10], "begins with"),
        (lambda b: b[:-1], "holds 15,679 bytes of data, but its header promises 15,680"),
        (lambda b: b + b"x", "holds 15,681 bytes"),
        (lambda b: b[:4] + b"\xff\xff\xff\xff" + b[8:], "its header promises"),
    ],
)
def test_damaged_idx_files(folder, damage, says):
    path = folder / "train-images-idx3-ubyte"
    path.write_bytes(damage(path.read_bytes()))
    assert says in refused(folder)


@pytest.mark.parametrize("damage", [lambda b: b[:-20], lambda b: b"plain", lambda b: b[:30] + b"\xff" * 9 + b[39:]])
def test_damaged_gzip(folder, damage):
    path = folder / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(damage(gzip.compress((folder / path.stem).read_bytes())))
    assert "cannot be unpacked" in refused(folder)


def test_labels_of_another_count(folder):
    (folder / "train-labels-idx1-ubyte").write_bytes(idx(np.arange(19) % 10))
    with pytest.raises(DataError, match="`y` has 29 entries and `x` has 30 records"):
        load("fashion-mnist", folder)
