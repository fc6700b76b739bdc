"""What happened in the federation, on disk and append-only: one file per round, and one line per round."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import overload

import numpy as np
from safetensors.numpy import load_file, save_file

from attacks.observation import ServerRound
from server.strategy import RoundRecord
from sim.results import RoundResult

ROUNDS = "rounds.jsonl"


def append(folder: Path, record: RoundRecord) -> RoundResult:
    """Store one round and return its summary line."""
    clients = sorted(record.updates)
    save_file(
        {
            "weights": record.weights,
            "clients": np.array(clients, dtype=np.int64),
            "updates": np.stack([record.updates[c] for c in clients]),
        },
        _file(folder, record.number),
    )
    summary = _summary(record)
    with (folder / ROUNDS).open("a", encoding="utf-8") as lines:
        lines.write(json.dumps({**summary.model_dump(), "metrics": record.metrics}) + "\n")
    return summary


def summaries(folder: Path) -> list[RoundResult]:
    """The summary of every round."""
    lines = (folder / ROUNDS).read_text(encoding="utf-8").splitlines()
    return [RoundResult(**{k: v for k, v in json.loads(line).items() if k != "metrics"}) for line in lines]


class ServerRounds(Sequence[ServerRound]):
    """All rounds as the curious server sees them, read from disk when asked for."""

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


def _summary(record: RoundRecord) -> RoundResult:
    reports = list(record.metrics.values())
    held_out, members = sum(r["held-out"] for r in reports), sum(r["num-examples"] for r in reports)
    return RoundResult(
        round=record.number,
        clients=len(reports),
        accuracy=sum(r["correct"] for r in reports) / held_out,
        loss=sum(r["loss"] * r["num-examples"] for r in reports) / members,
    )


def _file(folder: Path, number: int) -> Path:
    return folder / f"round-{number:06d}.safetensors"


@lru_cache(maxsize=64)
def _read(file: Path) -> ServerRound:
    tensors = load_file(file)
    updates = dict(zip(tensors["clients"].tolist(), tensors["updates"], strict=True))
    return ServerRound(int(file.stem.removeprefix("round-")), tensors["weights"], updates)
