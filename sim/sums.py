"""What a secure sum can be made of: how many clients it needs, and how far rounding inside it moves an update."""

from __future__ import annotations

import math
from functools import lru_cache

from clients.aggregation.graph import Rules, neighbourhood
from clients.models import parameter_count
from server.aggregation.config import AggregationConfig
from sim.given import federation_of, fresh_model
from sim.scenario import Scenario

TOLD_WHO = ("secagg", "secagg-plus-flower")  # protocols that name a client's neighbours to it, by number


def secagg_rules(settings: AggregationConfig) -> Rules:
    """How many neighbours, survivors and clients in a sum the settings ask for."""
    return Rules(threshold=settings.threshold, neighbours=settings.neighbours, colluding=settings.colluding)


def expected_clients(scenario: Scenario) -> int:
    """How many clients a round is planned for."""
    return max(1, round(federation_of(scenario).participants * scenario.federation.participation))


def is_refused(scenario: Scenario, clients: int) -> bool:
    """Whether a round with so many clients is refused before anything is sent. It depends on their number alone."""
    settings = scenario.aggregation
    if settings.protocol == "none":
        return clients == 0 and not _noise_of_the_server(scenario)
    if clients < secagg_rules(settings).fewest:
        return True
    return settings.protocol == "secagg" and not _has_neighbourhood(clients, secagg_rules(settings))


@lru_cache(maxsize=1024)
def _has_neighbourhood(clients: int, rules: Rules) -> bool:
    try:
        neighbourhood(clients, rules)
    except ValueError:
        return False
    return True


def stretch(scenario: Scenario) -> float:
    """By what factor rounding inside a secure sum may lengthen an update that was clipped on the client.

    At least 1, which is what a server that clips itself comes to. The largest L2 error that rounding can add, over the
    clipping norm; a client leaves SLACK of its norm free for it.
    """
    from clients.update import SLACK

    client = scenario.privacy.client
    assert client is not None
    if scenario.aggregation.protocol == "none":
        return 1.0
    return max(1.0, 1 - SLACK + rounding_error(scenario) / _smallest_norm(scenario))


def rounding_error(scenario: Scenario) -> float:
    """The largest L2 norm of what rounding adds to one client's update in this scenario's protocol."""
    from clients.aggregation import ckks
    from clients.aggregation.fixed_point import plan_fixed_point
    from server.aggregation.flower import SecAggPlusSettings

    settings, values = scenario.aggregation, parameter_count(fresh_model(scenario))
    if settings.protocol == "secagg":  # to the nearest step, every client weighing 1
        clients = federation_of(scenario).participants
        return math.sqrt(values) / (2 * plan_fixed_point(clients, settings.largest_update, 1).scale)
    if settings.protocol == "secagg-plus-flower":  # up or down at random
        flower = SecAggPlusSettings(max_weight=1)
        return math.sqrt(values) * 2 * flower.clipping_range / flower.quantization_range
    # CKKS rounds DEGREE coefficients to the nearest whole number; the canonical embedding is sqrt(DEGREE / 2) times an
    # isometry onto the slots
    ciphertexts = math.ceil((values + 2) / ckks.SLOTS)  # a weight and a count beside them
    return math.sqrt(ciphertexts) * ckks.DEGREE / math.sqrt(8) / ckks.SCALE


def largest_entry(scenario: Scenario) -> float:
    """No entry of an update may be larger, or the client refuses to take part, which would tell about its records."""
    from clients.aggregation import ckks
    from server.aggregation.flower import SecAggPlusSettings

    return {
        "none": math.inf,
        "secagg": scenario.aggregation.largest_update,
        "secagg-plus-flower": SecAggPlusSettings(max_weight=1).clipping_range,
        "ckks": ckks.LIMIT,
    }[scenario.aggregation.protocol]


def norm_limits(scenario: Scenario) -> tuple[float, float]:
    """Between which an adaptive clipping norm must stay, so that what is said about rounding and refusals holds."""
    client = scenario.privacy.client
    assert client is not None
    if scenario.aggregation.protocol == "none":
        return 0.0, math.inf
    return _smallest_norm(scenario), largest_entry(scenario)


def _smallest_norm(scenario: Scenario) -> float:
    """The clipping norm, or where it adapts the smallest that it is let come down to: an error of 1 % of it."""
    client = scenario.privacy.client
    assert client is not None
    if client.clipping == "fixed":
        return client.clipping_norm
    return min(client.clipping_norm, 100 * rounding_error(scenario))


def _noise_of_the_server(scenario: Scenario) -> bool:
    client = scenario.privacy.client
    return client is not None and client.where == "central"
