"""What is said of a model that is shipped, as plain data: where it comes from, what it costs, what it gives away.

Nothing here is computed. Whoever exports a model fills it in; what is None was not established, and the bundle says so.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from edge.cost import Estimate
from edge.devices import DEVICES, Fit

Interval = tuple[float, float]
Vantage = str


class Part(BaseModel):
    """Strict and frozen; no field holds NaN or infinity, which JSON does not have."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False)


class Calibration(Part):
    """The records that set the quantisation ranges: they are part of what is released."""

    source: str
    records: int
    description: str
    rounded_ranges: float | None = Field(None, description="ranges were moved outward to powers of this number")
    silent_layers: tuple[str, ...] = Field((), description="gave nothing but zeros: the file computes with zeros there")


class Data(Part):
    """What the model was trained on."""

    title: str
    source: str
    licence: str
    synthetic: bool | None = Field(description="null: not stated")
    classes: tuple[str, ...] = Field((), description="what the outputs stand for, in their order")
    channels: tuple[str, ...] = Field((), description="what the numbers of a record stand for, with unit, in order")
    hertz: float | None = Field(None, description="samples a second along the record's last axis; null: not a series")


class Training(Part):
    """The run that the model comes from."""

    scenario: str
    scenario_hash: str
    seed: int
    target: str = Field(description='which of the run\'s models: "global", or "personal" with the client')
    versions: dict[str, str]


class Budget(Part):
    """What is promised to one unit against one vantage."""

    unit: Literal["record", "client"]
    vantage: Vantage
    epsilon: float | Literal["inf"]
    delta: float | None
    adjacency: str | None = Field(description="which data sets the promise holds between")
    accountant: str | None = None
    why: str = Field("", description="where the promise comes from, or why there is none")


class Attack(Part):
    """What the strongest attack of one vantage achieved on this model, or on all models of its kind."""

    vantage: Vantage
    attack: str
    target: str
    auc: float
    auc_ci: Interval
    tpr: float | None = Field(None, description="true-positive rate at `fpr`; null: too few non-members to measure it")
    tpr_ci: Interval | None = None
    fpr: float | None = None
    members: int
    nonmembers: int


class Control(Part):
    """An attack that cannot succeed: its interval should not lie above 0.5."""

    name: str
    auc: float
    auc_ci: Interval


class Agreement(Part):
    """The file as the device computes it, beside the float model that it was made from."""

    records: int
    top1: float = Field(description="share of records with the same label")
    largest_error: float = Field(description="of any output, in its real units")
    mean_error: float | None = Field(None, description="the mean absolute error of all outputs")


class Tried(Part):
    """A runtime that was given the model and records."""

    runtime: str
    records: int
    differing: int | None = Field(description="records with another answer than TFLite Micro's; null: it did not run")
    why: str = Field("", description="why it did not run")


class Board(Part):
    """What the model needs on the named board, and what there is, in bytes."""

    device: str
    title: str
    fits: bool
    flash_needed: int
    flash_available: int
    ram_needed: int
    ram_available: int
    words: str = Field(description="what these sums rest on")

    @staticmethod
    def of(fit: Fit) -> Board:
        """From `edge.devices.fits`."""
        return Board(
            device=fit.device,
            title=DEVICES[fit.device].title,
            fits=fit.fits,
            flash_needed=fit.flash.needed,
            flash_available=fit.flash.available,
            ram_needed=fit.ram.needed,
            ram_available=fit.ram.available,
            words=fit.words,
        )


class Cost(Part):
    """Between which figures a cost lies, and what that rests on; without figures, why there are none."""

    interval: Interval | None
    unit: Literal["ms", "uJ"]
    anchor: str

    @staticmethod
    def of(estimate: Estimate) -> Cost:
        """From `edge.cost.latency` or `edge.cost.energy`."""
        return Cost(interval=estimate.interval, unit=estimate.unit, anchor=estimate.anchor)


class Facts(Part):
    """Everything that the bundle says beyond what the file itself shows."""

    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}$", description="names the files and the C array")
    variant: str = Field(description="how it was quantised: a name from `edge.export.VARIANTS`, or in words")
    runtimes: tuple[str, ...] = Field(description="what runs it: names from `edge.runtimes.RUNTIMES`")
    tried: tuple[Tried, ...] = Field((), description="what was tried, and what came of it; empty: nothing was")
    training: Training | None = None
    data: Data | None = None
    calibration: Calibration | None = None
    agreement: Agreement | None = None
    arena_bytes: int | None = Field(None, description="measured in TFLite Micro on the host: at most this on Cortex-M")
    macs: int | None = Field(None, description="multiply-accumulates of one inference")
    board: Board | None = None
    latency: Cost | None = None
    energy: Cost | None = None
    budgets: tuple[Budget, ...] | None = Field(None, description="null: not known; empty: nothing is promised")
    caveats: tuple[str, ...] = Field((), description="what goes with every promise, in whole sentences")
    audit: tuple[Attack, ...] | None = Field(
        None, description="the strongest attack of each vantage; null: not audited"
    )
    controls: tuple[Control, ...] = ()
    unknown: tuple[str, ...] = Field((), description="what else is not known, in whole sentences")
