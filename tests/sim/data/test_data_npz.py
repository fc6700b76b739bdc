"""The user's own .npz file: what is accepted, and that everything else is refused by name and never unpickled."""

import io
import os
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sim.data.dataset import DataError, Dataset, check
from sim.data.registry import load

X = np.random.default_rng(0).normal(size=(12, 5))
Y = np.arange(12) % 3
WHO = np.array(["ann", "bob", "cid"]).repeat(4)


def save(folder, **arrays):
    path = folder / "mine.npz"
    np.savez_compressed(path, **arrays)
    return path


def fault(path):
    with pytest.raises(DataError) as caught:
        load(f"npz:{path}")
    text = str(caught.value)
    assert str(path) in text
    return text


def test_named_clients(tmp_path):
    data = load(f"npz:{save(tmp_path, x=X, y=Y, client=WHO)}")
    assert data.x.dtype == np.float32 and np.allclose(data.x, X) and data.y.dtype == np.int64
    assert data.client_names == data.person == ("ann", "bob", "cid")
    assert data.client.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert data.synthetic is None and len(data.classes) == 3


def test_numbered_clients_and_no_clients(tmp_path):
    data = load(f"npz:{save(tmp_path, x=X, y=Y, client=[7] * 6 + [3] * 6)}")
    assert data.client_names == ("client 3", "client 7") and data.client.tolist() == [1] * 6 + [0] * 6
    assert load(f"npz:{save(tmp_path, x=X, y=Y)}").client is None


def test_a_relative_path_starts_from_the_folder(tmp_path):
    save(tmp_path, x=X, y=Y)
    assert len(load("npz:mine.npz", tmp_path)) == 12


def test_names_of_classes_clients_and_people_are_text_or_bytes(tmp_path):
    y = np.array(["walk", "run", "sit"])[Y]
    devices, owners = np.repeat([10, 9, 2], 4), np.repeat(["ann", "ann", "bob"], 4)
    for change in (np.asarray, np.char.encode):
        data = load(f"npz:{save(tmp_path, x=X, y=change(y), client=devices, person=change(owners))}")
        assert data.classes == ("run", "sit", "walk") and [data.classes[i] for i in data.y] == y.tolist()
        assert data.client_names == ("client 2", "client 9", "client 10") and data.person == ("bob", "ann", "ann")
        assert data.client.tolist() == [2] * 4 + [1] * 4 + [0] * 4
    alone = load(f"npz:{save(tmp_path, x=X, y=Y, person=owners)}")
    assert alone.client_names == alone.person == ("ann", "bob") and "person" in alone.notes[0]


def test_one_name_composed_in_two_ways_is_one_person(tmp_path):
    who = np.array(["Zo\u00eb", "Zoe\u0308", "ann"]).repeat(4)
    assert load(f"npz:{save(tmp_path, x=X, y=Y, client=who)}").client_names == ("Zo\u00eb", "ann")


@pytest.mark.parametrize("kind", ["<f2", ">f4", ">f8", "<f8", ">i2", "u1", "?"])
def test_numbers_of_any_kind_and_byte_order(tmp_path, kind):
    x = (np.random.default_rng(0).integers(0, 2, (12, 5))).astype(kind)
    found = load(f"npz:{save(tmp_path, x=x, y=Y.astype('>i2'), client=WHO.astype('>U3'))}")
    assert found.x.dtype == np.float32 and found.x.dtype.isnative and np.array_equal(found.x, x.astype(float))
    assert found.y.tolist() == Y.tolist() and found.client_names == ("ann", "bob", "cid")


@pytest.mark.parametrize(
    ("shape", "first"),
    [
        ((6, 6, 1), (1, 6, 6)),
        ((8, 6, 3), (3, 8, 6)),
        ((1, 6, 6), (1, 6, 6)),
        ((3, 8, 6), (3, 8, 6)),
        ((16, 5, 5), (16, 5, 5)),
        ((9, 1), (1, 9)),
        ((3, 9), (3, 9)),
        ((1, 9), (1, 9)),
        ((1, 1, 9), (1, 1, 9)),
    ],
)
def test_channels_are_told_from_the_sides(tmp_path, shape, first):
    x = np.random.default_rng(0).normal(size=(12, *shape)).astype(np.float32)
    found = load(f"npz:{save(tmp_path, x=x, y=Y)}")
    moved = shape != first
    np.testing.assert_array_equal(found.x, np.moveaxis(x, -1, 1) if moved else x)
    assert found.x.shape[1:] == first and len(found.notes) == moved


def test_a_layout_that_is_said_is_followed(tmp_path):
    x = np.random.default_rng(0).normal(size=(12, 9, 4)).astype(np.float32)
    source = f"npz:{save(tmp_path, x=x, y=Y)}"
    assert load(source, layout="channels-first").x.shape == (12, 9, 4)
    assert load(source, layout="channels-last").x.shape == (12, 4, 9)


def test_only_uint8_images_are_scaled(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (12, 1, 4, 4))
    images[0, 0, 0, 0] = 255  # shape (1, 4, 4)
    assert load(f"npz:{save(tmp_path, x=images.astype(np.uint8), y=Y)}").x.max() == 1
    assert load(f"npz:{save(tmp_path, x=images, y=Y)}").x.max() == 255
    table = (X > 0).astype(np.uint8)
    assert load(f"npz:{save(tmp_path, x=table, y=Y)}").x.max() == 1


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"x": X}, "`y` is missing; the file holds x"),
        ({"y": Y}, "`x` is missing"),
        ({"x": X, "label": Y}, "the file holds x, label"),
        ({"x": X[:, 0], "y": Y}, "`x` has shape (12,)"),
        ({"x": X.reshape(1, 1, 1, 12, 5), "y": Y}, "(records, channels, length)"),
        ({"x": X[:, :0], "y": Y}, "shape (12, 0)"),
        ({"x": X.astype(str), "y": Y}, "`x` is <U"),
        ({"x": X.astype(complex), "y": Y}, "`x` is complex128"),
        ({"x": X * 1e300, "y": Y}, "NaN or infinite"),
        ({"x": np.where(X[3, 0] == X, 3.4e38, X), "y": Y}, "`x` has 1 value(s) that are beyond 1e+30"),
        ({"x": X, "y": Y[:7]}, "`y` has 7 entries and `x` has 12 records"),
        ({"x": X, "y": Y.astype(float)}, "Save y.astype(int)"),
        ({"x": X, "y": Y + 0.5 * X[:, 0]}, "regression is not supported by `run`"),
        ({"x": X, "y": X}, "regression is not supported by `run`"),
        ({"x": X, "y": np.arange(12) * 7 + 20}, "regression is not supported by `run`"),
        ({"x": X, "y": np.where(Y, Y, np.nan)}, "4 of its entries are NaN or infinite"),
        ({"x": X, "y": Y[:, None]}, "`y` has shape (12, 1), a column; it must be (12,). Save y.ravel()."),
        ({"x": X, "y": Y[None]}, "Save y.ravel()"),
        ({"x": X, "y": Y[:, None] + 0.5}, "regression is not supported"),
        ({"x": X, "y": np.eye(3, dtype=int)[Y]}, "one-hot, of shape (12, 3). Save class numbers instead: y.argmax(1)"),
        ({"x": X, "y": np.eye(3, dtype=bool)[Y]}, "y.argmax(1)"),
        ({"x": X, "y": 2 * np.eye(3)[Y] - 1}, "y.argmax(1)"),
        ({"x": X, "y": np.full((12, 3), 1 / 3)}, "y.argmax(1)"),
        ({"x": X, "y": np.ones((12, 3), int)}, "multi-label"),
        ({"x": X, "y": Y.reshape(2, 2, 3)}, "one class number a record"),
        ({"x": X, "y": np.full(12, 2**63, np.uint64)}, "runs to 9223372036854775808"),
        ({"x": X, "y": Y + 1}, "numbered 1, 2, 3 (largest 3); they must be 0 to 2"),
        ({"x": X, "y": Y - 1}, "numbered -1, 0, 1"),
        ({"x": X, "y": Y * 10**15}, "largest 2000000000000000"),
        ({"x": X, "y": Y * 0}, "`y` has 1 class; at least 2"),
        ({"x": X[:1], "y": Y[:1]}, "`x` has 1 record(s); at least 2"),
        ({"x": X, "y": Y, "client": WHO[:5]}, "`client` has shape (5,)"),
        ({"x": X, "y": Y, "client": X[:, 0]}, "`client` is float64"),
        ({"x": X, "y": Y, "client": np.where(Y, Y, np.nan)}, "4 are NaN or infinite"),
        ({"x": X, "y": Y, "client": WHO, "person": Y}, "`person` names more than one owner for 3 client(s)"),
        ({"x": X, "y": Y, "client": np.array([b"\xff"] * 12)}, "no UTF-8 text"),
        ({"x": X.reshape(12, 5, 1, 1), "y": Y[:5]}, "`y` has 5 entries"),
        ({"x": np.ones((12, 6, 6)), "y": Y}, 'set data.layout = "channels-first"'),
        ({"x": np.ones((12, 9, 4)), "y": Y}, "could be (records, channels, length) or (records, length, channels)"),
        ({"x": np.ones((12, 8, 8, 16)), "y": Y}, "data.layout"),
    ],
)
def test_a_wrong_field_is_refused_by_name(tmp_path, arrays, says):
    assert says in fault(save(tmp_path, **arrays))


def test_nan_is_counted_and_located(tmp_path):
    x = X.copy()
    x[3, 1] = x[3, 2] = np.nan
    x[9, 0] = np.inf
    text = fault(save(tmp_path, x=x, y=Y))
    assert "3 value(s) that are NaN or infinite, in 2 record(s), the first of them record 3" in text


def test_all_faults_are_listed():
    x = np.full((4, 2), np.nan, dtype=np.float32)
    with pytest.raises(DataError) as caught:
        check(Dataset(source="s", title="", licence="", synthetic=False, x=x, y=np.zeros(4, int), classes=("a",)))
    assert len(str(caught.value).splitlines()) == 2


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("field", ["x", "y", "client"])
def test_objects_are_never_unpickled(tmp_path, field):
    arrays = {"x": X, "y": Y, "client": WHO, field: np.array([Bomb(str(tmp_path / "boom"))], dtype=object)}
    text = fault(save(tmp_path, **arrays))
    assert f"`{field}` holds Python objects, which are never unpickled" in text
    assert not (tmp_path / "boom").exists()


@pytest.mark.parametrize("content", [b"", b"not a zip", b"\x80\x04N.", b"PK\x03\x04 cut short"])
def test_not_an_npz_file(tmp_path, content):
    path = tmp_path / "mine.npz"
    path.write_bytes(content)
    assert "not an .npz file" in fault(path)


def test_a_bare_npy_file_and_a_missing_one(tmp_path):
    np.save(tmp_path / "mine.npy", X)
    assert "not an .npz file" in fault(tmp_path / "mine.npy")
    assert "no such file" in fault(tmp_path / "gone.npz")
    assert "no such file" in fault(tmp_path)


def test_a_member_that_is_no_array(tmp_path):
    path = save(tmp_path, y=Y)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x", b"hello")
    assert "damaged" in fault(path)


def test_a_header_that_promises_more_than_memory(tmp_path):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": (2**58,)})
    path = save(tmp_path, y=Y)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x.npy", stream.getvalue())
    assert "holds fewer numbers" in fault(path)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 127), content=st.binary(min_size=1, max_size=4))
def test_a_damaged_array_header_is_refused_or_read_but_never_breaks(tmp_path, at, content):
    stream = io.BytesIO()
    np.save(stream, X)
    array = bytearray(stream.getvalue())
    array[at : at + len(content)] = content
    path = tmp_path / "header.npz"
    np.savez(path, y=Y)
    with zipfile.ZipFile(path, "a") as archive:  # the zip's own checksum is right
        archive.writestr("x.npy", bytes(array))
    try:
        load(f"npz:{path}")
    except DataError as error:
        assert "header.npz" in str(error)


def test_an_unknown_source_names_the_known_ones():
    for source in ("nothing", "npz:", "npz:PATH"):
        with pytest.raises(DataError, match=r"watch, digits, fashion-mnist, purchase-like, npz:PATH"):
            load(source)
