"""One process at a time in a run folder: the second is told who holds it, and nobody holds it who has ended."""

import json
import os
import signal
import socket
import subprocess
import sys

import pytest

from sim.errors import CannotWriteError, InputError
from sim.lock import NAME, locked, unchanged

HOLD = """
import sys
from pathlib import Path
from sim.lock import locked
with locked(Path(sys.argv[1]), "run"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the folder's lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_process_is_told_who_holds_the_folder(holder, tmp_path):
    who = rf"in use by `seepage run`, process {holder.pid} on {socket.gethostname()}, since \d{{4}}-\d\d-\d\dT"
    for take in (lambda: locked(tmp_path, "attack"), lambda: unchanged(tmp_path)):
        with pytest.raises(InputError, match=who), take():
            pytest.fail("it has it too")


def test_a_killed_holder_holds_nothing(holder, tmp_path):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with locked(tmp_path, "attack"):
        held = json.loads((tmp_path / NAME).read_text())
        assert (held["command"], held["pid"]) == ("attack", os.getpid())
    assert not (tmp_path / NAME).read_text()


def test_readers_share_and_keep_writers_out(tmp_path):
    with locked(tmp_path, "run"):
        pass
    with unchanged(tmp_path), unchanged(tmp_path), pytest.raises(InputError, match="another process") as told:
        _write(tmp_path)
    assert "Wait until it ends" in str(told.value)
    with locked(tmp_path, "run"):
        pass


def _write(folder):
    with locked(folder, "run"):
        pytest.fail("it was changed while it was read")


def test_a_folder_without_a_lock_can_be_read(tmp_path):
    with unchanged(tmp_path):
        assert not (tmp_path / NAME).exists()


@pytest.mark.parametrize("told", ["", "null", "[]", "{", '{"pid": 1}', "[" * 4000])
def test_what_a_holder_says_of_itself_may_be_anything(tmp_path, told):
    with locked(tmp_path, "run"):
        (tmp_path / NAME).write_text(told)
        with pytest.raises(InputError, match="in use by another process"), locked(tmp_path, "run"):
            pass


def test_a_place_that_is_no_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CannotWriteError, match="cannot be written"), locked(tmp_path / "file", "run"):
        pass
