"""Protections that could not be vouched for: refused before any work, each with what to do about it."""

from __future__ import annotations

from collections.abc import Iterator

from server.robust import RULES
from sim.given import federation_of, fresh_model
from sim.noise import planned, rounds_of_a_client, rounds_of_the_server, strengths
from sim.protect import FEWEST_IN_A_SUM, expected_clients, secagg_rules
from sim.scenario import Scenario
from sim.tampering import most_trained_on

NEGLIGIBLE = 1e-3  # share of delta that may go unaccounted


def protection_faults(scenario: Scenario) -> Iterator[str]:
    """What is wrong with this scenario's `[privacy]`, `[aggregation]` and robust rule.

    Later faults are looked for only without earlier ones, since they need a plan that can be accounted for.
    """
    faults = [*_client_faults(scenario), *_record_faults(scenario), *_aggregation_faults(scenario)]
    faults += _combine_faults(scenario)
    yield from faults or _noise_faults(scenario)


def _client_faults(scenario: Scenario) -> Iterator[str]:
    client, plan = scenario.privacy.client, scenario.federation
    if client is None:
        return
    if client.where != "local" and plan.sampling == "fixed" and plan.participation < 1:
        yield (
            f'privacy.client.where = "{client.where}" with federation.sampling = "fixed" and participation = '
            f"{plan.participation:g}: the budget is computed for clients that are sampled by a coin each. Set "
            'federation.sampling = "poisson", or federation.participation = 1'
        )
    if client.where != "central" and client.clipping == "adaptive":
        yield (
            f'privacy.client.clipping = "adaptive" with where = "{client.where}": the norm can only adapt where the '
            'server adds the noise, to the count as well. Set clipping = "fixed", or where = "central"'
        )
    if client.where == "distributed" and scenario.aggregation.protocol != "secagg":
        yield (
            f'privacy.client.where = "distributed" with aggregation.protocol = "{scenario.aggregation.protocol}": each '
            "client adds a share of the noise, which is enough only in the sum, and in whole numbers, so nobody may "
            'see less than that sum. Set aggregation.protocol = "secagg"'
        )


def _record_faults(scenario: Scenario) -> Iterator[str]:
    if scenario.privacy.record is None:
        return
    from clients.dp_sgd import unsafe  # Opacus takes seconds to import

    yield from (f"model.name = {scenario.model.name}: {fault}" for fault in unsafe(fresh_model(scenario)))


def _aggregation_faults(scenario: Scenario) -> Iterator[str]:
    settings = scenario.aggregation
    if settings.protocol == "none":
        if settings.colluding:
            yield (
                f'aggregation.colluding = {settings.colluding} with protocol = "none": a server that sees every update '
                "needs nobody's help. Leave it out, or choose a protocol"
            )
        return
    clients = federation_of(scenario).participants
    expected = expected_clients(scenario)
    if expected < FEWEST_IN_A_SUM:
        yield (
            f'aggregation.protocol = "{settings.protocol}" with {expected} of {clients} clients in a round: of two, '
            f"each learns the other's update from the sum. Raise federation.participation, to have {FEWEST_IN_A_SUM}"
        )
    yield from _refusals_that_tell(scenario, clients)
    if expected >= FEWEST_IN_A_SUM and settings.protocol == "secagg":
        from server.aggregation.graph import neighbourhood

        try:
            neighbourhood(expected, secagg_rules(settings))
        except ValueError as error:
            yield f"aggregation: {error}"
    most = most_trained_on(scenario)
    if most > settings.largest_weight and scenario.privacy.client is None and scenario.privacy.record is None:
        yield (
            f"aggregation.largest_weight = {settings.largest_weight:,}: a client has {most:,} members, and its update "
            f"times that will not fit into the fixed point; {most:,} is enough"
        )


def _refusals_that_tell(scenario: Scenario, clients: int) -> Iterator[str]:
    """Under central noise a round that is refused because few were drawn tells how many, which nothing accounts for."""
    plan, client = scenario.federation, scenario.privacy.client
    if client is None or client.where != "central" or plan.sampling != "poisson":
        return
    from scipy.stats import binom

    chance = plan.rounds * binom.cdf(FEWEST_IN_A_SUM - 1, clients, plan.participation)
    if chance > NEGLIGIBLE * client.delta:
        yield (
            f'privacy.client.where = "central" with aggregation.protocol = "{scenario.aggregation.protocol}": a round '
            f"with fewer than {FEWEST_IN_A_SUM} clients is refused, which happens with probability {chance:.2g}: "
            "too often to leave unaccounted. Raise federation.participation, or have more clients"
        )


def _combine_faults(scenario: Scenario) -> Iterator[str]:
    """A robust rule looks at single updates, and needs enough of them."""
    plan, protocol, client = scenario.federation, scenario.aggregation.protocol, scenario.privacy.client
    if plan.combine == "mean":
        return
    if protocol != "none":
        yield (
            f'federation.combine = "{plan.combine}" with aggregation.protocol = "{protocol}": the rule compares single '
            'updates, which the protocol hides from the server. Set federation.combine = "mean", or '
            'aggregation.protocol = "none"'
        )
    if client is not None and client.where == "central":
        yield (
            f'federation.combine = "{plan.combine}" with privacy.client.where = "central": the noise is measured for '
            "a sum of clipped updates, and one client can change what the rule makes of them by more. Set "
            'federation.combine = "mean", or privacy.client.where = "local"'
        )
    needed, expected = RULES[plan.combine].fewest(plan.tampering_allowed), expected_clients(scenario)
    if expected < needed:
        yield (
            f'federation.combine = "{plan.combine}" with tampering_allowed = {plan.tampering_allowed}: it needs '
            f"{needed} clients in a round, and {expected} are planned. Lower federation.tampering_allowed, raise "
            "federation.participation, or have more clients"
        )


def _noise_faults(scenario: Scenario) -> Iterator[str]:
    if scenario.privacy.record is None and scenario.privacy.client is None:
        return
    from clients.accounting import AccountingError, with_count

    try:
        noise = strengths(scenario)
        for config, multiplier in ((scenario.privacy.record, noise.record), (scenario.privacy.client, noise.client)):
            if config and multiplier and config.clipping == "adaptive" and config.count_noise:
                with_count(multiplier, config.count_noise)
    except AccountingError as error:
        yield f"privacy: {error}"
        return
    for unit, rounds in (("record", rounds_of_a_client(scenario)), ("client", rounds_of_the_server(scenario))):
        if rounds == 0 and planned(scenario).most:
            yield (
                f"privacy: max_epsilon leaves no room for a single round of the {unit}'s budget (personalisation is "
                "kept in reserve). Raise max_epsilon or noise_multiplier, or lower the epochs"
            )
