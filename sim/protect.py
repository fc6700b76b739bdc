"""The protections of a scenario, put together: what the clients do, how the server collects, and what it releases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from flwr.app import Message
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid

from clients.app import RecordNoise
from clients.privacy import BudgetSpentError
from clients.randomness import generator
from clients.update import CLIPPING_NORM, WITHIN, Mod, UpdatePrivacy
from server.aggregation import Collected, Exchange, RoundRefusedError, as_reply, in_the_open
from server.aggregation.config import AggregationConfig
from server.strategy import Release, weighted_mean
from sim.given import federation_of
from sim.noise import distributed_epsilon, rounds_of_a_client, rounds_of_the_server, skellam, strengths
from sim.scenario import Scenario

if TYPE_CHECKING:
    from clients.aggregation.fixed_point import Encoding
    from server.aggregation.graph import Rules

FEWEST_IN_A_SUM = 3  # with two, each of them learns the other's update from the sum

Nodes = dict[int, int]  # client -> node id
Settings = Callable[[], dict[str, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Protections:
    """What a federation is handed so that a scenario's promises hold."""

    noise: RecordNoise | None = None
    mods: tuple[Mod, ...] = ()
    register: Callable[[ClientApp], None] | None = None
    release: Release = weighted_mean
    settings: Settings = dict
    exchange: Callable[[Nodes], Exchange] = lambda nodes: in_the_open  # noqa: ARG005  # nobody needs to be addressed
    rounds_of_a_client: int | None = None
    rounds_of_the_server: int | None = None


def protect(scenario: Scenario) -> Protections:
    """Everything that protects this scenario, with its noise solved for and fresh keys."""
    record, noise = scenario.privacy.record, strengths(scenario)
    release, settings = _release(scenario)
    aggregation = _AGGREGATIONS[scenario.aggregation.protocol](scenario)
    return Protections(
        noise=RecordNoise(record, noise.record) if record and noise.record else None,
        mods=(*aggregation.mods, *_update_mods(scenario)),
        register=aggregation.register,
        release=release,
        settings=settings,
        exchange=aggregation.exchange,
        rounds_of_a_client=rounds_of_a_client(scenario),
        rounds_of_the_server=rounds_of_the_server(scenario),
    )


def _update_mods(scenario: Scenario) -> tuple[Mod, ...]:
    """Clipping on the client, where nobody else can do it: before its own noise, and before a secure sum."""
    client = scenario.privacy.client
    if client is None or (client.where == "central" and scenario.aggregation.protocol == "none"):
        return ()
    noise = strengths(scenario).client if client.where == "local" else None
    mod = UpdatePrivacy(
        seed=scenario.seed,
        clipping_norm=client.clipping_norm,
        noise_multiplier=noise or 0.0,
        adaptive=client.clipping == "adaptive",
    )
    return (mod,)


def _release(scenario: Scenario) -> tuple[Release, Settings]:
    client, noise = scenario.privacy.client, strengths(scenario).client
    if client is None or client.where != "central" or noise is None:
        return weighted_mean, dict
    from server.privacy import CentralNoise

    expected = scenario.federation.participation * len(federation_of(scenario).clients)
    central = CentralNoise(config=client, noise_multiplier=noise, expected=expected, seed=scenario.seed)
    return central, lambda: {CLIPPING_NORM: central.clipping_norm}


@dataclass(frozen=True, slots=True)
class _Aggregation:
    """One protocol's two halves."""

    mods: tuple[Mod, ...] = ()
    exchange: Callable[[Nodes], Exchange] = lambda nodes: in_the_open  # noqa: ARG005
    register: Callable[[ClientApp], None] | None = None


def _none(scenario: Scenario) -> _Aggregation:  # noqa: ARG001  # as the others
    return _Aggregation()


def _secagg(scenario: Scenario) -> _Aggregation:
    from clients.aggregation.masks import make_keyrings
    from clients.aggregation.secagg import SecAggMod
    from clients.aggregation.wire import register

    encoding = _encoding(scenario)
    keyrings = make_keyrings(len(federation_of(scenario).clients))  # fresh, and by another way than the server
    mod = SecAggMod(
        keyring=keyrings.__getitem__,
        encoding=encoding,
        metrics=_metrics(scenario),
        seed=scenario.seed,
        colluding=_among_neighbours(scenario),
    )
    budget = _budget_of_sums(scenario)
    return _Aggregation((mod,), lambda nodes: partial(_masked_round, scenario, encoding, nodes, budget), register)


def _masked_round(
    scenario: Scenario,
    encoding: Encoding,
    nodes: Nodes,
    budget: Callable[[list[int]], None],
    grid: Grid,
    messages: list[Message],
) -> list[Message]:
    from server.aggregation.secagg import collect

    _enough(messages)
    metrics, number = _metrics(scenario), int(messages[0].content.config_records["config"]["server-round"])  # type: ignore[arg-type]
    collected = collect(
        grid,
        messages,
        nodes=nodes,
        encoding=encoding,
        metrics=metrics,
        server_round=number,
        rng=generator(scenario.seed, "secagg graph", number),
        rules=secagg_rules(scenario.aggregation),
        before_unmask=budget,
    )
    return [as_reply(collected, metrics, messages)]


def _among_neighbours(scenario: Scenario) -> int:
    """How many of a client's neighbours the client itself reckons with: all colluders, where the graph was not made
    sparse with their share in mind.
    """
    from server.aggregation.graph import neighbourhood

    settings, clients = scenario.aggregation, expected_clients(scenario)
    found = neighbourhood(clients, secagg_rules(settings))
    return settings.colluding if settings.neighbours or found.neighbours == clients - 1 else 0


def expected_clients(scenario: Scenario) -> int:
    """How many clients a round is planned for."""
    return max(1, round(len(federation_of(scenario).clients) * scenario.federation.participation))


def secagg_rules(settings: AggregationConfig) -> Rules:
    """How many neighbours and survivors the settings ask for."""
    from server.aggregation.graph import Rules

    return Rules(threshold=settings.threshold, neighbours=settings.neighbours, colluding=settings.colluding)


def _budget_of_sums(scenario: Scenario) -> Callable[[list[int]], None]:
    """Called before a sum is unmasked: with distributed noise it is the release, and its noise is what arrived."""
    client, arrived = scenario.privacy.client, list[int]()
    if client is None or client.where != "distributed":
        return lambda survivors: None  # noqa: ARG005  # nothing is spent

    def check(survivors: list[int]) -> None:
        spent = distributed_epsilon(scenario, (*arrived, len(survivors))) if client.max_epsilon else 0.0
        if client.max_epsilon and spent > client.max_epsilon:
            raise BudgetSpentError(f"with {len(survivors)} clients' noise epsilon would be {spent:.4g}")
        arrived.append(len(survivors))

    return check


def _encoding(scenario: Scenario) -> Encoding:
    """How payloads become whole numbers: with the clients' noise, or as finely as the modulus allows."""
    client, clients = scenario.privacy.client, len(federation_of(scenario).clients)
    if client is not None and client.where == "distributed":
        return skellam(scenario)
    from clients.aggregation.fixed_point import plan_fixed_point

    settings = scenario.aggregation
    weight = 1 if _equal_weights(scenario) else settings.largest_weight
    return plan_fixed_point(clients, settings.largest_update, weight)


def _flower(scenario: Scenario) -> _Aggregation:
    from clients.aggregation.flower import FlowerSecAggPlus
    from server.aggregation.flower import SecAggPlusSettings, collect

    metrics = _metrics(scenario)
    most = max(int(client.member.sum()) for client in federation_of(scenario).clients)
    settings = SecAggPlusSettings(max_weight=1 if _equal_weights(scenario) else most)
    one_round = partial(collect, metrics=metrics, settings=settings)
    mod = FlowerSecAggPlus(seed=scenario.seed, metrics=metrics)
    return _Aggregation((mod,), lambda _: partial(_exchange, one_round, metrics))


def _ckks(scenario: Scenario) -> _Aggregation:
    from clients.aggregation.ckks import Ckks, make_keys
    from server.aggregation.ckks import collect

    metrics, (client_keys, server_keys) = _metrics(scenario), make_keys()
    one_round = partial(collect, metrics=metrics, keys=server_keys)
    return _Aggregation((Ckks(keys=client_keys, metrics=metrics),), lambda _: partial(_exchange, one_round, metrics))


_AGGREGATIONS: dict[str, Callable[[Scenario], _Aggregation]] = {
    "none": _none,
    "secagg": _secagg,
    "secagg-plus-flower": _flower,
    "ckks": _ckks,
}


def _exchange(
    collect: Callable[..., Collected], metrics: tuple[str, ...], grid: Grid, messages: list[Message]
) -> list[Message]:
    _enough(messages)
    return [as_reply(collect(grid, messages), metrics, messages)]


def _enough(messages: list[Message]) -> None:
    if len(messages) < FEWEST_IN_A_SUM:
        raise RoundRefusedError(f"{len(messages)} clients were sampled, and a sum of so few tells about each of them")


def _metrics(scenario: Scenario) -> tuple[str, ...]:
    """What clients report besides their updates: nothing, where they are promised something."""
    client = scenario.privacy.client
    if client is not None:
        return (WITHIN,) if client.clipping == "adaptive" else ()
    return () if scenario.privacy.record else ("loss",)


def _equal_weights(scenario: Scenario) -> bool:
    return scenario.privacy.client is not None or scenario.privacy.record is not None


@dataclass(frozen=True, slots=True)
class Defence:
    """One protection that a scenario can switch on."""

    setting: str
    title: str
    against: str
    source: str


DEFENCES = (
    Defence(
        "privacy.record",
        "DP-SGD on every client: record level",
        "everybody, also the holder of the personal model",
        "Abadi et al. 2016, arXiv 1607.00133",
    ),
    Defence(
        'privacy.client.where = "central"',
        "noise of the server's on the sum of clipped updates: client level",
        "other clients and users of the global model; not the server",
        "McMahan et al. 2018, arXiv 1710.06963; adaptive clipping: Andrew et al. 2021, arXiv 1905.03871",
    ),
    Defence(
        'privacy.client.where = "local"',
        "each client's noise on its own clipped update: client level",
        "everybody but the holder of the personal model",
        "Duchi et al. 2013; Gaussian, accounted exactly",
    ),
    Defence(
        'privacy.client.where = "distributed"',
        "the clients' noise inside a secure sum: client level",
        "everybody but the holder of the personal model",
        "Agarwal et al. 2021, arXiv 2110.04995 (Skellam)",
    ),
    Defence(
        'aggregation.protocol = "secagg"',
        "masks that cancel in the sum",
        "a server that follows the protocol, and clients in league with it, up to the threshold; hides single updates",
        "Bonawitz et al. 2017; Bell et al. 2020, ia.cr/2020/704",
    ),
    Defence(
        'aggregation.protocol = "secagg-plus-flower"',
        "Flower's SecAgg+, as a baseline",
        "nobody who tries: 28-bit masks; weights and metrics are in clear",
        "flwr 1.41",
    ),
    Defence(
        'aggregation.protocol = "ckks"',
        "homomorphic encryption of the updates, the key with the clients",
        "a server that follows the protocol and has no client on its side",
        "Cheon et al. 2017, ia.cr/2016/421 (TenSEAL)",
    ),
)
