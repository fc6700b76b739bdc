"""`manifest.json`: the facts of a bundle, with what the model file itself shows and a hash of every other file."""

from __future__ import annotations

import json
from collections import Counter
from hashlib import sha256
from typing import Any, Literal

from pydantic import Field

from edge.artifact import Artifact, ArtifactError, Port
from edge.bundle.facts import Facts, Part
from edge.cost.macs import DAMAGE
from edge.tensors import kinds_of, unpacked

SCHEMA: Literal["seepage/bundle/1"] = "seepage/bundle/1"
_UNKNOWN = {
    "training": "which training run it comes from.",
    "data": "which data it was trained on.",
    "calibration": "which records set its quantisation ranges, and so became part of the file.",
    "agreement": "how often its answers are those of the float model that it was made from.",
    "arena_bytes": "how much working memory it needs.",
    "board": "whether it fits a board.",
    "latency": "how long an inference takes.",
    "energy": "what energy an inference takes.",
    "budgets": "whether differential privacy protects anybody in its training data.",
    "audit": "how well membership in its training data can be told: it was not attacked.",
}


class File(Part):
    """A file of the bundle."""

    sha256: str
    size: int = Field(description="bytes")


class End(Part):
    """The model's input or output: real = scale * (number - zero point)."""

    shape: tuple[int, ...] = Field(description="channels last, with a batch of 1")
    numbers: Literal["int8", "int16", "float32"]
    scale: float
    zero_point: int

    @staticmethod
    def of(port: Port) -> End:
        """From an artefact's."""
        return End(shape=port.shape, numbers=port.numbers, scale=port.scale, zero_point=port.zero_point)


class Graph(Part):
    """What the model file shows."""

    operators: dict[str, int] = Field(description="how often each occurs")
    input: End
    output: End
    answers: Literal["logits", "probabilities"]


class Manifest(Part):
    """A bundle, whole."""

    schema_: Literal["seepage/bundle/1"] = Field(alias="schema", default=SCHEMA)
    files: dict[str, File]
    graph: Graph
    facts: Facts
    unknown: tuple[str, ...] = Field(description="what is not known, in whole sentences")

    def to_json(self) -> bytes:
        """The same manifest gives the same bytes: keys are sorted, nothing tells the time or the place."""
        document = self.model_dump(mode="json", by_alias=True)
        return (json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def graph_of(model: bytes) -> Graph:
    """Read a TFLite file. Raises `edge.artifact.ArtifactError` where it is none with one input and one output."""
    artifact = Artifact.from_bytes(model)
    try:
        operators = Counter(kinds_of(unpacked(model)))
    except DAMAGE as error:
        raise ArtifactError(f"the TFLite file is damaged: {error}") from error
    return Graph(
        operators=dict(sorted(operators.items())),
        input=End.of(artifact.input),
        output=End.of(artifact.output),
        answers=artifact.answers,
    )


def file_of(content: bytes) -> File:
    """Its size and hash."""
    return File(sha256=sha256(content).hexdigest(), size=len(content))


def unknown(facts: Facts) -> tuple[str, ...]:
    """What is not known: everything that nobody filled in, costs without an interval, and what the facts say."""
    missing = [f"It is not known {words}" for name, words in _UNKNOWN.items() if getattr(facts, name) is None]
    for name in ("latency", "energy"):
        cost = getattr(facts, name)
        if cost is not None and cost.interval is None:
            missing.append(f"It is not known {_UNKNOWN[name][:-1]}: {cost.anchor}.")
    if facts.audit is not None and not facts.controls:
        missing.append("It is not known whether the audit's controls hold: none was run.")
    if facts.data is not None and not facts.data.channels:
        missing.append("It is not known what the numbers of a record stand for: the data does not say.")
    return (*missing, *facts.unknown)


def manifest_schema() -> dict[str, Any]:
    """The JSON Schema of `manifest.json`."""
    return Manifest.model_json_schema(by_alias=True)
