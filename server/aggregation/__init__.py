"""The server's half of secure aggregation: it collects a round's sum and learns nothing else about any client."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True, slots=True)
class Collected:
    """What a protocol hands over: the sum of the survivors' payloads, and who they are, by node id."""

    total: Float[np.ndarray, " values"]  # float64, layout of clients.aggregation.payload
    survivors: list[int]
    dropped: dict[int, str] = field(default_factory=dict)  # node id -> at which stage, and why


class RoundRefusedError(Exception):
    """No sum can be had from this round without weakening somebody's protection; the global model stays as it is."""
