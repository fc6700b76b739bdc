"""What works on this machine: packages, engines, runtimes, data and tools, each really tried."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version

from rich.console import Console
from rich.table import Table
from rich.text import Text

from edge.quiet import quiet_stderr
from sim.errors import InputError
from sim.terminal import print_json

INSTALL = "install the locked dependencies again: make install"
CORE = {
    "flwr": "flwr",
    "torch": "torch",
    "numpy": "numpy",
    "scikit-learn": "sklearn",
    "pyarrow": "pyarrow",
    "plotly": "plotly",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `mend` says what to do where it does not work; `needed` whether a run depends on it."""

    kind: str
    name: str
    works: bool
    detail: str
    mend: str
    needed: bool


def examine() -> list[Finding]:
    """Look at everything."""
    return [*_packages(), *_engines(), *_runtimes(), *_data(), *_tools()]


def _packages() -> Iterator[Finding]:
    for package, module in CORE.items():
        yield _tried("package", package, module, INSTALL, needed=True)


def _engines() -> Iterator[Finding]:
    yield _tried("engine", "inprocess", "sim.engines.inprocess", INSTALL, needed=True, package="flwr")
    yield _tried("engine", "ray", "ray", "pip install 'flwr[simulation]' in this environment", needed=False)


def _tried(kind: str, name: str, module: str, mend: str, *, needed: bool, package: str | None = None) -> Finding:
    """Import the module for real: a package that is listed but does not load does not work."""
    try:
        with quiet_stderr():
            importlib.import_module(module)
        return Finding(kind, name, True, version(package or name), "", needed)
    except (ImportError, OSError, PackageNotFoundError) as error:
        return Finding(kind, name, False, str(error), mend, needed)


def _runtimes() -> Iterator[Finding]:
    yield _tried("exporter", "tensorflow", "tensorflow", INSTALL, needed=True, package=_tensorflow())
    from edge.runtimes import RUNTIMES

    for name, entry in RUNTIMES.items():
        missing = entry.missing()
        yield Finding("runtime", name, missing is None, entry.description, missing or "", name == "tflm")


def _tensorflow() -> str:
    return "tensorflow-cpu" if sys.platform == "linux" else "tensorflow"


def _data() -> Iterator[Finding]:
    from sim.data.registry import DATASETS, load

    for name in ("watch", "digits", "fashion-mnist"):
        try:
            yield Finding("data set", name, True, f"{len(load(name)):,} records", "", name == "watch")
        except InputError:
            yield Finding("data set", name, False, "not found", DATASETS[name].how, name == "watch")


def _tools() -> Iterator[Finding]:
    chromium = shutil.which("chromium")
    mend = "apt-get install chromium (only the tests of the report use it)"
    yield Finding("tool", "chromium", chromium is not None, chromium or "not found", "" if chromium else mend, False)
    yield _firmware()


def _firmware() -> Finding:
    """The compiler and the emulator for `seepage export --firmware`: a program is really built and run."""
    from edge.firmware import missing, tried

    advice = missing()
    if advice is not None:
        return Finding("tool", "firmware", False, "not found", advice, False)
    fault, made_with = tried()
    return Finding("tool", "firmware", fault is None, made_with, fault or "", False)


def render(findings: list[Finding], console: Console, *, json: bool) -> None:
    """Print a table, or one JSON document."""
    if json:
        print_json([asdict(finding) for finding in findings])
        return
    table = Table(box=None, pad_edge=False)
    for column in ("", "what", "name", "detail"):
        table.add_column(column, overflow="fold")
    for finding in findings:
        mark = Text("ok", "green") if finding.works else Text("no", "red" if finding.needed else "yellow")
        table.add_row(mark, finding.kind, finding.name, finding.detail if finding.works else finding.mend)
    console.print(table)
