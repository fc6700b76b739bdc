"""What a scenario says about the shipped model: its `[edge]` table."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from edge.devices import DEVICES


class EdgeConfig(BaseModel):
    """The microcontroller, what the model on it answers, and the records that set its int8 ranges."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    device: str = Field(
        default="nano-33-ble-sense", description="the microcontroller board: a name from `seepage list devices`"
    )
    output: Literal["logits", "probabilities"] = Field(
        default="logits", description="what the shipped model answers: logits, or a softmax in steps of 1/256"
    )
    calibration: Literal["population", "members", "held-out"] = Field(
        default="population",
        description="whose records set the int8 ranges, and so become part of what is released: the attacker's "
        "population (public data), the training records, or the same clients' held-out records",
    )
    calibration_records: int = Field(default=200, ge=10, description="how many of those records are used, at most")

    round_ranges: float | None = Field(
        default=None,
        ge=1.01,
        le=16,
        description="move each end of each int8 range outward to a power of this number, such as 2: hides which record "
        "set it, for a little accuracy; default: ranges stay as the records set them",
    )

    @field_validator("device")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in DEVICES:
            raise ValueError(f"device '{name}' is not known; choose one of {', '.join(DEVICES)}")
        return name
