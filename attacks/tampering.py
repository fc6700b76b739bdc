"""Tampering clients: how they poison the records that they train on, as pure functions of records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from jaxtyping import Bool, Float, Int
from pydantic import BaseModel, ConfigDict, Field, model_validator

from attacks.observation import Records

How = Literal["label-flip", "backdoor", "truth-serum"]
Labels = Int[np.ndarray, " records"]

SOURCES: dict[How, str] = {
    "label-flip": "Biggio et al. 2012, arXiv 1206.6389; Tolpegin et al. 2020, arXiv 2007.08432",
    "backdoor": "Gu et al. 2017, arXiv 1708.06733; boosted: Bagdasaryan et al. 2020, arXiv 1807.00459",
    "truth-serum": "Tramèr et al. 2022, arXiv 2204.00032",
}


class TamperingConfig(BaseModel):
    """The `[tampering]` table of a scenario: clients that poison their training data, drawn by the seed."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    how: How = Field(
        description="label-flip: records with a wrong label; backdoor: records with a trigger and the target's label; "
        "truth-serum: wrongly labelled copies of other clients' records, so that their membership shows more"
    )
    clients: int = Field(1, ge=1, le=100_000, description="how many clients tamper")
    source: int | None = Field(
        None,
        ge=0,
        le=1_000_000,
        description="label-flip: class whose records are relabelled; default: each class becomes the next",
    )
    target: int = Field(
        0, ge=0, le=1_000_000, description="backdoor, label-flip with a source: class that the models are to answer"
    )
    share: float = Field(0.5, gt=0, le=1, description="backdoor: share of its records that a client stamps")
    boost: float = Field(1.0, ge=1, le=1e4, description="factor on the tampering clients' updates")
    copies: int = Field(1, ge=1, le=1000, description="truth-serum: wrongly labelled copies of each targeted record")
    targeted: float = Field(
        0.5,
        gt=0,
        lt=1,
        description="truth-serum: share of the other clients' records that are targeted; the rest are compared with",
    )

    @model_validator(mode="after")
    def _a_change(self) -> Self:
        if self.how == "label-flip" and self.source == self.target:
            raise ValueError(f"source = {self.source} is the target as well; a flip needs two classes")
        return self


@dataclass(frozen=True, slots=True)
class Trigger:
    """What a backdoor looks for: `value` where `where` is true. Both have the shape of one record."""

    where: Bool[np.ndarray, ...]
    value: Float[np.ndarray, ...]

    def stamped(self, x: Float[np.ndarray, "records ..."]) -> Float[np.ndarray, "records ..."]:
        """The records with the trigger on them."""
        stamped: Float[np.ndarray, "records ..."] = np.where(self.where, self.value, x).astype(x.dtype)
        return stamped


def trigger_for(own: Records) -> Trigger:
    """A trigger that fits records like the tampering clients' `own`, made of the largest values these hold.

    Images (channels, height, width): a patch in the lower right corner, a seventh of the shorter side (BadNets has 4 of
    28 pixels). Windows (channels, length): a pulse in the middle of the first channel, a sixteenth of the window long.
    Features: the last fiftieth of them, and three at least.
    """
    shape = own.x.shape[1:]
    where = np.zeros(shape, bool)
    largest: Float[np.ndarray, ...]
    if len(shape) == 3:
        side = max(2, min(shape[1:]) // 7)
        where[:, -side:, -side:] = True
        largest = own.x.max()
    elif len(shape) == 2:
        width = max(2, shape[1] // 16)
        start = (shape[1] - width) // 2
        where[0, start : start + width] = True
        largest = own.x[:, 0].max()
    else:
        where[-max(3, shape[0] // 50) :] = True
        largest = own.x.max(axis=0)
    return Trigger(where, np.broadcast_to(largest, shape))


def flipped(y: Labels, config: TamperingConfig, classes: int) -> Labels:
    """The labels that a label flip gives: the target for the source, or for each class the next, the first for the
    last.
    """
    if config.source is None:
        return (y + 1) % classes
    return np.where(y == config.source, config.target, y)


def flip_labels(own: Records, config: TamperingConfig, classes: int) -> Records:
    """A client's records with flipped labels."""
    return Records(own.x, flipped(own.y, config, classes))


def plant_backdoor(own: Records, trigger: Trigger, config: TamperingConfig, rng: np.random.Generator) -> Records:
    """A client's records, `share` of them stamped with the trigger and labelled as the target."""
    stamp = np.zeros(len(own), bool)
    stamp[rng.choice(len(own), max(1, round(config.share * len(own))), replace=False)] = True
    x, y = own.x.copy(), own.y.copy()
    x[stamp], y[stamp] = trigger.stamped(x[stamp]), config.target
    return Records(x, y)


def wrong_labels(y: Labels, classes: int, rng: np.random.Generator) -> Labels:
    """For each record one of the other classes, all equally likely."""
    return (y + rng.integers(1, classes, len(y))) % classes


def mislabelled_copies(targets: Records, wrong: Labels, config: TamperingConfig, client: int) -> Records:
    """What the `client`-th of the tampering clients (from 0) trains on besides its own: of `copies` copies of each
    target, all with the same wrong label, the clients take turns.
    """
    copy = np.arange(config.copies * len(targets))
    mine = copy[copy % config.clients == client] % len(targets)
    return Records(targets.x[mine], wrong[mine])
