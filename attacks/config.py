"""Which attacks a scenario runs, and how much work they may be."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, field_validator

from attacks.malicious.config import ProbeConfig
from attacks.recoveries import RECOVERIES
from attacks.registry import ATTACKS

USUAL = ("loss", "lira", "rmia", "cosine", "loss-series")  # a few minutes at most; the others are for asking
MOST_NAMED = 3  # unknown names that a message repeats


class AttackConfig(BaseModel):
    """The `[attacks]` table of a scenario."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    names: tuple[str, ...] = Field(USUAL, min_length=1, description="attacks to run, by name: `seepage list attacks`")
    references: int = Field(4, ge=1, le=256, description="reference models the attacker trains per target model")
    queries: int | None = Field(
        None,
        ge=1,
        le=1_000_000_000,
        description="queries that a model's owner answers in one attack, for each candidate record; those about the "
        "attacker's own records count as well. Left out: no limit",
    )
    mask_seeds: int = Field(
        2**28,
        ge=1,
        le=2**28,
        description="mask-recovery: seeds it tries at most; 2^28 is all there are in Flower's masks",
    )

    victims: int = Field(
        4,
        ge=1,
        le=64,
        description="reconstruction: clients whose first updates are taken apart, from fewest records to most",
    )
    victim_records: int = Field(8, ge=1, le=64, description="reconstruction: records of each that are sought at most")

    probes: ProbeConfig = ProbeConfig()

    @field_validator("names")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        allowed = (*ATTACKS, *RECOVERIES)
        if unknown := [name for name in names if name not in allowed]:
            named = ", ".join(map(repr, unknown[:MOST_NAMED]))
            raise ValueError(f"there is no attack {named}; there are: {', '.join(allowed)}")
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"{twice} is named twice; name each attack once")
        if not any(name in ATTACKS for name in names):
            raise ValueError(f"none of these tells members from others; name one of {', '.join(ATTACKS)} as well")
        return names
