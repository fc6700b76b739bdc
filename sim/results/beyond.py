"""What came out of updates and models beyond membership."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sim.results.part import Interval, Part, Vantage


class RecoveryResult(Part):
    """The server, with its colluders, against the masks of one client: whether it got the update back."""

    attack: str
    protocol: str
    victim: int
    colluders: list[int] = Field(description="clients in league with the server")
    searched: int = Field(description="seeds tried; 0 where the colluders know all of the victim's masks")
    search_bits: int = Field(description="log2 of the seeds that a full search tries")
    effective_bits: int = Field(description="log2 of the steps that finding any mask of this protocol takes")
    seeds_per_second: float = Field(description="on one core")
    full_search_core_minutes: float | None = Field(
        description="for all seeds, at the measured rate; null where no search of seeds finds a mask"
    )
    recovered: bool = Field(description="what came out is the update that the victim sent under its masks")
    correlation: float | None = Field(description="of what came out and the victim's update; null if nothing did")
    max_error: float | None = Field(description="largest, over the update's entries")
    cpu_seconds: float


class Spread(Part):
    """The middle of some figures, and between which they lie."""

    median: float
    low: float
    high: float


class Picture(Part):
    """One record to look at: an image (channels, height, width) or a signal (channels, length)."""

    shape: tuple[int, ...]
    values: str = Field(description="base64 of one byte per value: 0 is `lowest`, 255 is `highest`")
    lowest: float
    highest: float


class Triple(Part):
    """A true record, what was made of it, and what the attacker already had that is nearest to the true one."""

    true: Picture
    recovered: Picture
    public: Picture
    psnr: float = Field(description="of what was recovered, in decibels")
    public_psnr: float
    exact: bool


class ReconstructionResult(Part):
    """What one attack got back of the records behind one update, each paired with the true one that it fits best.

    Or, where the unit is a class, what it took for the typical record of each, against the members' mean.
    """

    attack: str
    vantage: Vantage
    unit: Literal["record", "class"]
    client: int | None = Field(description="the victim; null: the sum of a round's updates, or the final model")
    round: int | None = Field(description="null: the final model")
    records: int = Field(description="records, or classes, behind what was seen")
    steps: int | None = Field(description="local steps behind the update; null: the final model")
    sought: int = Field(description="how many the attacker came up with")
    recovered: int = Field(description="closer to the truth than any public record or class mean is to either")
    exact: int = Field(description="no value further from the truth than 1e-5 of the range of values")
    psnr: Spread | None = Field(description="decibels, 200 at most; null where nothing was come up with")
    ssim: Spread | None = Field(description="null for records that are no images")
    public_psnr: Spread | None = Field(description="of the nearest public record or class mean")
    public_ssim: Spread | None
    cpu_seconds: float
    pictures: list[Triple]


class LabelResult(Part):
    """How many labels of the records behind one update its last bias tells."""

    attack: str
    vantage: Vantage
    client: int | None = Field(description="the victim; null: the sum of a round's updates")
    round: int
    records: int
    right: int = Field(description="labels counted right: sum over classes of the smaller of told and true count")
    guessed: int = Field(description="the same with the class shares of the attacker's own records, and no update")


class SourceResult(Part):
    """Whose record is it: how often the right client is named for records that were trained on."""

    attack: str
    vantage: Vantage
    clients: int
    records: int = Field(description="members, of all clients")
    right: int
    accuracy: float
    ci: Interval = Field(description="Clopper-Pearson: takes records as independent")
    chance: float = Field(description="1 / clients")
    largest: float = Field(description="what always naming the client with the most records would get")
    held_out_accuracy: float = Field(description="on records never trained on: what a client's habits tell alone")
    held_out_ci: Interval
    cpu_seconds: float


class CountResult(Part):
    """How many records each client trained on, counted from its updates."""

    attack: str
    vantage: Vantage
    clients: int = Field(description="with at least one update")
    complete: int = Field(
        description="clients whose count the attacker can see to be complete; of others it is a least"
    )
    right: int = Field(description="of `complete`: the count is that of the client's members")
    at_least: int = Field(description="of the others: the client has no fewer members")
    largest_error: int | None = Field(description="of `complete`, in records; null where there are none")
    cpu_seconds: float


class PropertyResult(Part):
    """Which clients have a property that the task never asked for, told from their updates of one round."""

    attack: str
    vantage: Vantage
    property: str = Field(description='in words that complete "whether a client ..."')
    round: int
    clients: int
    holding: int = Field(description="clients that have it")
    auc: float | None = Field(description="null: too few clients with it, or without")
    auc_ci: Interval | None = Field(description="bootstrap over people")
    simulated_auc: float = Field(description="on updates that the attacker simulated from records of its own")
    simulated: int
    cpu_seconds: float
