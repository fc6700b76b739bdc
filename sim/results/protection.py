"""What was promised, and what protection cost."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sim.results.part import Interval, Part


class Budget(Part):
    """What is promised to one unit against one vantage. `epsilon` is "inf" where nothing protects."""

    unit: Literal["record", "client"]
    vantage: str
    epsilon: float | Literal["inf"]
    delta: float | None
    accountant: str | None
    adjacency: str | None = Field(description="which data sets the promise holds between")
    per_client_max: float | None = Field(description="the largest over clients, where each has a budget of its own")
    noise: Literal["seed", "system"] | None = Field(
        None, description="seed: from the printed seed, so that whoever has it can take it off; null without a promise"
    )
    why: str = Field(description="where the promise comes from, or why there is none")


class Cost(Part):
    """What protection takes from one model, paired: the same held-out records, the same seed, with and without it."""

    model: Literal["global", "personal"]
    unprotected: float = Field(description="accuracy of the same run without [privacy] and [aggregation]")
    difference: float = Field(description="protected less unprotected: below 0, protection costs accuracy")
    ci: Interval = Field(description="covers which people and records were in the study, not another training")


class Protection(Part):
    """What was in force: the settings as they were solved and as they turned out."""

    aggregation: str
    record_noise_multiplier: float | None
    client_noise_multiplier: float | None
    client_noise: Literal["central", "local", "distributed"] | None
    stopped: str = Field(description="why training ended early, if it did")
    caveats: list[str] = Field([], description="what goes with every epsilon here")
    cost: list[Cost]
