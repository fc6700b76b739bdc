"""What protects a run: differential privacy for single records, and for whole clients. The mechanisms lie beside it."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from clients.messages import PublicError


class BudgetSpentError(PublicError):
    """What would be released next would pass `max_epsilon`."""


class _Noise(BaseModel):
    """How much noise: as a multiple of the clipping norm, or as the epsilon that it is solved for."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    noise_multiplier: float | None = Field(
        None, ge=1e-3, le=1e4, description="noise standard deviation over the clipping norm; or give `epsilon`"
    )
    epsilon: float | None = Field(
        None,
        ge=1e-3,
        le=1e9,
        description="the budget of the whole plan, which the noise is solved for; or give the noise",
    )
    delta: float = Field(1e-5, gt=0, lt=0.5, description="probability with which the epsilon may fail")
    max_epsilon: float | None = Field(
        None, gt=0, le=1e9, description="training stops before the release that would pass it; default: no limit"
    )
    clipping_norm: float = Field(1.0, ge=1e-6, le=1e6, description="L2 norm that each contribution is clipped to")
    clipping: Literal["fixed", "adaptive"] = Field(
        "fixed", description="adaptive: the norm follows a quantile of the contributions' norms, itself with noise"
    )
    quantile: float = Field(0.5, gt=0, lt=1, description="adaptive: share of contributions to leave unclipped")
    clipping_rate: float = Field(0.2, gt=0, le=2, description="adaptive: step size of the norm's logarithm")
    count_noise: float | None = Field(
        None, ge=1e-3, le=1e6, description="adaptive: noise standard deviation on the count of unclipped contributions"
    )

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.noise_multiplier is None) == (self.epsilon is None):
            raise ValueError("give either noise_multiplier or epsilon, and not both")
        if self.max_epsilon is not None and self.epsilon is not None and self.max_epsilon < self.epsilon:
            raise ValueError(
                f"max_epsilon = {self.max_epsilon:g} is below epsilon = {self.epsilon:g}; leave one of them out"
            )
        return self


class RecordPrivacyConfig(_Noise):
    """DP-SGD on every client. Unit: record; neighbours: one record added or removed; holds against everybody.

    Poisson sampling at a public rate, and a public normaliser (`training.batch_size`): nothing depends on how many
    records a client has.
    """

    sampling_rate: float = Field(
        0.1, ge=1e-4, le=1, description="probability that a step uses a record; an epoch has round(1/rate) steps"
    )
    gradients: Literal["auto", "hooks", "ghost"] = Field(
        "auto", description="ghost clipping pays for linear layers, hooks for convolutions; auto chooses"
    )

    def steps(self, epochs: int) -> int:
        """Steps that so many epochs take: a public number, the same for every client."""
        return epochs * max(1, round(1 / self.sampling_rate))


class ClientPrivacyConfig(_Noise):
    """Clipped updates and noise on them. Unit: client; whom it holds against depends on where the noise is added."""

    where: Literal["central", "local", "distributed"] = Field(
        description="central: the server adds noise to the sum, and sees what comes in; local: each client to its own "
        "update; distributed: the clients together, inside secure aggregation"
    )


class PrivacyConfig(BaseModel):
    """The `[privacy]` table of a scenario: none, one or both of its parts, and where their noise comes from."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    noise: Literal["seed", "system"] = Field(
        "seed",
        description="seed: a run can be repeated, and whoever knows its seed can take the noise off; system: the "
        "operating system's randomness, as in a deployment, and no run is like another",
    )

    record: RecordPrivacyConfig | None = Field(None, description="differential privacy for single records")
    client: ClientPrivacyConfig | None = Field(None, description="differential privacy for whole clients")
