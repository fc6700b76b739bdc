"""The exported models: fit, cost, and what their calibration gives away."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sim.results.membership import TprAtFpr
from sim.results.part import Interval, Part, Precision, Vantage


class Estimated(Part):
    """Between which two figures something lies, and what that rests on; or why nothing can be said."""

    interval: Interval | None
    unit: Literal["ms", "uJ"]
    anchor: str


class EdgeResult(Part):
    """One exported model, checked against its float parent and the named microcontroller."""

    artifact: str
    target: Literal["global", "personal"]
    variant: Precision = Field("int8", description="how it is quantised")
    client: int | None
    device: str
    bytes: int
    arena_bytes: int
    fits: bool
    fit: str = Field("", description="flash and RAM, needed and available, and what these sums rest on")
    macs: int | None = Field(None, description="multiply-accumulates of one inference")
    latency: Estimated | None = Field(None, description="milliseconds of one inference, on this device")
    energy: Estimated | None = Field(None, description="microjoules of one inference, the chip alone")
    top1_agreement: float
    max_logit_error: float = Field(description="in probability units where the model answers with probabilities")
    mean_logit_error: float | None = Field(None, description="the mean absolute error of all answers, in the same unit")
    silent_layers: tuple[str, ...] = Field(
        (),
        description="layers that gave nothing but zeros on the calibration records: the file computes with zeros there",
    )
    rows_compared: int
    litert_rows_differing: int | None = Field(
        description="rows whose outputs differ between LiteRT and TFLite Micro; null where LiteRT refuses the model"
    )
    litert_labels_differing: int | None


class LitertVerdict(Part):
    """One attack on the personal models that ship: on what the device answers, and on what LiteRT answers for it."""

    attack: str = Field(description="the strongest on the device's answers")
    auc_device: float
    auc_litert: float
    auc_difference: float = Field(description="LiteRT's less the device's")
    ci: Interval = Field(description="covers which people and records were in the study, not another training")
    records: int
    scores_differing: int = Field(description="records that get another score")
    aim: float = Field(description="false alarms that the attacker aims at")
    verdicts_changed: int | None = Field(
        description="records that the attacker calls otherwise, at the threshold that it sets on its own records and "
        "the device's answers; null where it can set none"
    )


class Calibration(Part):
    """The records that set the quantisation ranges: they are part of what is released."""

    source: str
    records: int
    description: str


class Called(Part):
    """Records that an attacker is sure about, a thousand to one by its own reckoning, and how often it is right."""

    called: int
    right: int
    right_ci: Interval | None = Field(description="of the share that is right, Clopper-Pearson; null: none called")
    of: int = Field(description="how many there were to call rightly")
    share_ci: Interval = Field(description="of `right` / `of`, Clopper-Pearson")


class CalibrationLeak(Part):
    """Who was in the calibration set, told from the ranges in the file, among records that were all trained on or all
    not. The calibration records were drawn by chance, so nothing but the ranges tells them from the others.
    """

    attack: str
    vantage: Vantage
    target: Literal["global", "personal"]
    calibration_records: int = Field(description="of each model; of the model with the fewest")
    models: int = Field(description="models attacked: those that some of the candidates were left out of")
    candidates: int
    inside: int = Field(description="candidates that were calibration records")
    compared: int = Field(description="candidates in the AUC: of several models, as many inside as outside of each")
    auc: float
    auc_ci: Interval
    tpr_at_fpr: dict[str, TprAtFpr | None]
    found: Called = Field(description="called calibration records")
    excluded: Called = Field(description="called anything but")
    public_auc: float = Field(description="of the same attack on the same models calibrated on the attacker's records")
    public_auc_ci: Interval = Field(description="should not lie above 0.5: those ranges tell of none of the candidates")
    cpu_seconds: float
