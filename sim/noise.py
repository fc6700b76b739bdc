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
from sim.sums import TOLD_WHO, is_refused, stretch

if TYPE_CHECKING:
    import dp_accounting as dp

    from clients.aggregation.skellam import SkellamEncoding


@dataclass(frozen=True, slots=True)
class Participation:
    """Who took part, planned or real: it depends on the schedule and on drop-outs, never on anybody's records."""

    arrived: tuple[int, ...]  # for each round that released something, how many clients' updates were in it
    trained: tuple[int, ...]  # for each client, the rounds it trained in, those of a server that deviates among them
    probed: tuple[int, ...] = ()  # as `arrived`, for rounds of a server that deviates: only it gets to see them
    personal: int = 1  # models that a client personalised, the most of any
    refused: int = 0  # rounds that released nothing: coins were tossed for them as well

    @property
    def tossed(self) -> int:
        """Rounds for which coins were tossed."""
        return len(self.arrived) + self.refused

    @property
    def most(self) -> int:
        """The rounds of the client that trained in most of them."""
        return max(self.trained, default=0)


@dataclass(frozen=True, slots=True)
class Strengths:
    """The noise multipliers, given or solved for; None where there is no such noise."""

    record: float | None
    client: float | None


@lru_cache(maxsize=8)
def planned(scenario: Scenario) -> Participation:
    """Who is to take part, if nobody drops out, and if the server deviates as often as its attacks ask for."""
    clients = federation_of(scenario).participants
    rounds = range(1, scenario.federation.rounds + 1)
    schedule = [sample_clients(clients, scenario.federation, scenario.seed, number) for number in rounds]
    probes = _probes(scenario, "train")
    released = [sampled for sampled in schedule if not is_refused(scenario, len(sampled))]
    return Participation(
        arrived=tuple(map(len, released)),
        refused=len(schedule) - len(released),
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


def record_epsilon(scenario: Scenario, participation: Participation, *, personal: int) -> float:
    """Of DP-SGD over a client's rounds, and over as many personal models as are seen too. Unit: record.

    The noise is the client's own, so whoever sees a round's result can tell whether the client was drawn: its coins
    amplify nothing, against anybody. The larger of two figures: what the client that trained most has spent, and what
    the plan was worth before its coins fell (the number of rounds is binomial).
    """
    config, noise = scenario.privacy.record, strengths(scenario).record
    assert config is not None
    assert noise is not None
    return _of_own_noise(_OfRecords(scenario, noise, personal), participation, config.delta)


def local_epsilon(scenario: Scenario, participation: Participation) -> float:
    """Of local noise in a client's rounds. Unit: client; neighbours: its records replaced by any others.

    Coins amplify nothing, as with `record_epsilon`, and it is the larger of the same two figures.
    """
    config, noise = scenario.privacy.client, strengths(scenario).client
    assert config is not None
    assert noise is not None
    return _of_own_noise(_Locally(scenario, noise), participation, config.delta)


@dataclass(frozen=True, slots=True)
class _OfRecords:
    """The releases of a client that trains with DP-SGD."""

    scenario: Scenario
    noise: float
    personal: int

    def rounds(self, count: int) -> dp.DpEvent:
        from clients.accounting import subsampled_gaussian

        config = self.scenario.privacy.record
        assert config is not None
        steps = config.steps(self.scenario.training.epochs) * count
        return subsampled_gaussian(self.noise, config.sampling_rate, steps)

    def beside(self) -> dp.DpEvent:
        from clients.accounting import subsampled_gaussian

        config = self.scenario.privacy.record
        assert config is not None
        steps = config.steps(self.scenario.personalization.epochs) * self.personal
        return subsampled_gaussian(self.noise, config.sampling_rate, steps)


@dataclass(frozen=True, slots=True)
class _Locally:
    """The releases of a client that adds noise to its own update."""

    scenario: Scenario
    noise: float

    def rounds(self, count: int) -> dp.DpEvent:
        from clients.accounting import local_gaussian

        return local_gaussian(self.noise, count)

    def beside(self) -> dp.DpEvent:
        from clients.accounting import local_gaussian

        return local_gaussian(self.noise, 0)


_OwnNoise = _OfRecords | _Locally


def _of_own_noise(own: _OwnNoise, participation: Participation, delta: float) -> float:
    from clients.accounting import epsilon

    happened = epsilon(_spent(own, participation.most), delta)
    if _share_drawn(own.scenario) == 1:
        return happened
    drawn, limit = epsilon(_planned(own, len(participation.probed)), delta), rounds_of_a_client(own.scenario)
    if limit is not None:  # whatever its coins say, a client declines after so many rounds
        drawn = min(drawn, epsilon(_spent(own, limit), delta))
    return max(happened, drawn)


def _spent(own: _OwnNoise, rounds: int) -> dp.DpEvent:
    """What so many rounds release, and what is released beside them."""
    import dp_accounting as dp

    return dp.ComposedDpEvent([own.rounds(rounds), own.beside()])


def _planned(own: _OwnNoise, probes: int) -> dp.DpEvent:
    """What the plan's rounds release before its coins have fallen, each of which everybody can see."""
    import dp_accounting as dp

    from clients.accounting import seen_coin

    rounds = seen_coin(_share_drawn(own.scenario), own.rounds(1), own.scenario.federation.rounds)
    return dp.ComposedDpEvent([rounds, own.rounds(probes), own.beside()])


def _share_drawn(scenario: Scenario) -> float:
    """The probability that one client is drawn for a round. Rounds are drawn independently."""
    plan, clients = scenario.federation, federation_of(scenario).participants
    return plan.participation if plan.sampling == "poisson" else round(clients * plan.participation) / clients


def central_epsilon(scenario: Scenario, rounds: int, *, replaced: bool = False, told: bool = False) -> float:
    """Of central noise in so many rounds, against whoever does not see what comes in. Unit: client, added or removed.

    `rounds` counts all for which coins were tossed: a round is no less amplified for having been empty or refused, and
    no more. The noise is there whether a client is drawn or not, so its coin stays hidden and amplifies, but for those
    who are `told` who takes part: they are promised what a client that takes part in every round is. `replaced`: the
    client's update replaced by any other, which is one removed and one added.
    """
    config, noise = scenario.privacy.client, strengths(scenario).client
    assert config is not None
    assert noise is not None
    from clients.accounting import epsilon, group_of_two

    event = _centrally(scenario, noise, rounds, told=told)
    return (group_of_two if replaced else epsilon)(event, config.delta)


def _centrally(scenario: Scenario, noise: float, rounds: int, *, told: bool) -> dp.DpEvent:
    """Rounding inside a secure sum can lengthen what was clipped, against which the noise is then so much less."""
    from clients.accounting import subsampled_gaussian

    return subsampled_gaussian(noise / stretch(scenario), 1.0 if told else scenario.federation.participation, rounds)


def peers_are_told(scenario: Scenario) -> bool:
    """Whether a client learns which other clients take part in a round."""
    return scenario.aggregation.protocol in TOLD_WHO


def distributed_epsilon(
    scenario: Scenario,
    arrived: tuple[int, ...],
    *,
    replaced: bool = False,
    noise_multiplier: float | None = None,
    known: int | None = None,
) -> float:
    """Of rounds in which so many clients' noise arrived. Unit: client, update set to zero.

    `known`: how many clients' noise the adversary knows, so that it does not count; default: that of the clients in
    league with the server. A peer knows its own. `replaced`: the update replaced by any other, twice as far. No
    amplification: the noise is the clients' own, and the server knows who was there.
    """
    from clients.accounting import skellam_epsilon

    client, encoding = scenario.privacy.client, skellam(scenario, noise_multiplier)
    assert client is not None
    lost = scenario.aggregation.colluding if known is None else known
    honest = [count - lost for count in arrived]
    if min(honest, default=1) < 1:
        return math.inf
    l1, l2 = (size * (2 if replaced else 1) for size in encoding.sensitivities())
    return skellam_epsilon([(encoding.variance(count), l1, l2) for count in honest], client.delta)


def hidden_coins(scenario: Scenario) -> bool:
    """Whether the coins that draw clients come from the operating system: where a promise counts on their being hidden,
    and its noise is not to be found from the seed.
    """
    client = scenario.privacy.client
    return scenario.privacy.noise == "system" and client is not None and client.where == "central"


def noise_seed(scenario: Scenario) -> int | None:
    """What noise is drawn from: the seed, or None for the operating system's randomness."""
    return None if scenario.privacy.noise == "system" else scenario.seed


def known_to_a_peer(scenario: Scenario) -> int:
    """How many clients' noise another client knows: its own, and that of all colluders, whose it may be."""
    return max(1, scenario.aggregation.colluding)


def skellam(scenario: Scenario, noise_multiplier: float | None = None) -> SkellamEncoding:
    """How updates are rounded and noised inside secure aggregation, for as many clients as are expected to come."""
    noise = noise_multiplier or strengths(scenario).client
    assert noise is not None
    return _skellam(scenario, noise)


def rounds_of_a_client(scenario: Scenario) -> int | None:
    """How many training rounds each client's own budget has room for: of DP-SGD, personalisation kept in reserve, and
    of local noise. None: no limit. The client itself counts, and declines the first round that would pass it.
    """
    limits = (_limit_of_records(scenario, planned(scenario).personal), _limit_of_local_noise(scenario))
    return min((limit for limit in limits if limit is not None), default=None)


def _limit_of_records(scenario: Scenario, personal: int) -> int | None:
    config, noise = scenario.privacy.record, strengths(scenario).record
    if config is None or noise is None or config.max_epsilon is None:
        return None
    return _most(scenario, _OfRecords(scenario, noise, personal), config.delta, config.max_epsilon)


def _limit_of_local_noise(scenario: Scenario) -> int | None:
    config, noise = scenario.privacy.client, strengths(scenario).client
    if config is None or noise is None or config.max_epsilon is None or config.where != "local":
        return None
    return _most(scenario, _Locally(scenario, noise), config.delta, config.max_epsilon)


def personal_models_of_a_client(scenario: Scenario) -> int | None:
    """How many personal models a client's own budget was planned for. None: no limit."""
    record = scenario.privacy.record
    return planned(scenario).personal if record and record.max_epsilon else None


def rounds_of_the_server(scenario: Scenario) -> int | None:
    """How many releases the budget of central noise has room for, against all to whom it promises anything. None: no
    limit.
    """
    client = scenario.privacy.client
    if not (client and client.max_epsilon and client.where == "central"):
        return None
    told = peers_are_told(scenario)
    return _largest(
        scenario.federation.rounds,
        lambda rounds: central_epsilon(scenario, rounds, told=told),
        client.max_epsilon,
    )


def _record_noise(scenario: Scenario, config: RecordPrivacyConfig) -> float:
    """The noise that keeps the client which trains most, and personalises, within its epsilon; and the plan's coins."""
    assert config.epsilon is not None
    personal = planned(scenario).personal
    return _solved(lambda z: _OfRecords(scenario, z, personal), scenario, config.epsilon, config.delta)


def _client_noise(scenario: Scenario, config: ClientPrivacyConfig) -> float:
    """The noise that keeps every finite promise to a client within its epsilon."""
    from clients.accounting import gaussian, solve_noise

    assert config.epsilon is not None
    if config.where == "central":
        rounds, told = scenario.federation.rounds, peers_are_told(scenario)
        return solve_noise(lambda z: _centrally(scenario, z, rounds, told=told), config.epsilon, config.delta)
    if config.where == "local":
        return _solved(lambda z: _Locally(scenario, z), scenario, config.epsilon, config.delta)
    sums, known = planned(scenario).arrived + planned(scenario).probed, known_to_a_peer(scenario)
    noise = solve_noise(lambda z: gaussian(z, len(sums)), config.epsilon, config.delta)
    while distributed_epsilon(scenario, sums, noise_multiplier=noise, known=known) > config.epsilon:
        if min(sums, default=1) <= known:
            break  # no noise is enough: somebody knows all of it
        noise *= 1.005  # whole numbers, and who the coins leave out, cost a little more than a Gaussian
    return noise


def _solved(own: Callable[[float], _OwnNoise], scenario: Scenario, epsilon: float, delta: float) -> float:
    """The smallest noise multiplier that keeps both figures of `_of_own_noise` within epsilon."""
    from clients.accounting import solve_noise

    plan = planned(scenario)
    noise = solve_noise(lambda z: _spent(own(z), plan.most), epsilon, delta)
    if _share_drawn(scenario) == 1:
        return noise
    return max(noise, solve_noise(lambda z: _planned(own(z), len(plan.probed)), epsilon, delta))


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


def _most(scenario: Scenario, own: _OwnNoise, delta: float, allowed: float) -> int:
    """The largest number of rounds that one client may train in."""
    from clients.accounting import epsilon

    return _largest(planned(scenario).most, lambda rounds: epsilon(_spent(own, rounds), delta), allowed)


def _largest(limit: int, epsilon: Callable[[int], float], allowed: float) -> int:
    """The largest number of rounds, up to `limit`, whose epsilon is allowed; 0 if not even one is."""
    if epsilon(limit) <= allowed:
        return limit
    fits, passes = 0, limit
    while passes - fits > 1:
        middle = (fits + passes) // 2
        fits, passes = (middle, passes) if epsilon(middle) <= allowed else (fits, middle)
    return fits
