"""Flower's own simulation runtime: the same two apps on Ray actors."""

from __future__ import annotations

import os

# Read by Flower at import: no telemetry, no look for updates, no installing of packages at run time.
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")
os.environ.setdefault("FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.simulation import run_simulation

Settings = dict[str, int | float | str | bytes | bool | list[int] | list[float] | list[str] | list[bytes] | list[bool]]
INIT: Settings = {"logging_level": "error", "log_to_driver": False, "include_dashboard": False}
WORKER: Settings = {"num_cpus": 1, "num_gpus": 0.0}


def run(server: ServerApp, client: ClientApp, clients: int) -> None:
    """Run both apps on Ray, one actor per core of this machine."""
    run_simulation(server, client, clients, backend_config={"init_args": INIT, "client_resources": WORKER})
