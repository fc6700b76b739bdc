"""The `[study]` table of a scenario: how often it is run, and with which changes."""

from __future__ import annotations

import re
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

PLAIN = "as-is"  # the one variant of a scenario that names none
_OWN = ("name", "title", "seed", "study")  # of the whole study, not of one variant


class StudyConfig(BaseModel):
    """One seed and no variants: a plain run. Otherwise every variant is run with every seed."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    seeds: int = Field(1, ge=1, le=1000, description="runs of each variant: with `seed`, `seed` + 1, and so on")
    variants: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="name -> settings that it changes, such as [study.variants.secagg.aggregation] protocol; an empty "
        "table changes nothing",
    )

    @field_validator("variants")
    @classmethod
    def _sound(cls, variants: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name, changes in variants.items():
            if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name):
                raise ValueError(f"variant {name!r}: names are small letters, digits and hyphens")
            if own := [key for key in _OWN if key in changes]:
                raise ValueError(f"variant '{name}' sets {', '.join(own)}, which belongs to the study as a whole")
        return variants

    def __hash__(self) -> int:
        """Scenarios are keys of caches; a dictionary alone could not be hashed."""
        return hash(self.model_dump_json())

    @property
    def single(self) -> bool:
        """Whether this is one plain run."""
        return self.seeds == 1 and not self.variants
