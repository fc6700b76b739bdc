"""Which attacks a scenario runs, and with how many reference models."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, field_validator

from attacks.registry import ATTACKS


class AttackConfig(BaseModel):
    """The `[attacks]` table of a scenario."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    names: tuple[str, ...] = Field(tuple(ATTACKS), min_length=1, description="attacks to run, by name")
    references: int = Field(4, ge=1, le=256, description="reference models the attacker trains per target model")

    @field_validator("names")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        allowed = ", ".join(ATTACKS)
        if unknown := [name for name in names if name not in ATTACKS]:
            raise ValueError(f"there is no attack {', '.join(map(repr, unknown))}; there are: {allowed}")
        if len(set(names)) < len(names):
            raise ValueError(f"an attack is named twice in {', '.join(names)}; name each once")
        return names
