"""Records from a hostile file: arrays come out, or one clear message, never an object and never a gigabyte of zeros."""

import io
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.data import npz
from sim.errors import InputError


@pytest.fixture
def saved(tmp_path):
    def save(name, **arrays):
        np.savez(tmp_path / f"{name}.npz", **arrays)
        return tmp_path / f"{name}.npz"

    return save


def archive(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return path


def header(shape, dtype="<f4", order=False):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": order, "shape": shape})
    return file.getvalue()


def test_arrays_come_out_as_they_were_saved(saved):
    x = np.asfortranarray(np.arange(24.0).reshape(4, 3, 2))
    path = saved("a", x=x, y=np.arange(4), client=np.array(list("abcd")), other=np.ones(3))
    found = npz.read(path, "--members a.npz", ("x",), ("y", "client", "person"))
    assert set(found) == {"x", "y", "client"}
    np.testing.assert_array_equal(found["x"], x)
    assert found["client"].tolist() == list("abcd")


def test_objects_are_never_unpickled(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(InputError, match=r"--members .*`x` holds Python objects, which are never unpickled"):
        npz.read(path, "--members a.npz", ("x",), ())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (header((10**6, 10**9)), "holds fewer numbers"),
        (header((4, 3)) + bytes(40), "holds fewer numbers"),
        (header((4, 3)) + bytes(49), "holds more numbers"),
        (header((0, 3)), r"shape \(0, 3\); it must have a first dimension"),
        (header(()) + bytes(4), "must have a first dimension"),
        (header((10**12,), "<U0"), "numbers or text are allowed"),
        (header((2,), "<c8") + bytes(16), "complex numbers"),
        (header((2,), "<M8[s]") + bytes(16), "times"),
        (header((2,), "V4") + bytes(8), "numbers or text are allowed"),
        (header((2,), [("a", "<f4"), ("b\x1b", "<f4")]) + bytes(16), r"structured, with the fields a, b\?"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\x3f" + b" " * (1 << 20), "damaged"),
        (b"\x93NUMPY\x09\x00", "format that plain arrays do not need"),
        (b"not an array", "damaged"),
    ],
)
def test_what_is_no_array_is_named(tmp_path, content, words):
    with pytest.raises(InputError, match=words):
        npz.read(archive(tmp_path / "a.npz", x=content), "--members a.npz", ("x",), ())


def test_a_zip_bomb_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(npz, "MOST_BYTES", 1 << 24)
    path = archive(tmp_path / "bomb.npz", x=header((1 << 23,)) + bytes(1 << 25))
    assert path.stat().st_size < 1 << 17
    with pytest.raises(InputError, match=r"takes 33,554,\d+ bytes unpacked; 16,777,216 are allowed"):
        npz.read(path, "--members a.npz", ("x",), ())


def test_an_array_that_is_there_twice_is_ambiguous(saved):
    path = saved("a", x=np.ones(3))
    with zipfile.ZipFile(path, "a") as file, pytest.warns(UserWarning, match="Duplicate name"):
        file.writestr("x.npy", header((1,)) + bytes(4))
    with pytest.raises(InputError, match="`x` is there twice"):
        npz.read(path, "a.npz", ("x",))


def test_byte_order_is_this_machine_s(saved):
    path = saved("a", x=np.arange(3, dtype=">f4"), y=np.arange(3, dtype=">i8"), client=np.array(list("abc"), ">U1"))
    found = npz.read(path, "a.npz", ("x", "y", "client"))
    assert all(array.dtype.isnative and array.flags.writeable for array in found.values())
    assert found["x"].tolist() == found["y"].tolist() == [0, 1, 2] and found["client"].tolist() == ["a", "b", "c"]


@pytest.mark.parametrize("name", ["a" * 300 + ".npz", "a\0b.npz", "a/" * 3000])
def test_a_name_that_no_file_can_have(tmp_path, name):
    with pytest.raises(InputError, match="there is no such file"):
        npz.read(tmp_path / name, "there", ("x",))


def test_a_missing_file_or_array_is_named(saved, tmp_path):
    with pytest.raises(InputError, match="there is no such file"):
        npz.read(tmp_path / "gone.npz", "--members a.npz", ("x",), ())
    with pytest.raises(InputError, match="`x` is missing; the file holds features"):
        npz.read(saved("a", features=np.ones(3)), "--members a.npz", ("x",), ())


def test_names_in_the_file_cannot_speak_to_the_terminal(tmp_path):
    path = archive(tmp_path / "a.npz", **{"\x1b[31m\u202e": header((1,)) + bytes(4)})
    with pytest.raises(InputError) as caught:
        npz.read(path, "--members a.npz", ("x",), ())
    assert str(caught.value).isprintable()


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_damaged_file_gives_arrays_or_an_input_error(tmp_path_factory, data):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, x=np.arange(60.0).reshape(20, 3), y=np.arange(20))
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("fuzz") / "a.npz"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content)
    try:
        found = npz.read(path, "--members a.npz", ("x",), ("y",))
    except InputError:
        return
    assert all(array.dtype.kind in "biufUS" for array in found.values())
