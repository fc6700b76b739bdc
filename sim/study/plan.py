"""Which runs a study is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sim.given import data_hash_of
from sim.manifest import combined
from sim.scenario import Scenario, changed
from sim.study.config import PLAIN, StudyConfig


@dataclass(frozen=True, slots=True)
class Part:
    """One run of a study."""

    variant: str
    scenario: Scenario


def parts(scenario: Scenario) -> list[Part]:
    """Every variant with every seed, variant by variant. Each is a plain scenario of its own."""
    study = scenario.study
    return [
        Part(variant, part_of(scenario, variant, changes, scenario.seed + number))
        for variant, changes in (study.variants or {PLAIN: {}}).items()
        for number in range(study.seeds)
    ]


def part_of(scenario: Scenario, variant: str, changes: dict[str, Any], seed: int) -> Scenario:
    """The scenario with a variant's changes, a name of its own, and no study."""
    name = scenario.name if variant == PLAIN else f"{scenario.name}.{variant}"
    return changed(scenario.model_copy(update={"study": StudyConfig()}), {**changes, "name": name, "seed": seed})


def data_of(scenario: Scenario) -> str:
    """SHA-256 of the data that a study's variants meet, with their first seed."""
    first = {part.variant: part.scenario for part in reversed(parts(scenario))}
    return combined(f"{variant} {data_hash_of(first[variant])}" for variant in sorted(first))
