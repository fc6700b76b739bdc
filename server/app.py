"""The Flower ServerApp: wait for the clients, average for some rounds, then have everyone personalise."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

from clients.messages import PERSONALIZE
from clients.privacy import BudgetSpentError
from server.aggregation import Exchange, RoundRefusedError, in_the_open
from server.probing import Line
from server.received import reported
from server.strategy import (
    FederationConfig,
    NothingReleasedError,
    Release,
    RoundRecord,
    SeededFedAvg,
    fail_on_errors,
    weighted_mean,
)


class ClientsMissingError(Exception):
    """Fewer clients came than the scenario has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerRecipe:
    """What a server app is handed.

    `observe` sees each round as it ends; `finish` gets the final global model and what each client reported when it
    personalised; `stopped` is told why, if training ends before its last round. `afterwards` is for a server that
    deviates, when all of that is done: it gets its line to the clients and the final global model.
    """

    seed: int | None  # of the clients that are drawn; None: from the operating system's randomness
    clients: int
    participants: int  # the first clients, which train; the others only personalise
    plan: FederationConfig
    initial: ArrayRecord
    observe: Callable[[RoundRecord], None]
    finish: Callable[[ArrayRecord, dict[int, dict[str, float]]], None]
    stopped: Callable[[str], None]
    release: Release = weighted_mean
    exchange: Callable[[dict[int, int]], Exchange] = lambda nodes: in_the_open  # noqa: ARG005  # knows node ids only then
    settings: Callable[[], dict[str, float]] = dict  # what each round's message tells the clients besides the weights
    rounds_allowed: int | None = None  # by the budget of the server's own noise; None: no limit
    hides_failures: bool = False  # that all clients of a round failed does not end training
    afterwards: Callable[[Line, ArrayRecord], None] | None = None
    patience: float = 120.0  # seconds to wait for another client to connect


def server_app(recipe: ServerRecipe) -> ServerApp:
    """A ServerApp in Flower's Message API."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:  # noqa: ARG001  # Flower's signature
        nodes = find_clients(grid, recipe.clients, recipe.patience)
        arrays = train(grid, nodes, recipe)
        recipe.finish(arrays, personalize(grid, nodes, arrays, recipe.plan.rounds + 1))
        if recipe.afterwards:
            recipe.afterwards(Line(grid, nodes, recipe.exchange(nodes), recipe.settings), arrays)

    return app


def train(grid: Grid, nodes: dict[int, int], recipe: ServerRecipe) -> ArrayRecord:
    """All rounds, or as many as the budgets have room for; returns the last global weights.

    Flower's own loop (`Strategy.start`) cannot end early, nor let a round pass that gave nothing.

    Raises:
        ClientFailedError: all clients of a round failed, or not one round gave anything.
    """
    nodes = {client: node for client, node in nodes.items() if client < recipe.participants}
    hides = recipe.hides_failures
    strategy = SeededFedAvg(nodes, recipe.plan, recipe.seed, recipe.observe, recipe.release, hides_failures=hides)
    exchange, arrays, refusal = recipe.exchange(nodes), recipe.initial, ""
    for number in range(1, recipe.plan.rounds + 1):
        if recipe.rounds_allowed is not None and number > recipe.rounds_allowed:
            recipe.stopped(f"after round {number - 1}: one more would pass max_epsilon")
            break
        messages = list(strategy.configure_train(number, arrays, ConfigRecord(recipe.settings()), grid))  # type: ignore[arg-type]
        try:
            new, _ = strategy.aggregate_train(number, exchange(grid, messages) if messages else [])
        except RoundRefusedError as refused:
            strategy.refuse(number, refused)
            refusal = str(refused)
        except BudgetSpentError as spent:
            recipe.stopped(f"in round {number}, before anything was released: {spent}")
            break
        else:
            assert new is not None
            arrays = new
    if refusal and arrays is recipe.initial:
        raise NothingReleasedError(f"not one round gave anything; the last was refused: {refusal}")
    return arrays


def find_clients(grid: Grid, count: int, patience: float) -> dict[int, int]:
    """Client number -> node id, once all have come. Node ids are random, so each node is asked for its number.

    Raises:
        ClientsMissingError: not all came, and for `patience` seconds no other one did.
        ClientFailedError: one could not tell its number.
    """
    most, deadline, pause = 0, monotonic() + patience, threading.Event()
    while len(ids := list(grid.get_node_ids())) < count:
        if len(ids) > most:
            most, deadline = len(ids), monotonic() + patience
        if monotonic() > deadline:
            raise ClientsMissingError(f"{len(ids)} of {count} clients came, and no other within {patience:.0f} s")
        pause.wait(0.05)
    replies = list(
        grid.send_and_receive([Message(RecordDict(), dst_node_id=node, message_type="query") for node in ids])
    )
    fail_on_errors({reply.metadata.src_node_id: reply for reply in replies}, ids, who="node")
    return dict(sorted((int(reported(reply)["client"]), reply.metadata.src_node_id) for reply in replies))


def personalize(
    grid: Grid, nodes: dict[int, int], arrays: ArrayRecord, server_round: int
) -> dict[int, dict[str, float]]:
    """Send the final global model to every client and collect their metrics; personal models stay where they are."""
    messages = [
        Message(
            RecordDict({"arrays": arrays, "config": ConfigRecord({"server-round": server_round})}),
            dst_node_id=node,
            message_type=f"train.{PERSONALIZE}",
        )
        for node in nodes.values()
    ]
    numbers = {node: client for client, node in nodes.items()}
    replies = {numbers[reply.metadata.src_node_id]: reply for reply in grid.send_and_receive(messages)}
    fail_on_errors(replies, nodes)
    return {client: reported(replies[client]) for client in sorted(replies)}
