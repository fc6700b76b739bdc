"""Code that runs behind closed doors tries what it can."""

import os
import resource
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from edge.sandbox import Limits, UnusableFileError
from edge.sandbox.parent import Child

HOSTILE = str(Path(__file__).with_name("hostile.py"))
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="Landlock and seccomp are Linux's")
SHORT = Limits(seconds=20, memory_bytes=512 << 20, output_bytes=1 << 20)

FILES = [
    "open('{folder}/new', 'w')",
    "os.open('{folder}/new', os.O_CREAT | os.O_WRONLY)",
    "open('{folder}/old', 'a')",
    "open('{folder}/old')",
    "open('/etc/passwd')",
    "os.listdir('{folder}')",
    "os.truncate('{folder}/old', 0)",
    "os.unlink('{folder}/old')",
    "os.rename('{folder}/old', '{folder}/new')",
    "os.link('{folder}/old', '{folder}/new')",
    "os.symlink('{folder}/old', '{folder}/new')",
    "os.mkdir('{folder}/new')",
    "os.mkfifo('{folder}/new')",
]
ATTRIBUTES = ["os.chmod('{folder}/old', 0o777)", "os.utime('{folder}/old', (0, 0))", "os.chdir('{folder}')"]
NETWORK = [
    "socket.socket()",
    "socket.socket(socket.AF_UNIX)",
    "socket.socket(type=socket.SOCK_DGRAM)",
    "socket.create_connection(('127.0.0.1', {port}))",
]
PROCESSES = [
    "os.fork()",
    "os.posix_spawn('/bin/true', ['true'], {{}})",
    "os.execv('/bin/true', ['true'])",
    "os.kill(os.getppid(), 9)",
    "os.kill(os.getppid(), 0)",
    "os.killpg(0, 9)",
    "os.setsid()",
    "resource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
    "os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))",
    "os.nice(-5)",
]


@pytest.fixture(scope="module")
def child():
    """The hostile child, with every door there is."""
    child = Child([sys.executable, "-P", HOSTILE])
    yield child
    child.close()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "old").write_text("old")
    return tmp_path


def take_over(child, code, limits=SHORT):
    code = "import os, socket, resource, signal, ctypes, threading\n" + textwrap.dedent(code)
    return child.do({"job": "python"}, limits, code.encode())


def outcome(child, statement):
    """The name of the error that a statement ends in, or DONE."""
    code = f"try:\n    {statement}\n    say('DONE')\nexcept Exception as error:\n    say(type(error).__name__)"
    return take_over(child, code)[0]["said"]


def snapshot(folder):
    return {str(path): path.stat() for path in folder.rglob("*")}, folder.stat().st_mtime_ns


@LINUX
@pytest.mark.parametrize("statement", FILES + ATTRIBUTES + NETWORK + PROCESSES)
def test_what_is_tried_is_not_permitted(statement, child, folder):
    before = snapshot(folder)
    assert outcome(child, statement.format(folder=folder, port=9)) == ["PermissionError"] or (
        "setrlimit" in statement and outcome(child, statement) == ["ValueError"]
    )
    assert snapshot(folder) == before


@LINUX
def test_landlock_alone_keeps_files_closed(folder):
    child, before = Child([sys.executable, "-P", HOSTILE, "seccomp"]), snapshot(folder)
    try:
        _, _, held = take_over(child, "")
        if not any(words.startswith("Landlock") for words in held):
            pytest.skip("this kernel has no Landlock")
        for statement in FILES:
            assert outcome(child, statement.format(folder=folder)) == ["PermissionError"], statement
    finally:
        child.close()
    assert snapshot(folder) == before


@LINUX
def test_landlock_alone_keeps_the_network_and_other_processes_out_of_reach():
    with socket.create_server(("127.0.0.1", 0)) as server:
        child, port = Child([sys.executable, "-P", HOSTILE, "seccomp"]), server.getsockname()[1]
        try:
            held = take_over(child, "")[2]
            if not any("no signals" in words for words in held):
                pytest.skip("this kernel's Landlock is older")
            assert outcome(child, f"socket.create_connection(('127.0.0.1', {port}))") == ["PermissionError"]
            assert outcome(child, "socket.create_server(('127.0.0.1', 0))") == ["PermissionError"]
            assert outcome(child, "os.kill(os.getppid(), 0)") == ["PermissionError"]
        finally:
            child.close()


@LINUX
def test_seccomp_alone_keeps_all_of_it_closed(folder):
    child, before = Child([sys.executable, "-P", HOSTILE, "landlock"]), snapshot(folder)
    try:
        assert not any(words.startswith("Landlock") for words in take_over(child, "")[2])
        for statement in FILES + ATTRIBUTES + NETWORK + PROCESSES[:-4]:
            assert outcome(child, statement.format(folder=folder, port=9)) == ["PermissionError"], statement
    finally:
        child.close()
    assert snapshot(folder) == before


@LINUX
def test_what_is_held_is_said_and_what_is_not_is_left_out():
    child = Child([sys.executable, "-P", HOSTILE, "landlock", "seccomp"])
    try:
        held = take_over(child, "")[2]
        assert held[:3] == ("20 seconds", "21 CPU seconds", "512 MB of memory")
        assert not any("Landlock" in words or "seccomp" in words for words in held)
        assert outcome(child, "open('/etc/passwd')") == ["DONE"]  # the list told the truth
    finally:
        child.close()


@LINUX
@pytest.mark.parametrize("statement", FILES)
def test_without_doors_these_would_have_worked(statement, folder):
    names = {"os": os, "open": open}
    exec(statement.format(folder=folder), names)


def test_a_fork_bomb_does_not_start(child):
    with pytest.raises(UnusableFileError, match=r"not permitted here|damaged: BlockingIOError"):
        take_over(child, "while True:\n    os.fork()")


def test_a_thread_bomb_does_not_start(child):
    with pytest.raises(UnusableFileError, match="damaged: RuntimeError: can't start new thread"):
        take_over(child, "while True:\n    threading.Thread(target=threading.Event().wait).start()")


def test_memory_is_bounded(child):
    with pytest.raises(UnusableFileError, match="it needs more than 512 MB of memory"):
        take_over(child, "kept = [bytearray(1 << 20) for _ in range(1024)]")


@pytest.mark.parametrize(
    "code", ["while True: pass", "threading.Event().wait()", "9 ** 9 ** 9", "os.close(3)\nwhile True: pass"]
)
def test_time_is_bounded(code, child):
    start = time.monotonic()
    with pytest.raises(UnusableFileError, match=r"not done after 0\.5 s|signal 9") as caught:
        take_over(child, code, Limits(seconds=0.5))
    assert caught.value.ended in ("stopped", "crashed")
    assert time.monotonic() - start < 5


def test_time_is_bounded_where_signals_are_ignored(child):
    code = """
        for n in set(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(n, signal.SIG_IGN)
        while True: pass
    """
    with pytest.raises(UnusableFileError, match=r"not done after 0\.5 s"):
        take_over(child, code, Limits(seconds=0.5))


def test_output_is_bounded(child):
    with pytest.raises(UnusableFileError, match="it answers with more than 1 MB"):
        take_over(child, "while True: os.write(3, bytes(65536))")
    with pytest.raises(UnusableFileError, match=r"a header of \d+ bytes"):
        take_over(child, "say('x' * (30 << 20))")


def test_what_is_written_to_standard_error_is_bounded(child):
    code = "try:\n    while True: os.write(2, bytes(65536))\nexcept OSError as error: say(str(error))"
    assert take_over(child, code)[0]["said"] == ["[Errno 27] File too large"]


@pytest.mark.parametrize(
    ("code", "number", "name"),
    [("ctypes.string_at(0)", 11, "SIGSEGV"), ("os.abort()", 6, "SIGABRT")],
)
def test_a_crash_is_named(code, number, name, child):
    with pytest.raises(UnusableFileError, match=rf"crashed with signal {number} \({name}\)") as caught:
        take_over(child, code)
    assert caught.value.ended == "crashed"


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"\0",
        b"\xff" * 100,
        b"\0\0\0\x02{}",
        b"\0\0\0\x05hello",
        b"\0\0\0\x10" + b"[" * 16,
        b"\0\x01\0\0" + b"[" * 65536,
        b'\0\0\0\x0f{"sizes": [-1]}',
        b'\0\0\0\x14{"sizes": [999999999',
        b'\0\0\0\x2a{"refused": "\\u001b[31mred", "sizes": []}  ',
        b'\0\0\0\x1c{"found": "x", "sizes": []}  ',
        b'\0\0\0\x1c{"found": NaN, "sizes": []}  ',
    ],
)
def test_a_forged_answer_is_not_believed(said, child):
    with pytest.raises(UnusableFileError, match="cannot be read") as caught:
        take_over(child, f"os.write(3, {said!r})\nos._exit(0)")
    assert str(caught.value).isprintable()


def test_an_early_exit_is_not_an_answer(child):
    with pytest.raises(UnusableFileError, match="cannot be read"):
        take_over(child, "os._exit(0)")
    with pytest.raises(UnusableFileError, match="its process failed"):
        take_over(child, "os._exit(3)")


def test_the_next_job_knows_nothing_of_the_last(child):
    take_over(child, "import builtins\nbuiltins.left = 'behind'\nos.environ['LEFT'] = 'behind'")
    assert take_over(child, "say('left' in dir(__builtins__) or 'LEFT' in os.environ)")[0]["said"] == [False]


def test_jobs_and_answers_of_others_cannot_be_read(child):
    code = "say(os.read(0, 10).hex())\nsay([n for n in range(4, 256) if not fails(n)])"
    helper = "def fails(n):\n    try: os.fstat(n)\n    except OSError: return True\n"
    assert take_over(child, helper + code)[0]["said"] == ["", []]


def test_the_caller_s_environment_stays_outside(monkeypatch):
    monkeypatch.setenv("A_SECRET", "of the caller")
    child = Child([sys.executable, "-P", HOSTILE])
    try:
        assert take_over(child, "say(os.environ.get('A_SECRET'))")[0]["said"] == [None]
    finally:
        child.close()


def test_a_child_that_is_gone_is_started_again(child):
    take_over(child, "")
    os.kill(child._process.pid, signal.SIGKILL)
    child._process.wait()
    assert take_over(child, "say(1)")[0]["said"] == [1]


def test_an_interrupted_job_does_not_answer_the_next(child):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # who starts tests in the background ignores it
    try:
        threading.Timer(1.0, signal.raise_signal, [signal.SIGINT]).start()
        with pytest.raises(KeyboardInterrupt):
            take_over(child, "threading.Event().wait(3)\nsay('late')")
    finally:
        signal.signal(signal.SIGINT, before)
    assert take_over(child, "say('next')")[0]["said"] == ["next"]


def test_nothing_is_left_behind_when_the_caller_is_killed(tmp_path):
    code = f"""
import sys
from edge.sandbox import Limits
from edge.sandbox.parent import Child
child = Child([sys.executable, "-P", {HOSTILE!r}])
child.do({{"job": "python"}}, Limits(), b"")
print(child._process.pid, flush=True)
child.do({{"job": "python"}}, Limits(), b"while True: pass")
"""
    caller = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    group = int(caller.stdout.readline())
    caller.kill()
    caller.communicate()
    end = time.monotonic() + 10
    while time.monotonic() < end and alive(group):
        os.sched_yield()
    assert not alive(group)


def alive(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return any(f" {group} " in stat for stat in map(running, Path("/proc").glob("[0-9]*/stat")))


def running(path):
    """A process's group, unless it has ended and waits to be collected."""
    try:
        after = path.read_text().rsplit(")", 1)[1].split()
    except OSError:
        return ""
    return "" if after[0] == "Z" else f" {after[2]} "


def test_limits_are_above_zero():
    with pytest.raises(ValueError, match="seconds = 0: a limit is above zero"):
        Limits(seconds=0)


def test_the_limits_of_this_process_stay_as_they_are(child):
    before = resource.getrlimit(resource.RLIMIT_AS)
    take_over(child, "")
    assert resource.getrlimit(resource.RLIMIT_AS) == before
