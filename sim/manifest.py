"""The manifest of a run folder: SHA-256 of all that a run was made of and of all that it wrote.

It says whether the files in a folder belong together: an edited setting, a lost round, two exchanged models, results of
another run, or data that changed since all show. It is no signature: whoever rewrites the manifest too is not caught.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sim.data.federation import Federation
from sim.errors import InputError, shown
from sim.files import sha256_of, write_atomically

NAME = "manifest.json"
TREES = ("transcript", "models", "edge")  # folders of a run in which nothing but recorded files may lie
TARGET = ("scenario.toml", "stages.json", *TREES)  # what attacks are made on
OUTCOME = ("scores.parquet", "results.json")  # what a report and a model card are made from
PAGE = ("report.html",)
_MOST_BYTES = 2**28  # of a manifest: some million files
_MOST_SAID = 10


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class FileHash(_Part):
    """One file as it was recorded."""

    bytes: int
    sha256: str


class Manifest(_Part):
    """What belongs to one run, or to one study."""

    schema_: Literal["seepage/manifest/1"] = Field(alias="schema", default="seepage/manifest/1")
    kind: Literal["run", "study"]
    scenario: str = Field(description="SHA-256 of all settings")
    data: str = Field(description="SHA-256 of the records as loaded, dealt out and tossed coins for")
    code: dict[str, str] = Field({}, description="SHA-256 of each module of the user's own that took part")
    files: dict[str, FileHash] = Field({}, description="path from the run folder -> the file as it was written")
    runs: list[str] = Field([], description="a study's run folders, variant by variant, then seed by seed")
    itself: str = Field("", description="SHA-256 of all of the above, so that damage to this document shows")

    @property
    def sealed(self) -> Manifest:
        """This manifest with the hash of its own content."""
        return self.model_copy(update={"itself": combined([self.model_dump_json(exclude={"itself"})])})


@dataclass(frozen=True, slots=True)
class Difference:
    """One file that does not belong, or is not as it was recorded."""

    file: str
    what: str


def data_hash(federation: Federation) -> str:
    """SHA-256 of a federation's records in their order, whose they are, their coins, and the attacker's own records."""
    digest, own = hashlib.sha256(), federation.population
    _add(digest, repr((federation.classes, federation.participants, own.names, own.people)))
    for client in federation.clients:
        _add(digest, repr((client.client, client.name, client.person)), client.x, client.y, client.member)
    _add(digest, "population", own.x, own.y, own.device)
    return digest.hexdigest()


def _add(digest: hashlib._Hash, text: str, *arrays: np.ndarray) -> None:
    digest.update(f"{len(text)}:{text}".encode())
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(array.tobytes())


def combined(parts: Iterable[str]) -> str:
    """One SHA-256 of several hashes or names, in their order."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def write(folder: Path, manifest: Manifest) -> None:
    """Store the manifest. Raises CannotWriteError."""
    write_atomically(folder / NAME, manifest.sealed.model_dump_json(by_alias=True, indent=1).encode())


def read(folder: Path) -> Manifest:
    """The manifest of a run folder.

    Raises:
        InputError: it is missing, damaged, unreadable or of another version.
    """
    path = folder / NAME
    remedy = "Bring it back from a copy, or run the scenario afresh: seepage run SCENARIO --again"
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InputError(f"{path}: larger than a manifest can be. {remedy}")
        sha256_of(path)  # refuses what is no regular file, which might never end
        found = Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise InputError(
            f"{path}: missing: an earlier version made this folder, or it was taken away. {remedy}"
        ) from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}). {remedy}") from error
    except ValidationError as error:
        raise InputError(f"{path}: damaged, or from another version. {remedy}") from error
    if found != found.sealed:
        raise InputError(f"{path}: damaged: not what was written. {remedy}")
    return found


def record(folder: Path, manifest: Manifest, paths: Iterable[Path]) -> Manifest:
    """The manifest with these files as they are now; stored. Raises CannotWriteError."""
    now = {path.relative_to(folder).as_posix(): FileHash(**_hashed(path)) for path in paths}
    changed = manifest.model_copy(update={"files": dict(sorted({**manifest.files, **now}.items()))})
    write(folder, changed)
    return changed


def forget(folder: Path, manifest: Manifest, names: Iterable[str]) -> Manifest:
    """The manifest without these files; stored. Raises CannotWriteError."""
    kept = {name: file for name, file in manifest.files.items() if name not in set(names)}
    changed = manifest.model_copy(update={"files": kept})
    write(folder, changed)
    return changed


def files_in_trees(folder: Path) -> Iterator[Path]:
    """All files in the folders that hold a run's transcript, models and exported files, but for unfinished ones.

    Raises:
        OSError: a folder among them cannot be read.
    """
    for tree in TREES:
        for place, folders, names in os.walk(folder / tree, onerror=_raise):
            linked = [name for name in folders if Path(place, name).is_symlink()]
            yield from (Path(place, name) for name in sorted([*names, *linked]) if not _unfinished(name))


def differences(folder: Path, manifest: Manifest, parts: Iterable[str]) -> list[Difference]:
    """What in these parts of a run folder is not as it was recorded, or was not recorded at all."""
    wanted = tuple(parts)
    found = [
        Difference(name, what)
        for name, file in manifest.files.items()
        if name.split("/")[0] in wanted and (what := _changed(folder, name, file))
    ]
    if set(TREES) & set(wanted):
        try:
            there = [path.relative_to(folder).as_posix() for path in files_in_trees(folder)]
        except OSError as error:
            return [*found, Difference(_relative(folder, error), f"cannot be read ({error.strerror})")]
        found += [Difference(name, "does not belong to this run") for name in there if name not in manifest.files]
    return found


def check(folder: Path, manifest: Manifest, parts: Iterable[str], remedy: str) -> None:
    """Hold a run folder to its manifest.

    Raises:
        InputError: with every file that does not belong, is missing, or is not as it was recorded.
    """
    if found := differences(folder, manifest, parts):
        raise InputError(said(folder, found, remedy))


def said(folder: Path, found: list[Difference], remedy: str) -> str:
    """Differences as a message, a line each."""
    lines = [f"{folder / shown(each.file)}: {each.what}" for each in found[:_MOST_SAID]]
    if len(found) > _MOST_SAID:
        lines.append(f"and {len(found) - _MOST_SAID} more: seepage verify {folder}")
    return "\n".join([*lines, remedy])


def made_of(manifest: Manifest) -> dict[str, str]:
    """What a run's results rest on, as one SHA-256 each: settings, records, and the files of each folder."""
    trees = {
        tree: combined(f"{name} {file.sha256}" for name, file in manifest.files.items() if name.startswith(f"{tree}/"))
        for tree in TREES
    }
    return {"scenario": manifest.scenario, "data": manifest.data, **manifest.code, **trees}


def _changed(folder: Path, name: str, recorded: FileHash) -> str:
    """What is wrong with a recorded file; empty if nothing is."""
    path = folder / name
    if ".." in Path(name).parts or Path(name).is_absolute():
        return "not a file of this folder, though the manifest lists it"
    try:
        if path.is_dir():
            return "a folder lies in its place"
        if path.is_file() and path.stat().st_size != recorded.bytes:
            return f"{path.stat().st_size:,} bytes, not the {recorded.bytes:,} that were written"
        return "" if sha256_of(path)[1] == recorded.sha256 else "not what was written: its SHA-256 differs"
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"


def _hashed(path: Path) -> dict[str, Any]:
    size, digest = sha256_of(path)
    return {"bytes": size, "sha256": digest}


def _unfinished(name: str) -> bool:
    """What `write_atomically` leaves behind where it is killed."""
    return name.startswith(".") and name.endswith(".part")


def _relative(folder: Path, error: OSError) -> str:
    return os.path.relpath(str(error.filename), folder)


def _raise(error: OSError) -> None:
    raise error
