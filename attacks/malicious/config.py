"""How far a malicious server goes, and how often it deviates."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class ProbeConfig(BaseModel):
    """The `[attacks.probes]` table of a scenario: read where a malicious server's attack is named."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    ascent: float = Field(
        0.1, gt=0, le=10, description="gradient-ascent: length of the step up, over the length of the weights"
    )
    backdoor_alpha: float = Field(
        0.5, gt=0, lt=1, description="privacy-backdoor: weight of the attacker's own records, which are to stay right"
    )
    backdoor_steps: int = Field(100, ge=1, le=100_000, description="privacy-backdoor: steps of Adam")
    backdoor_rate: float = Field(0.003, gt=0, le=1, description="privacy-backdoor: step size")
    isolated: int = Field(
        4, ge=1, le=10_000, description="gradient-suppression: clients that it isolates, one in each of its rounds"
    )
    detector_rounds: int = Field(
        4, ge=1, le=10_000, description="detector-neuron: rounds at most; each watches for one record per hidden unit"
    )
    detector_strength: float = Field(
        4.0, gt=0, le=1e4, description="detector-neuron: how strongly a unit that fires counts against the label"
    )
