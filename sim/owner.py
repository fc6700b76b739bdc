"""The owner of a model that is attacked by queries: how many it answers, and what it notices."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np

from attacks.monitor import Monitor, Normal, learn
from attacks.observation import Guess, Observation, Oracle
from attacks.registry import launch
from sim.given import federation_of
from sim.scenario import Scenario


def launch_watched(scenario: Scenario, attack: str, observation: Observation, rng: np.random.Generator) -> Guess:
    """Launch an attack on models whose owner answers `attacks.queries` for each candidate, and watches."""
    monitor = Monitor(_normal_use(scenario))
    limited = replace(
        observation,
        oracle=_limited(scenario, observation, observation.oracle),
        before=_limited(scenario, observation, observation.before),
    )
    guess = launch(attack, limited, rng, monitor.see)
    return replace(guess, flagged=monitor.flagged)


def flagged(guesses: list[Guess]) -> float | None:
    """Share of all queries that were flagged; None where nobody watched, or nothing was asked."""
    asked = [(guess.flagged, guess.queries_per_record * len(guess.scores)) for guess in guesses]
    watched = [(share, queries) for share, queries in asked if share is not None]
    total = sum(queries for _, queries in watched)
    return sum(share * queries for share, queries in watched) / total if total else None


def _limited(scenario: Scenario, observation: Observation, oracle: Oracle | None) -> Oracle | None:
    each = scenario.attacks.queries
    return oracle and replace(oracle, budget=None if each is None else each * len(observation.candidates))


@lru_cache(maxsize=2)
def _normal_use(scenario: Scenario) -> Normal:
    """Other people's records, asked about in order and answered rightly, are what the owner knows as normal use."""
    own = federation_of(scenario).population
    half = len(own.y) // 2
    return learn(own.x[:half], own.y[:half])
