"""What a scenario says about the shipped model: its `[edge]` table."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from edge.devices import DEVICES

Variant = Literal["int8", "int8-per-tensor", "int16x8", "int4"]


class HeadTraining(BaseModel):
    """How a device trains the last layer of the model in its flash: plain gradient descent on its own records."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    epochs: int = Field(20, ge=1, le=10_000, description="passes over the device's records")
    batch_size: int = Field(8, ge=1, le=1_000_000, description="records per step, whose features lie in RAM together")
    learning_rate: float = Field(0.05, ge=1e-12, le=10, description="step size of plain gradient descent")


class EdgeConfig(BaseModel):
    """The microcontroller, what the model on it answers, and the records that set its int8 ranges."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    device: str = Field(
        default="nano-33-ble-sense", description="the microcontroller board: a name from `seepage list devices`"
    )
    output: Literal["logits", "probabilities"] = Field(
        default="logits", description="what the shipped model answers: logits, or a softmax in steps of 1/256"
    )
    variants: tuple[Variant, ...] = Field(
        default=("int8",),
        min_length=1,
        description="how the models are quantised: the first ships, and is what all else is about; any others are "
        "exported and attacked beside it (int8, int8-per-tensor, int16x8, int4)",
    )
    head: HeadTraining | None = Field(
        default=None,
        description="each device also trains the last layer of the global int8 model itself, and is attacked beside "
        "the personal models that are fine-tuned elsewhere and flashed anew; default: no device trains",
    )
    calibration: Literal["population", "members", "held-out"] = Field(
        default="population",
        description="whose records set the int8 ranges, and so become part of what is released: the attacker's "
        "population (public data), the training records, or the same clients' held-out records",
    )
    calibration_records: int = Field(
        default=200, ge=10, le=1_000_000, description="how many of those records are used, at most"
    )

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

    @model_validator(mode="after")
    def _roundable(self) -> EdgeConfig:
        if self.round_ranges is not None and "int16x8" in self.variants:
            raise ValueError("round_ranges moves int8 ranges: leave it out, or int16x8 out of variants")
        return self

    @field_validator("variants")
    @classmethod
    def _each_once(cls, names: tuple[Variant, ...]) -> tuple[Variant, ...]:
        if len(set(names)) < len(names):
            raise ValueError("each variant once; int8, int8-per-tensor, int16x8 and int4 can be named")
        return names
