"""Client-level differential privacy by the server: updates clipped, noise on their sum, a public normaliser."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from clients.accounting import with_count
from clients.privacy import ClientPrivacyConfig
from clients.randomness import noise_generator
from clients.update import WITHIN, clip
from server.received import Received

Vector = Float[np.ndarray, " params"]


@dataclass(slots=True, kw_only=True)
class CentralNoise:
    """DP-FedAvg (McMahan et al. 2018, arXiv 1710.06963) with fixed or adaptive clipping (Andrew et al. 2021).

    Unit: client; neighbours: one client added or removed, so Poisson sampling is asked for. Holds against whoever sees
    the global models and not what came in: the server that adds the noise sees it all. The noise is on the sum, with
    standard deviation `noise_multiplier` times the clipping norm, and the sum is divided by the *expected* number of
    clients: neither depends on how many replied, so a drop-out changes nothing about the guarantee.
    """

    config: ClientPrivacyConfig
    noise_multiplier: float
    expected: float  # sampling rate times clients: a public constant
    seed: int | None  # None: noise from the operating system's randomness
    norm_limits: tuple[float, float] = (0.0, math.inf)  # that an adaptive norm stays between
    clipping_norm: float = field(init=False)  # adapts from round to round, if it does

    def __post_init__(self) -> None:
        self.clipping_norm = self.config.clipping_norm

    def __call__(self, server_round: int, received: Received) -> Vector:
        """The step of one round. Updates that arrive one by one are clipped here; a secure sum was clipped before."""
        rng, norm = noise_generator(self.seed, "central noise", server_round), self.clipping_norm
        total = received.total
        if received.updates:
            total = np.sum([clip(u.astype(np.float64), norm) for _, u in sorted(received.updates.items())], axis=0)
        noise = rng.normal(0.0, self._update_noise * norm, total.shape)
        if self.config.clipping == "adaptive":
            self._adapt(self._within(received), len(received.clients), rng)
        return (total + noise) / self.expected

    @property
    def count_noise(self) -> float:
        """Standard deviation of the noise on the count of short updates."""
        return self.config.count_noise or max(self.expected / 20, self.noise_multiplier)

    @property
    def _update_noise(self) -> float:
        """The noise multiplier of the updates: less of the budget is left for them where the count takes a part."""
        if self.config.clipping == "fixed":
            return self.noise_multiplier
        return with_count(self.noise_multiplier, self.count_noise)

    def _within(self, received: Received) -> float:
        """How many updates were not longer than the norm."""
        if received.updates:
            return sum(float(np.linalg.norm(u) <= self.clipping_norm) for u in received.updates.values())
        return received.sums.get(WITHIN, 0.0)

    def _adapt(self, within: float, clients: int, rng: np.random.Generator) -> None:
        """Andrew et al. 2021 (arXiv 1905.03871), section 2: a half is taken off each bit, so that one client moves the
        count by a half only; the norm then follows the quantile in the logarithm.
        """
        share = (within - clients / 2 + rng.normal(0.0, self.count_noise)) / self.expected + 0.5
        smallest, largest = self.norm_limits
        adapted = self.clipping_norm * math.exp(-self.config.clipping_rate * (share - self.config.quantile))
        self.clipping_norm = min(max(adapted, smallest), largest)
