"""The export bundle: a folder with a model, its C array, a manifest and a model card.

`write_bundle(folder, model, facts)` writes it, `read_bundle(folder)` checks it; `Facts` is what the manifest says.
The same model and facts give the same bytes in every file.
"""

from edge.bundle.facts import (
    Agreement,
    Attack,
    Board,
    Budget,
    Calibration,
    Control,
    Cost,
    Data,
    Facts,
    Training,
    Tried,
)
from edge.bundle.folder import MANIFEST, BundleError, read_bundle, write_bundle
from edge.bundle.manifest import Manifest, manifest_schema

__all__ = [
    "MANIFEST",
    "Agreement",
    "Attack",
    "Board",
    "Budget",
    "BundleError",
    "Calibration",
    "Control",
    "Cost",
    "Data",
    "Facts",
    "Manifest",
    "Training",
    "Tried",
    "manifest_schema",
    "read_bundle",
    "write_bundle",
]
