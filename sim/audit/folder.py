"""Where an audit is written: whole or not at all."""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sim.errors import InputError

DOCUMENT, SCORES, REPORT = "audit.json", "scores.parquet", "report.html"
_LONGEST = 40


def name_of(model: str, content: list[bytes]) -> str:
    """NAME-HASH: the file's name, made safe, and eight digits that differ when anything that went in does."""
    plain = re.sub(r"[^a-z0-9._-]+", "-", Path(model).stem.lower()).strip(".-")[:_LONGEST] or "model"
    digest = hashlib.sha256()
    for part in content:
        digest.update(hashlib.sha256(part).digest())
    return f"{plain}-{digest.hexdigest()[:8]}"


@contextmanager
def written(parent: Path, name: str) -> Iterator[Path]:
    """A temporary folder that becomes `parent/name` at the end; an audit that stops leaves nothing behind.

    What an earlier audit of the same left there is replaced. Raises InputError where it cannot be written.
    """
    try:
        parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=parent, prefix=f".{name}.", suffix=".part"))
    except OSError as error:
        raise InputError(f"--out {parent}: cannot be written ({error.strerror}). Name another folder") from error
    try:
        part.chmod(0o755)
        yield part
        _replace(parent / name, part)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _replace(target: Path, part: Path) -> None:
    """One rename puts the new one in place; the old one goes aside first, since folders cannot be overwritten."""
    if target.exists():
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.", suffix=".old") as aside:
            target.rename(Path(aside) / target.name)
            part.rename(target)
    else:
        part.rename(target)
