"""Whose models these are: what they are good for, and who is exposed."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from sim.results.part import Interval, Part, Precision


class Utility(Part):
    """Accuracy on held-out records, all clients pooled, with the worst client beside it."""

    accuracy: float
    accuracy_ci: Interval
    worst_client: float
    member_accuracy: float | None = Field(description="null where none of the scored records trained the model")


class Utilities(Part):
    """Of the global model, the personal models, and the personal models that ship, as the device computes them.

    `beside` has the personal models of the other variants, and those whose last layer the device trained ("head").
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)
    global_: Utility = Field(alias="global")
    personal: Utility
    device: Utility
    commonest_class: float = Field(
        description="share of the commonest class among the held-out records: the accuracy of always naming it"
    )
    beside: dict[Precision, Utility] = Field({})


class ClientResult(Part):
    """One client: a person's device. `exposure` is the AUC of `exposure_attack` on this client's records alone.

    It is null where that attack is on the global model and no record of this client is in it: the client is a newcomer,
    or it was in no round that released anything. `members` are those of its personal model.
    """

    client: int
    name: str
    person: str
    participates: bool = Field(description="false for a newcomer, who only fine-tunes the finished global model")
    members: int
    nonmembers: int
    accuracy_global: float
    accuracy_personal: float
    accuracy_device: float
    exposure: float | None
    exposure_ci: Interval | None


class PersonResult(Part):
    """The same, over all devices of one person."""

    person: str
    clients: int
    members: int
    nonmembers: int
    exposure: float
    exposure_ci: Interval


class Scaling(Part):
    """What was taken off every feature, or channel, before training: a device must do the same to its inputs."""

    mean: list[float]
    deviation: list[float] = Field(description="1 where a feature was constant")
    records: int = Field(description="of the attacker's own, whose mean and deviation these are; none of a member's")


class DataCard(Part):
    """Where the data came from."""

    source: str
    title: str
    licence: str
    synthetic: bool | None = Field(description="null: the user's own data, and the scenario does not say")
    records: int
    classes: list[str]
    clients: int
    people: int = Field(description="as many as clients where these are simulated, or the data names no people")
    names_people: bool = Field(description="whether the data says whose clients are whose")
    scaling: Scaling | None = Field(None, description="null: records are as they came")
    natural: bool = Field(description="whether the clients are the data's own devices; if not, they are simulated")
    notes: list[str] = Field(
        [], description="what was assumed in reading the data, and which records and clients were left out of what"
    )
    never_trained: list[int] = Field(
        [],
        description="clients that were to help train the global model and were in no round that released anything: "
        "their records are non-members of it; newcomers are not listed",
    )
    never_trained_records: int = Field(0, description="records of these clients, whatever their coins say")


class PopulationCard(Part):
    """The attacker's own records, and the assumption they stand for."""

    who: Literal["other-people", "same-people"]
    people: int
    records: int
    assumption: str


class RoundResult(Part):
    """One round: whose updates went in, and the broadcast model's accuracy on all clients' held-out records."""

    round: int
    clients: list[int]
    accuracy: float
    dropped: dict[str, str] = Field(description="client -> why its update is missing")
    refused: str = Field(description="why the round changed nothing, if it did not")
