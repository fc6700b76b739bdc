"""What happened in the federation, on disk and append-only: one file per round, and one line per round."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import overload

import numpy as np
from safetensors.numpy import load_file

from attacks.observation import ServerRound
from server.strategy import RoundRecord
from sim.files import save_arrays, write_atomically
from sim.results import RoundResult

ROUNDS = "rounds.jsonl"
LEDGER = "ledger.json"


def append(folder: Path, record: RoundRecord, accuracy: float) -> RoundResult:
    """Store one round and return its summary line. `accuracy` is the broadcast model's on all held-out records."""
    tensors = {
        "weights": record.weights,
        "clients": np.array(record.clients, dtype=np.int64),
        "mean": record.mean,
    }
    if record.updates:
        tensors["updates"] = np.stack([record.updates[client] for client in record.clients])
    save_arrays(_file(folder, record.number), tensors)
    summary = RoundResult(
        round=record.number,
        clients=list(record.clients),
        accuracy=accuracy,
        dropped={str(client): why for client, why in record.dropped.items()},
        refused=record.refused,
    )
    with (folder / ROUNDS).open("a", encoding="utf-8") as lines:
        lines.write(json.dumps({**summary.model_dump(), "metrics": record.metrics}) + "\n")
    return summary


def summaries(folder: Path) -> list[RoundResult]:
    """The summary of every round."""
    lines = (folder / ROUNDS).read_text(encoding="utf-8").splitlines()
    return [RoundResult(**{k: v for k, v in json.loads(line).items() if k != "metrics"}) for line in lines]


def trained(folder: Path) -> tuple[int, ...]:
    """The clients whose updates went into a round that released something, in increasing order.

    Nothing of any other client is in a global model: it was never sampled, it always dropped out, its budget left room
    for no round, or every round that it was in was refused.
    """
    released = [summary.clients for summary in summaries(folder) if not summary.refused]
    return tuple(sorted({client for clients in released for client in clients}))


@dataclass(frozen=True, slots=True)
class Ledger:
    """How training ended: the rounds that each client says it trained in, and why it stopped early, if it did."""

    rounds: dict[int, int]
    stopped: str
    probed: tuple[int, ...] = ()  # for each answered round of a server that deviates, how many clients were in it
    personal: int = 1  # models that a client personalised, the most of any


def close(folder: Path, ledger: Ledger) -> None:
    """Store how training ended, also where no round came to its end."""
    (folder / ROUNDS).touch()
    write_atomically(folder / LEDGER, json.dumps(asdict(ledger)).encode())


def ledger(folder: Path) -> Ledger:
    """How training ended."""
    content = json.loads((folder / LEDGER).read_text(encoding="utf-8"))
    return Ledger(
        rounds={int(client): rounds for client, rounds in content["rounds"].items()},
        stopped=content["stopped"],
        probed=tuple(content.get("probed", ())),
        personal=content.get("personal", 1),
    )


def probed_model(folder: Path, server_round: int, client: int) -> Path:
    """Where a personal model lies that a client made of what a server sent it beside the protocol."""
    return probes(folder) / f"personal-{server_round:06d}-{client:04d}.safetensors"


def probes(folder: Path) -> Path:
    """Where the rounds of a server that deviates are kept: what it sent, and what came back."""
    place = folder / "probes"
    place.mkdir(exist_ok=True)
    return place


class ServerRounds(Sequence[ServerRound]):
    """All rounds as whoever aggregates sees them, read from disk when asked for."""

    def __init__(self, folder: Path) -> None:
        self._files = sorted(folder.glob("round-*.safetensors"))

    def __len__(self) -> int:
        return len(self._files)

    @overload
    def __getitem__(self, index: int) -> ServerRound: ...
    @overload
    def __getitem__(self, index: slice) -> list[ServerRound]: ...
    def __getitem__(self, index: int | slice) -> ServerRound | list[ServerRound]:
        if isinstance(index, slice):
            return [_read(file) for file in self._files[index]]
        return _read(self._files[index])


def _file(folder: Path, number: int) -> Path:
    return folder / f"round-{number:06d}.safetensors"


@lru_cache(maxsize=64)
def _read(file: Path) -> ServerRound:
    tensors = load_file(file)
    clients = tuple(tensors["clients"].tolist())
    return ServerRound(
        number=int(file.stem.removeprefix("round-")),
        weights=tensors["weights"],
        clients=clients,
        mean=tensors["mean"],
        updates=dict(zip(clients, tensors["updates"], strict=True)) if "updates" in tensors else {},
    )
