"""Who broke the protocol: servers that probe, and clients that tamper."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sim.results.membership import TprAtFpr
from sim.results.part import Interval, Output, Part, Precision, Vantage


class Detection(Part):
    """One check that a client could make on every broadcast, with the most extreme honest value as its threshold."""

    check: str
    clients: int = Field(description="that had honest broadcasts to set a threshold by")
    noticed: int = Field(description="of them, how many the attack would have alarmed")
    false_alarms: float = Field(description="share of honest broadcasts alarmed at if the others set the threshold")


class ProbeResult(Part):
    """What an attack costs a server that deviates for it: rounds, accuracy, and being noticed."""

    attack: str
    rounds: int = Field(description="beside the protocol's, that clients answered; they count against their budgets")
    clients: int
    accuracy: float = Field(description="of the model that the protocol would have sent, mean over clients")
    accuracy_sent: float = Field(description="of what the clients were sent instead")
    personal: float | None = Field(description="of the honest personal models; null where nobody personalises")
    personal_made: float | None = Field(description="of the personal models made of what was sent")
    covered: int = Field(description="candidate records that the probes tell about; the others score alike")
    covered_auc: float | None = Field(description="of the attack on those alone; null: too few of either kind")
    covered_auc_ci: Interval | None
    detections: list[Detection]


class Change(Part):
    """What tampering changed, paired: the same records, the same seed, with and without it."""

    without: float = Field(description="the figure of the same run without tampering")
    difference: float = Field(description="with tampering less without")
    ci: Interval = Field(description="covers which people and records were in the study, not another training")


class TamperingOutcome(Part):
    """How one model does after tampering, on held-out records of the clients that do not tamper."""

    target: Literal["global", "personal"]
    precision: Precision
    records: int = Field(description="those that the tampering is about")
    success: float = Field(description="share of them that the model answers as the tampering clients want")
    success_ci: Interval
    success_change: Change | None = Field(description="null on devices: the run without tampering exports no models")
    accuracy: float = Field(description="on all held-out records as they are")
    accuracy_ci: Interval
    accuracy_change: Change | None


class Amplification(Part):
    """One attack on the records that truth serum targets, beside the same attack on the others."""

    attack: str
    vantage: Vantage
    target: Literal["global", "personal"]
    precision: Precision
    output: Output | None
    records: int = Field(description="members and non-members that are targeted, by a coin each")
    auc: float
    auc_ci: Interval
    tpr_at_fpr: dict[str, TprAtFpr | None]
    others: int
    others_auc: float
    others_auc_ci: Interval
    others_tpr_at_fpr: dict[str, TprAtFpr | None]
    auc_difference: float = Field(description="targeted less others: above 0, tampering makes membership show more")
    ci: Interval = Field(description="people drawn for both alike, records for each alone")


class TamperingResult(Part):
    """What clients that poison their training data achieved. Their own records are in no figure of this document."""

    how: Literal["label-flip", "backdoor", "truth-serum"]
    source: str
    meant: str = Field(description='what it is about, in words that complete "records ..."')
    boost: float
    clients: list[int]
    combine: str = Field(description="what the server makes of a round's updates")
    tampering_allowed: int | None = Field(description="how many tampering clients that withstands; null for the mean")
    outcomes: list[TamperingOutcome]
    amplification: list[Amplification] = Field(description="truth serum only: every attack on the training and models")
