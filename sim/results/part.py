"""What all parts of the document share."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

Interval = tuple[float, float]
Precision = Literal["float32", "int8", "int8-per-tensor", "int16x8", "int4", "head"]
Output = Literal["logits", "probabilities", "label"]
Vantage = Literal["server", "aggregator", "malicious-server", "global-user", "query", "device"]
Question = Literal["personalising", "rounding", "server"]
Verdict = Literal[
    "none shown",
    "some, nobody singled out",
    "some, singling out not measurable",
    "singled out",
    "controls failed",
    "not learnt",
    "not measurable",
]


class Part(BaseModel):
    """A part of the document: nothing unknown in it, and nothing changed afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True)
