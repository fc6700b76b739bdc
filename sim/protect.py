"""The protections of a scenario, put together: what the clients do, how the server collects, and what it releases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid

from clients.app import RecordNoise
from clients.colluding import Secrets, secagg_secrets
from clients.privacy import BudgetSpentError
from clients.update import CLIPPING_NORM, WITHIN, Mod, UpdatePrivacy
from server.aggregation import Collected, Exchange, RoundRefusedError, as_reply, in_the_open
from server.robust import RobustMean
from server.strategy import Release, weighted_mean
from sim.collusion import ROUND, Notebook
from sim.given import federation_of
from sim.noise import (
    distributed_epsilon,
    known_to_a_peer,
    noise_seed,
    personal_models_of_a_client,
    rounds_of_a_client,
    rounds_of_the_server,
    skellam,
    strengths,
)
from sim.scenario import Scenario
from sim.sums import norm_limits, secagg_rules
from sim.tampering import boost, most_trained_on

if TYPE_CHECKING:
    from clients.aggregation.fixed_point import Encoding
    from server.aggregation.flower import SecAggPlusSettings

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
    personal_models_of_a_client: int | None = None
    rounds_of_the_server: int | None = None


def protect(scenario: Scenario, notebook: Notebook | None = None) -> Protections:
    """Everything that protects this scenario, with its noise solved for and fresh keys.

    With a notebook, colluders and a curious server note in it what they know of the first masked round.
    """
    record, noise = scenario.privacy.record, strengths(scenario)
    release, settings = _release(scenario)
    aggregation = _AGGREGATIONS[scenario.aggregation.protocol](scenario, notebook)
    return Protections(
        noise=RecordNoise(record, noise.record, system=scenario.privacy.noise == "system")
        if record and noise.record
        else None,
        mods=(*aggregation.mods, *update_mods(scenario)),
        register=aggregation.register,
        release=release,
        settings=settings,
        exchange=aggregation.exchange,
        rounds_of_a_client=rounds_of_a_client(scenario),
        personal_models_of_a_client=personal_models_of_a_client(scenario),
        rounds_of_the_server=rounds_of_the_server(scenario),
    )


def update_mods(scenario: Scenario) -> tuple[Mod, ...]:
    """Clipping on the client, where nobody else can do it: before its own noise, and before a secure sum. A tampering
    client may boost what comes out.
    """
    return (*boost(scenario), *_clipping(scenario))


def _clipping(scenario: Scenario) -> tuple[Mod, ...]:
    client = scenario.privacy.client
    if client is None or (client.where == "central" and scenario.aggregation.protocol == "none"):
        return ()
    noise = strengths(scenario).client if client.where == "local" else None
    mod = UpdatePrivacy(
        seed=noise_seed(scenario),
        clipping_norm=client.clipping_norm,
        noise_multiplier=noise or 0.0,
        adaptive=client.clipping == "adaptive",
    )
    return (mod,)


def _release(scenario: Scenario) -> tuple[Release, Settings]:
    if (rule := scenario.federation.combine) != "mean":
        return RobustMean(rule, scenario.federation.tampering_allowed), dict
    client, noise = scenario.privacy.client, strengths(scenario).client
    if client is None or client.where != "central" or noise is None:
        return weighted_mean, dict
    from server.privacy import CentralNoise

    expected = scenario.federation.participation * federation_of(scenario).participants
    central = CentralNoise(
        config=client,
        noise_multiplier=noise,
        expected=expected,
        seed=noise_seed(scenario),
        norm_limits=norm_limits(scenario),
    )
    return central, lambda: {CLIPPING_NORM: central.clipping_norm}


@dataclass(frozen=True, slots=True)
class _Aggregation:
    """One protocol's two halves."""

    mods: tuple[Mod, ...] = ()
    exchange: Callable[[Nodes], Exchange] = lambda nodes: in_the_open  # noqa: ARG005
    register: Callable[[ClientApp], None] | None = None


def _none(scenario: Scenario, notebook: Notebook | None) -> _Aggregation:  # noqa: ARG001  # as the others
    return _Aggregation()


def _colluding(scenario: Scenario, notebook: Notebook | None, secrets: Callable[[Context], Secrets]) -> tuple[Mod, ...]:
    return (notebook.mod(scenario, secrets),) if notebook else ()


def _secagg(scenario: Scenario, notebook: Notebook | None) -> _Aggregation:
    from clients.aggregation.masks import make_keyrings
    from clients.aggregation.secagg import SecAggMod
    from clients.aggregation.wire import register

    encoding = _encoding(scenario)
    keyrings = make_keyrings(federation_of(scenario).participants)  # fresh, and by another way than the server
    mod = SecAggMod(
        keyring=keyrings.__getitem__,
        encoding=encoding,
        metrics=_metrics(scenario),
        seed=noise_seed(scenario),
        rules=secagg_rules(scenario.aggregation),
    )
    mods: tuple[Mod, ...] = (*_colluding(scenario, notebook, secagg_secrets), mod)
    budget = _budget_of_sums(scenario)
    one_round = partial(_masked_round, scenario, encoding, budget, notebook)
    return _Aggregation(mods, lambda nodes: partial(one_round, nodes), register)


def _masked_round(
    scenario: Scenario,
    encoding: Encoding,
    budget: Callable[[list[int]], None],
    notebook: Notebook | None,
    nodes: Nodes,
    grid: Grid,
    messages: list[Message],
) -> list[Message]:
    from server.aggregation.secagg import collect

    _enough(scenario, messages)
    metrics, number = _metrics(scenario), _number(messages)
    collected = collect(
        grid,
        messages,
        nodes=nodes,
        encoding=encoding,
        metrics=metrics,
        server_round=number,
        rules=secagg_rules(scenario.aggregation),
        before_unmask=budget,
        tap=partial(notebook.keep_secagg, nodes) if notebook and number == ROUND else None,
    )
    return [as_reply(collected, metrics, messages)]


def _budget_of_sums(scenario: Scenario) -> Callable[[list[int]], None]:
    """Called before a sum is unmasked: with distributed noise it is the release, and its noise is what arrived. The
    budget is that against a peer, which knows one share of it.
    """
    client, arrived = scenario.privacy.client, list[int]()
    if client is None or client.where != "distributed":
        return lambda survivors: None  # noqa: ARG005  # nothing is spent
    limit = client.max_epsilon

    def check(survivors: list[int]) -> None:
        now = (*arrived, len(survivors))
        if limit and distributed_epsilon(scenario, now, known=known_to_a_peer(scenario)) > limit:
            raise BudgetSpentError(f"with {len(survivors)} clients' noise this sum would pass max_epsilon = {limit:g}")
        arrived.append(len(survivors))

    return check


def _encoding(scenario: Scenario) -> Encoding:
    """How payloads become whole numbers: with the clients' noise, or as finely as the modulus allows."""
    client, clients = scenario.privacy.client, federation_of(scenario).participants
    if client is not None and client.where == "distributed":
        return skellam(scenario)
    from clients.aggregation.fixed_point import plan_fixed_point

    settings = scenario.aggregation
    weight = 1 if _equal_weights(scenario) else settings.largest_weight
    return plan_fixed_point(clients, settings.largest_update, weight)


def _flower(scenario: Scenario, notebook: Notebook | None) -> _Aggregation:
    from clients.aggregation.flower import FlowerSecAggPlus, pairwise_secrets
    from server.aggregation.flower import SecAggPlusSettings

    metrics = _metrics(scenario)
    settings = SecAggPlusSettings(max_weight=1 if _equal_weights(scenario) else most_trained_on(scenario))
    fewest = secagg_rules(scenario.aggregation).fewest
    mod = FlowerSecAggPlus(seed=scenario.seed, metrics=metrics, fewest=fewest)
    mods: tuple[Mod, ...] = (*_colluding(scenario, notebook, pairwise_secrets), mod)
    one_round = partial(_flower_round, scenario, settings, notebook)
    return _Aggregation(mods, lambda nodes: partial(_exchange, scenario, partial(one_round, nodes)))


def _flower_round(
    scenario: Scenario,
    settings: SecAggPlusSettings,
    notebook: Notebook | None,
    nodes: Nodes,
    grid: Grid,
    messages: list[Message],
) -> Collected:
    from server.aggregation.flower import collect

    tap = partial(notebook.keep_flower, nodes) if notebook and _number(messages) == ROUND else None
    if (neighbours := scenario.aggregation.neighbours) is not None:
        settings = replace(settings, num_shares=_flower_shares(neighbours, len(messages)))
    fewest = secagg_rules(scenario.aggregation).fewest
    return collect(grid, messages, _metrics(scenario), settings=settings, fewest=fewest, tap=tap)


def _flower_shares(neighbours: int, clients: int) -> int:
    """Each neighbour holds a share and so does the client itself; Flower fails at an even number that is not all."""
    shares = min(neighbours + 1, clients)
    return shares if shares % 2 or shares == clients else shares + 1


def _ckks(scenario: Scenario, notebook: Notebook | None) -> _Aggregation:  # noqa: ARG001  # it has no masks
    from clients.aggregation.ckks import Ckks, make_keys
    from server.aggregation.ckks import collect

    metrics, (client_keys, server_keys) = _metrics(scenario), make_keys()
    fewest = secagg_rules(scenario.aggregation).fewest
    one_round = partial(collect, metrics=metrics, keys=server_keys, fewest=fewest)
    mod = Ckks(keys=client_keys, metrics=metrics, fewest=fewest)
    return _Aggregation((mod,), lambda _: partial(_exchange, scenario, one_round))


_AGGREGATIONS: dict[str, Callable[[Scenario, Notebook | None], _Aggregation]] = {
    "none": _none,
    "secagg": _secagg,
    "secagg-plus-flower": _flower,
    "ckks": _ckks,
}


def _exchange(
    scenario: Scenario, collect: Callable[..., Collected], grid: Grid, messages: list[Message]
) -> list[Message]:
    _enough(scenario, messages)
    return [as_reply(collect(grid, messages), _metrics(scenario), messages)]


def _enough(scenario: Scenario, messages: list[Message]) -> None:
    if len(messages) < secagg_rules(scenario.aggregation).fewest:
        raise RoundRefusedError(f"{len(messages)} clients were sampled, and a sum of so few tells about each of them")


def _number(messages: list[Message]) -> int:
    return int(messages[0].content.config_records["config"]["server-round"])  # type: ignore[arg-type]  # an int


def _metrics(scenario: Scenario) -> tuple[str, ...]:
    """What clients report besides their updates: nothing, where they are promised something."""
    client = scenario.privacy.client
    if client is not None:
        return (WITHIN,) if client.clipping == "adaptive" else ()
    return () if scenario.privacy.record else ("loss",)


def _equal_weights(scenario: Scenario) -> bool:
    return scenario.privacy.client is not None or scenario.privacy.record is not None
