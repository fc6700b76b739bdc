"""Two engines run the same ServerApp and ClientApp: in this process, or on Flower's simulation runtime with Ray."""

from __future__ import annotations

from collections.abc import Callable

from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

Engine = Callable[[ServerApp, ClientApp, int], None]


def inprocess(server: ServerApp, client: ClientApp, clients: int) -> None:
    """Run both apps in this process, one client after the other: no start-up, and the order of events is fixed."""
    from sim.engines.inprocess import run

    run(server, client, clients)


def ray(server: ServerApp, client: ClientApp, clients: int) -> None:
    """Run both apps on Flower's simulation runtime: one Ray actor per core, about 15 s of start-up."""
    from sim.engines.ray import run

    run(server, client, clients)


ENGINES: dict[str, Engine] = {"inprocess": inprocess, "ray": ray}
