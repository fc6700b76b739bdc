"""The [aggregation] table of a scenario: who gets to see single updates."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class AggregationConfig(BaseModel):
    """Whether the server sees every update, or only their sum, and by which protocol."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    protocol: Literal["none", "secagg", "secagg-plus-flower", "ckks"] = Field(
        "none", description="who sees single updates: see `seepage list defences`"
    )
    threshold: float = Field(
        0.67,
        gt=0.5,
        lt=1,
        description="secagg: share of a client's neighbours that must stay to the end of a round; more than half, so "
        "that the server can never gather both shares of a secret",
    )
    neighbours: int | None = Field(
        None,
        ge=2,
        le=100_000,
        description="secagg, secagg-plus-flower: clients each client shares secrets with; default: enough that a fifth "
        "of all may drop out, and that no colluding clients can unmask anybody, or all; of Flower's always all",
    )
    colluding: int = Field(
        0,
        ge=0,
        le=100_000,
        description="clients that may be in league with the server: the threshold and the noise allow for them",
    )
    largest_update: float = Field(
        16.0,
        ge=1e-6,
        le=1e6,
        description="no entry of an update may be larger, or the client refuses: room in the fixed point",
    )
    largest_weight: int = Field(
        10_000, ge=1, le=1_000_000, description="no client may have more members: room in the fixed point"
    )
