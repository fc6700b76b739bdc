"""How much noise a scenario asks for, and what it is worth: for the plan, or for what really happened."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from attacks.malicious.making import MAKERS, Kind
from attacks.malicious.making import planned as probes_planned
from clients.privacy import ClientPrivacyConfig, RecordPrivacyConfig
from server.strategy import sample_clients
from sim.given import federation_of, fresh_model
from sim.scenario import Scenario

if TYPE_CHECKING:
    from clients.aggregation.skellam import SkellamEncoding


@dataclass(frozen=True, slots=True)
class Participation:
    """Who took part, planned or real: it depends on the schedule and on drop-outs, never on anybody's records."""

    arrived: tuple[int, ...]  # for each round that released something, how many clients' updates were in it
    trained: tuple[int, ...]  # for each client, the rounds it trained in, those of a server that deviates among them
    probed: tuple[int, ...] = ()  # as `arrived`, for rounds of a server that deviates: only it gets to see them
    personal: int = 1  # models that a client personalised, the most of any

    @property
    def most(self) -> int:
        """The rounds of the client that trained in most of them."""
        return max(self.trained, default=0)


@dataclass(frozen=True, slots=True)
class Strengths:
    """The noise multipliers, given or solved for; None where there is no such noise."""

    record: float | None
    client: float | None


def planned(scenario: Scenario) -> Participation:
    """Who is to take part, if nobody drops out, and if the server deviates as often as its attacks ask for."""
    clients = federation_of(scenario).participants
    rounds = range(1, scenario.federation.rounds + 1)
    schedule = [sample_clients(clients, scenario.federation, scenario.seed, number) for number in rounds]
    probes = _probes(scenario, "train")
    return Participation(
        arrived=tuple(map(len, schedule)),
        trained=tuple(sum(client in sampled for sampled in schedule) + probes for client in range(clients)),
        probed=(clients,) * probes,
        personal=1 + _probes(scenario, "personalize"),
    )


def _probes(scenario: Scenario, kind: Kind) -> int:
    """Rounds of this kind that a server which deviates makes at most, beside the protocol's. Every client is asked."""
    attacks, clients = scenario.attacks, federation_of(scenario).participants
    if not any(name in MAKERS for name in attacks.names):
        return 0
    model = fresh_model(scenario)
    return sum(probes_planned(name, kind, attacks.probes, model, clients) for name in attacks.names)


@lru_cache(maxsize=8)
def strengths(scenario: Scenario) -> Strengths:
    """The noise multipliers of this scenario. Where an epsilon is given, the noise for the whole plan is solved for.

    Raises:
        clients.accounting.AccountingError: no noise gives that epsilon.
    """
    record, client = scenario.privacy.record, scenario.privacy.client
    return Strengths(
        record=(record.noise_multiplier or _record_noise(scenario, record)) if record else None,
        client=(client.noise_multiplier or _client_noise(scenario, client)) if client else None,
    )


def record_epsilon(scenario: Scenario, rounds: int, *, personal: int) -> float:
    """Of DP-SGD over a client's rounds, and over as many personal models as are seen too. Unit: record.

    No amplification by the sampling of clients: the server knows who took part, and the steps of a round share a coin.
    """
    from clients.accounting import epsilon, subsampled_gaussian

    config, noise = scenario.privacy.record, strengths(scenario).record
    assert config is not None
    assert noise is not None
    steps = config.steps(scenario.training.epochs) * rounds
    steps += config.steps(scenario.personalization.epochs) * personal
    return epsilon(subsampled_gaussian(noise, config.sampling_rate, steps), config.delta)


def local_epsilon(scenario: Scenario, rounds: int) -> float:
    """Of local noise in so many of a client's rounds. Unit: client; neighbours: its records replaced by any others."""
    from clients.accounting import epsilon, local_gaussian

    config, noise = scenario.privacy.client, strengths(scenario).client
    assert config is not None
    assert noise is not None
    return epsilon(local_gaussian(noise, rounds), config.delta)


def central_epsilon(scenario: Scenario, rounds: int, *, replaced: bool = False) -> float:
    """Of central noise in so many rounds, against whoever does not see what comes in. Unit: client, added or removed.

    `replaced`: the client's update replaced by any other, which is one removed and one added.
    """
    from clients.accounting import epsilon, group_of_two, subsampled_gaussian

    config, noise = scenario.privacy.client, strengths(scenario).client
    assert config is not None
    assert noise is not None
    event = subsampled_gaussian(noise, scenario.federation.participation, rounds)
    return (group_of_two if replaced else epsilon)(event, config.delta)


def distributed_epsilon(
    scenario: Scenario, arrived: tuple[int, ...], *, replaced: bool = False, noise_multiplier: float | None = None
) -> float:
    """Of rounds in which so many clients' noise arrived, against the aggregator. Unit: client, update set to zero.

    Clients in league with the server know their noise, so it does not count. `replaced`: the update replaced by any
    other, twice as far. No amplification: the server knows who was there.
    """
    from clients.accounting import skellam_epsilon

    client, encoding = scenario.privacy.client, skellam(scenario, noise_multiplier)
    assert client is not None
    honest = [count - scenario.aggregation.colluding for count in arrived]
    if min(honest, default=1) < 1:
        return math.inf
    l1, l2 = (size * (2 if replaced else 1) for size in encoding.sensitivities())
    return skellam_epsilon([(encoding.variance(count), l1, l2) for count in honest], client.delta)


def skellam(scenario: Scenario, noise_multiplier: float | None = None) -> SkellamEncoding:
    """How updates are rounded and noised inside secure aggregation, for as many clients as are expected to come."""
    noise = noise_multiplier or strengths(scenario).client
    assert noise is not None
    return _skellam(scenario, noise)


def rounds_of_a_client(scenario: Scenario) -> int | None:
    """How many training rounds each client's own budget has room for: of DP-SGD, personalisation kept in reserve, and
    of local noise. None: no limit. The client itself counts, and declines the first round that would pass it.
    """
    limits, most = [], planned(scenario).most
    record, client = scenario.privacy.record, scenario.privacy.client
    if record and record.max_epsilon:
        models = planned(scenario).personal
        limits.append(_most(most, lambda rounds: record_epsilon(scenario, rounds, personal=models), record.max_epsilon))
    if client and client.max_epsilon and client.where == "local":
        limits.append(_most(most, lambda rounds: local_epsilon(scenario, rounds), client.max_epsilon))
    return min(limits, default=None)


def personal_models_of_a_client(scenario: Scenario) -> int | None:
    """How many personal models a client's own budget was planned for. None: no limit."""
    record = scenario.privacy.record
    return planned(scenario).personal if record and record.max_epsilon else None


def rounds_of_the_server(scenario: Scenario) -> int | None:
    """How many releases the budget of central noise has room for. None: no limit."""
    client = scenario.privacy.client
    if not (client and client.max_epsilon and client.where == "central"):
        return None
    return _most(scenario.federation.rounds, lambda rounds: central_epsilon(scenario, rounds), client.max_epsilon)


def _record_noise(scenario: Scenario, config: RecordPrivacyConfig) -> float:
    """The noise that keeps the client which trains most, and personalises, within its epsilon."""
    from clients.accounting import solve_noise, subsampled_gaussian

    assert config.epsilon is not None
    steps = config.steps(scenario.training.epochs) * planned(scenario).most
    steps += config.steps(scenario.personalization.epochs) * planned(scenario).personal
    return solve_noise(lambda z: subsampled_gaussian(z, config.sampling_rate, steps), config.epsilon, config.delta)


def _client_noise(scenario: Scenario, config: ClientPrivacyConfig) -> float:
    from clients.accounting import gaussian, local_gaussian, solve_noise, subsampled_gaussian

    assert config.epsilon is not None
    rate, rounds, most = scenario.federation.participation, scenario.federation.rounds, planned(scenario).most
    if config.where == "central":
        return solve_noise(lambda z: subsampled_gaussian(z, rate, rounds), config.epsilon, config.delta)
    if config.where == "local":
        return solve_noise(lambda z: local_gaussian(z, most), config.epsilon, config.delta)
    sums = planned(scenario).arrived + planned(scenario).probed
    noise = solve_noise(lambda z: gaussian(z, len(sums)), config.epsilon, config.delta)
    while distributed_epsilon(scenario, sums, noise_multiplier=noise) > config.epsilon:
        noise *= 1.005  # whole numbers, and who the coins leave out, cost a little more than a Gaussian
    return noise


@lru_cache(maxsize=8)
def _skellam(scenario: Scenario, noise_multiplier: float) -> SkellamEncoding:
    from clients.aggregation.skellam import plan_skellam
    from clients.models import parameter_count

    client, clients = scenario.privacy.client, federation_of(scenario).participants
    assert client is not None
    return plan_skellam(
        clipping_norm=client.clipping_norm,
        noise_multiplier=noise_multiplier,
        clients_planned=max(1, round(clients * scenario.federation.participation)),
        clients_at_most=clients,
        dimension=parameter_count(fresh_model(scenario)),
    )


def _most(limit: int, epsilon: Callable[[int], float], allowed: float) -> int:
    """The largest number of rounds, up to `limit`, whose epsilon is allowed; 0 if not even one is."""
    if epsilon(limit) <= allowed:
        return limit
    fits, passes = 0, limit
    while passes - fits > 1:
        middle = (fits + passes) // 2
        fits, passes = (middle, passes) if epsilon(middle) <= allowed else (fits, middle)
    return fits
