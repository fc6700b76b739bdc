"""Who is in league with the server, and what both sides of that keep of the first round: for one demonstration."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from flwr.app import Context
from jaxtyping import Shaped
from safetensors.numpy import load_file

from clients.colluding import Colluding, Secrets
from server.strategy import sample_clients
from sim.files import save_arrays, write_atomically
from sim.given import federation_of
from sim.scenario import Scenario

if TYPE_CHECKING:
    from server.aggregation.flower import ServerView as FlowerView
    from server.aggregation.secagg import ServerView as SecAggView

ROUND = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What the server holds after one masked round, by client."""

    masked: dict[int, Shaped[np.ndarray, " values"]]  # integers, as they came
    neighbours: dict[int, frozenset[int]]  # with whom a client shares a mask
    seeds: dict[int, bytes]  # of the masks that the last stage takes off
    nodes: dict[int, int]  # of all clients: Flower's masks have their sign from them


def colluders(scenario: Scenario) -> tuple[int, ...]:
    """The clients in league with the server: those of the first round with the highest numbers."""
    clients = federation_of(scenario).participants
    sampled = sample_clients(clients, scenario.federation, scenario.seed, ROUND)
    return tuple(sampled[max(0, len(sampled) - scenario.aggregation.colluding) :])


@dataclass(frozen=True, slots=True)
class Notebook:
    """Files in a run's transcript. They hold secrets of simulated clients and nobody else's."""

    folder: Path

    def mod(self, scenario: Scenario, secrets: Callable[[Context], Secrets]) -> Colluding:
        """What the clients run, of which only the colluders do anything."""
        return Colluding(
            clients=frozenset(colluders(scenario)), server_round=ROUND, secrets=secrets, tell=_Tell(self.folder)
        )

    def told(self) -> dict[int, dict[int, bytes]]:
        """The keys that colluders handed over: by colluder, by neighbour as the protocol names it."""
        found = {int(file.stem.removeprefix("told-")): file for file in self.folder.glob("told-*.json")}
        return {client: _keys(json.loads(file.read_text())) for client, file in sorted(found.items())}

    def keep_secagg(self, nodes: Mapping[int, int], view: SecAggView) -> None:
        """Note what the server of our secure aggregation holds. `nodes`: client -> node id."""
        self._keep(Kept(masked=view.masked, neighbours=view.neighbours, seeds=view.seeds, nodes=dict(nodes)))

    def keep_flower(self, nodes: Mapping[int, int], view: FlowerView) -> None:
        """Note what the server of Flower's SecAgg+ holds."""
        client = {node: number for number, node in nodes.items()}
        self._keep(
            Kept(
                masked={client[node]: vector for node, vector in view.masked.items()},
                neighbours={client[n]: frozenset(map(client.__getitem__, near)) for n, near in view.neighbours.items()},
                seeds={client[node]: seed for node, seed in view.self_seeds.items()},
                nodes=dict(nodes),
            )
        )

    def _keep(self, kept: Kept) -> None:
        everyone, there = sorted(kept.nodes), sorted(kept.masked)
        tensors = {
            "clients": np.array(everyone, np.int64),
            "nodes": np.array([kept.nodes[client] for client in everyone], np.uint64),
            "there": np.array(there, np.int64),
            "masked": np.stack([kept.masked[client] for client in there]),
            "neighbours": np.array([[other in kept.neighbours[c] for other in everyone] for c in there]),
            "seeds": np.stack([np.frombuffer(kept.seeds[client], np.uint8) for client in there]),
        }
        save_arrays(self._file, tensors)

    def kept(self) -> Kept | None:
        """What the server held, or None where the round gave nothing."""
        if not self._file.exists():
            return None
        found = load_file(self._file)
        everyone, there = found["clients"], found["there"].tolist()
        return Kept(
            masked=dict(zip(there, found["masked"], strict=True)),
            neighbours={
                c: frozenset(everyone[row].tolist()) for c, row in zip(there, found["neighbours"], strict=True)
            },
            seeds={client: seed.tobytes() for client, seed in zip(there, found["seeds"], strict=True)},
            nodes=dict(zip(everyone.tolist(), found["nodes"].tolist(), strict=True)),
        )

    @property
    def _file(self) -> Path:
        return self.folder / "masked.safetensors"


@dataclass(frozen=True, slots=True)
class _Tell:
    """The way from a colluder to the server. A file, since the client may run in another process."""

    folder: Path

    def __call__(self, client: int, secrets: Secrets) -> None:
        told = {number: key.hex() for number, key in secrets.items()}
        write_atomically(self.folder / f"told-{client:04d}.json", json.dumps(told).encode())


def _keys(found: Mapping[str, str]) -> dict[int, bytes]:
    return {int(neighbour): bytes.fromhex(key) for neighbour, key in found.items()}
