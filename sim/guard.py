"""Protections that could not be vouched for: refused before any work, each with what to do about it."""

from __future__ import annotations

from collections.abc import Iterator

from attacks.mask_recovery import NAME as MASK_RECOVERY
from server.robust import RULES
from sim.given import federation_of, fresh_model
from sim.noise import hidden_coins, planned, rounds_of_a_client, rounds_of_the_server, strengths
from sim.scenario import Scenario
from sim.sums import expected_clients, is_refused, largest_entry, secagg_rules
from sim.tampering import members_of, most_trained_on

NEGLIGIBLE = 1e-3  # share of delta that may go unaccounted
ENOUGH_BELOW = 10  # times that delta should be below one over the number of units


def protection_faults(scenario: Scenario) -> Iterator[str]:
    """What is wrong with this scenario's `[privacy]`, `[aggregation]` and robust rule.

    Later faults are looked for only without earlier ones, since they need a plan that can be accounted for.
    """
    faults = [*_client_faults(scenario), *_record_faults(scenario), *_aggregation_faults(scenario)]
    faults += [*_combine_faults(scenario), *_delta_faults(scenario), *_coin_faults(scenario)]
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


def _coin_faults(scenario: Scenario) -> Iterator[str]:
    if hidden_coins(scenario) and MASK_RECOVERY in scenario.attacks.names:
        yield (
            f'attacks.names = "{MASK_RECOVERY}" with privacy.noise = "system": nobody knows before the first round who '
            'takes part in it, and could collude. Leave the attack out, or set privacy.noise = "seed"'
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
    expected, fewest = expected_clients(scenario), secagg_rules(settings).fewest
    if expected < fewest:
        yield (
            f'aggregation.protocol = "{settings.protocol}" with {expected} of {clients} clients in a round, '
            f"{settings.colluding} of them colluding: of two, each learns the other's update from the sum. Raise "
            f"federation.participation or have more clients, to have {fewest}"
        )
    yield from _refusals_that_tell(scenario, clients)
    yield from _too_long_for_a_sum(scenario)
    if expected >= fewest and settings.protocol == "secagg":
        from clients.aggregation.graph import neighbourhood

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
    """Under central noise a round that is refused for its number of clients tells that number to those from whom the
    coins are hidden, which nothing accounts for. Neighbours differ by a client, so both numbers of clients are tried.
    """
    plan, client = scenario.federation, scenario.privacy.client
    if client is None or client.where != "central" or plan.sampling != "poisson":
        return
    from scipy.stats import binom

    refused = [drawn for drawn in range(clients + 1) if is_refused(scenario, drawn)]
    chance = plan.rounds * max(
        sum(float(binom.pmf(drawn, count, plan.participation)) for drawn in refused) for count in (clients - 1, clients)
    )
    if chance > NEGLIGIBLE * client.delta:
        colluding = scenario.aggregation.colluding
        lower = ", or lower aggregation.colluding" if colluding else ""
        yield (
            f'privacy.client.where = "central" with aggregation.protocol = "{scenario.aggregation.protocol}"'
            f"{f' and colluding = {colluding}' if colluding else ''}: rounds with {_spans(refused)} clients are "
            f"refused, which happens with probability {chance:.2g}: too often to leave unaccounted at delta = "
            f"{client.delta:g}. Raise federation.participation, or have more clients{lower}"
        )


def _spans(numbers: list[int]) -> str:
    """Numbers in increasing order, runs of them as `0 to 4`."""
    starts = [n for n in numbers if n - 1 not in numbers]
    ends = [n for n in numbers if n + 1 not in numbers]
    return ", ".join(f"{a}" if a == b else f"{a} to {b}" for a, b in zip(starts, ends, strict=True))


def _delta_faults(scenario: Scenario) -> Iterator[str]:
    """A promise with delta = 1/n is kept by publishing one of n units at random, whole."""
    for table, delta, units, what in _deltas(scenario):
        if delta >= 1 / units:
            yield (
                f"privacy.{table}.delta = {delta:g}: {units:,} {what}, and with delta at 1/{units} = {1 / units:.2g} "
                "or above the promise is kept by publishing one of them: it promises nothing. Set it well below, to "
                f"{1 / (ENOUGH_BELOW * units):.0e} or less"
            )


def large_deltas(scenario: Scenario) -> list[str]:
    """What must be said of a delta that is allowed, and large beside one over the number of units."""
    everybody = sum(len(members_of(scenario, client.client)[1]) for client in federation_of(scenario).clients)
    said = []
    for table, delta, units, what in _deltas(scenario):
        count, of = (everybody, "records in all") if table == "record" else (units, what)
        if table == "client" and delta <= 1 / (ENOUGH_BELOW * count):  # its rows for a record have that delta too
            count, of = everybody, "records in all, in the rows of a record"
        if delta > 1 / (ENOUGH_BELOW * count):
            said.append(
                f"privacy.{table}.delta = {delta:g} is large for {count:,} {of}: with that probability anything may "
                f"happen to each. Below {1 / (ENOUGH_BELOW * count):.0e} (a tenth of 1/{count}) is usual."
            )
    return said


def _deltas(scenario: Scenario) -> Iterator[tuple[str, float, int, str]]:
    """Each promise's table, its delta, and how many units the mechanism runs over."""
    if record := scenario.privacy.record:
        yield "record", record.delta, most_trained_on(scenario), "records train at a client"
    if client := scenario.privacy.client:
        yield "client", client.delta, federation_of(scenario).participants, "clients take part"


def _too_long_for_a_sum(scenario: Scenario) -> Iterator[str]:
    """A client whose clipped update does not fit refuses, and that it did would tell about its records."""
    client, largest = scenario.privacy.client, largest_entry(scenario)
    if client is not None and client.where == "central" and client.clipping_norm > largest:
        mend = f"clipping_norm to {largest:g} or less"
        if scenario.aggregation.protocol == "secagg":
            mend += ", or raise aggregation.largest_update"
        yield (
            f"privacy.client.clipping_norm = {client.clipping_norm:g}: under {scenario.aggregation.protocol} an entry "
            f"of an update may be {largest:g} at most, so that a client would have to refuse for what its records are. "
            f"Lower privacy.client.{mend}"
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
    if not scenario.noised:
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
