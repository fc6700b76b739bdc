"""The [data] and [population] tables of a scenario."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from sim.data.dataset import DataError
from sim.data.own import Layout
from sim.data.purchase_like import PurchaseOptions
from sim.data.registry import OWN, find, own_path

LONGEST = 1_000  # characters of a path


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DataConfig(_Table):
    """Whose records, how they are spread over clients, and how many of them are trained on."""

    source: str = Field(
        max_length=LONGEST, description="a data set of `seepage list datasets`, or npz:PATH for your own"
    )
    folder: Path | None = Field(
        default=None,
        description="where the data's files are, from the scenario's folder; default: there (npz), or the usual place",
    )
    layout: Layout | None = Field(
        default=None, description="npz: where the channels of `x` are, for data whose shape does not tell"
    )
    synthetic: bool | None = Field(
        default=None, description="npz: whether your records are made up; left out, reports say that it is not stated"
    )
    standardise: bool = Field(
        default=False,
        description="bring features to one scale (of signals and images, channels): less the mean, over the deviation, "
        "of the attacker's own records, in which no member has a say",
    )
    partition: Literal["natural", "dirichlet", "shards", "iid"] = Field(
        default="natural",
        description="natural: each client is a device of the data itself; dirichlet, shards: simulated clients with "
        "unlike classes; iid: simulated clients that are alike",
    )
    clients: int | None = Field(
        default=None, ge=2, le=10_000, description="number of simulated clients; none for natural"
    )
    records_per_client: int | None = Field(
        default=None, ge=2, description="records of each simulated client; for natural clients, at most this many"
    )
    alpha: float = Field(
        default=0.5, ge=1e-6, le=1e6, description="dirichlet: smaller values make clients' classes more unlike"
    )
    shards_per_client: int = Field(
        default=2, ge=1, le=10_000, description="shards: runs of one class each client is dealt"
    )
    member_share: float = Field(
        default=0.5, gt=0.05, lt=0.95, description="probability that the coin makes a record a member (trained on)"
    )
    newcomers: int = Field(
        default=0,
        ge=0,
        description="people (simulated clients if not natural) who take no part in training and only fine-tune the "
        "finished global model",
    )
    purchase: PurchaseOptions = Field(
        default_factory=PurchaseOptions, description="how the data set purchase-like is made up"
    )

    @field_validator("folder")
    @classmethod
    def _short(cls, folder: Path | None) -> Path | None:
        if len(str(folder)) > LONGEST:
            raise ValueError(f"a path of more than {LONGEST:,} characters; move the files to a nearer place")
        return folder

    @field_validator("source")
    @classmethod
    def _known(cls, source: str) -> str:
        try:
            find(source)
        except DataError as error:
            raise ValueError(str(error)) from error
        return source

    @model_validator(mode="after")
    def _synthetic_known(self) -> Self:
        known = find(self.source).synthetic
        if self.synthetic is not None and known is not None:
            says = "are synthetic" if known else "are real"
            raise ValueError(
                f"synthetic = {str(self.synthetic).lower()} is for your own data (npz:PATH); the records of"
                f" {self.source} {says}. Leave `synthetic` out"
            )
        return self

    @model_validator(mode="after")
    def _clients_fit(self) -> Self:
        if self.partition == "natural" and self.clients is not None:
            raise ValueError(
                f'clients = {self.clients} does not go with partition = "natural", where the data says who the '
                "clients are; leave `clients` out, or choose partition dirichlet, shards or iid"
            )
        if self.partition != "natural" and self.clients is None:
            raise ValueError(f'partition = "{self.partition}" needs the number of clients; set `clients` to 2 or more')
        return self


def place(table: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The values of a [data] table with an absolute `folder`, if its files lie in any: paths start from `folder`."""
    if "folder" not in table and not str(table.get("source", "")).startswith(OWN):
        return table
    return {**table, "folder": str((folder / own_path(str(table.get("folder", "")))).absolute())}


class PopulationConfig(_Table):
    """The attacker's own labelled records: known non-members, for thresholds and reference models."""

    who: Literal["other-people", "same-people"] = Field(
        default="other-people",
        description="other-people: whole people who take no part; same-people: records of the clients' own people "
        "that are never trained on, a stronger attacker",
    )
    people: int = Field(
        default=2, ge=1, le=100_000, description="other-people: how many (simulated clients if not natural)"
    )
    share: float = Field(
        default=0.3, gt=0.01, lt=0.9, description="same-people: share of each client's records set aside"
    )
    records: int | None = Field(
        default=None, ge=1, description="records the attacker holds in all; default: all that the choice above gives"
    )

    @model_validator(mode="after")
    def _records_for_all(self) -> Self:
        if self.who == "other-people" and self.records is not None and self.records < self.people:
            raise ValueError(
                f"records = {self.records} are fewer than people = {self.people}; raise `records` or lower `people`"
            )
        return self
