"""Writing a bundle, and reading one back."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from edge.bundle.c_array import header, source
from edge.bundle.card import card
from edge.bundle.facts import Facts
from edge.bundle.manifest import Manifest, file_of, graph_of, unknown

MANIFEST: Final = "manifest.json"


class BundleError(ValueError):
    """A folder is no bundle, or not one that is whole; the message names it and the file."""


def write_bundle(folder: Path, model: bytes, facts: Facts) -> Manifest:
    """Write `NAME.tflite`, `NAME.cc`, `NAME.h`, `README.md` and `manifest.json`, all or nothing.

    A bundle that is there already is replaced; any other folder with something in it is left alone. Raises
    `BundleError` then and where there is no room or permission, and `edge.artifact.ArtifactError` where the bytes are
    no model with one input and one output.
    """
    _check_replaceable(folder)
    manifest, files = _content(model, facts)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=".bundle-", dir=folder.parent))
    except OSError as error:
        raise _cannot_write(folder, error) from error
    try:
        for name, content in files.items():
            fresh.joinpath(name).write_bytes(content)
        fresh.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)  # a bundle, or empty: checked above
        fresh.rename(folder)
    except OSError as error:
        raise _cannot_write(folder, error) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return manifest


def _cannot_write(folder: Path, error: OSError) -> BundleError:
    """No room, or no permission."""
    return BundleError(f"{folder}: cannot be written ({error.strerror})")


def read_bundle(folder: Path) -> Manifest:
    """Read a bundle's manifest and hold every file to it.

    Raises `BundleError` naming what is missing, altered, or not understood.
    """
    manifest = _manifest(folder)
    for name, file in manifest.files.items():
        path = folder / name
        if Path(name).name != name:
            raise BundleError(f"{folder}: '{name}' is not a file of the bundle's own folder")
        if not path.is_file():
            raise BundleError(f"{path}: missing, though {MANIFEST} lists it")
        if file_of(path.read_bytes()) != file:
            raise BundleError(f"{path}: not the file that {MANIFEST} lists: its SHA-256 differs")
    return manifest


def _content(model: bytes, facts: Facts) -> tuple[Manifest, dict[str, bytes]]:
    graph, missing = graph_of(model), unknown(facts)
    files = {
        f"{facts.name}.tflite": model,
        f"{facts.name}.cc": source(facts.name, model).encode(),
        f"{facts.name}.h": header(facts.name, model).encode(),
        "README.md": card(graph, facts, missing, len(model), file_of(model).sha256).encode(),
    }
    manifest = Manifest(
        files={name: file_of(content) for name, content in files.items()}, graph=graph, facts=facts, unknown=missing
    )
    return manifest, {**files, MANIFEST: manifest.to_json()}


def _check_replaceable(folder: Path) -> None:
    if not folder.exists() and not folder.is_symlink():
        return
    if folder.is_symlink() or not folder.is_dir():
        raise BundleError(f"{folder}: exists and is not a folder; choose another name")
    found = {path.name for path in folder.iterdir()}
    if not found:
        return
    try:
        known = {MANIFEST, *_manifest(folder).files}
    except BundleError as error:
        raise BundleError(f"{folder}: holds something that is not a bundle; choose another folder") from error
    if strangers := sorted(found - known):
        raise BundleError(
            f"{folder}: a bundle that also holds '{strangers[0]}', which would be lost; move it, or write elsewhere"
        )


def _manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        at = ".".join(map(str, first["loc"])) or "the document"
        raise BundleError(f"{path}: not the manifest of a bundle: {at}: {first['msg']}") from error
