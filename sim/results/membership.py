"""Who was a member: every attack on it, what it reached, and the controls."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sim.results.part import Interval, Output, Part, Precision, Question, Vantage


class TprAtFpr(Part):
    """True-positive rate at the largest false-positive rate that does not pass the target (ties never split)."""

    tpr: float
    ci: Interval
    realised_fpr: float


class OwnThreshold(Part):
    """What the attacker gets with the threshold it sets on its own population, where it aims at `target_fpr`."""

    target_fpr: float
    tpr: float
    tpr_ci: Interval
    realised_fpr: float
    realised_fpr_ci: Interval


class Arm(Part):
    """One attack on personal models, over those who helped to train the global model, or those who only fine-tuned it.

    Scores are those of the whole row: the attacker does not know who belongs where.
    """

    who: Literal["participants", "newcomers"]
    clients: int
    members: int
    nonmembers: int
    auc: float
    auc_ci: Interval
    tpr_at_fpr: dict[str, TprAtFpr | None]


class AttackResult(Part):
    """One attack from one vantage on one model, over all candidate records of all clients."""

    attack: str
    vantage: Vantage
    target: Literal["global", "personal"]
    precision: Precision
    output: Output | None = Field(description="what the model answers; null for a server that sees the training itself")
    auc: float
    auc_ci: Interval
    auc_ci_adjusted: Interval = Field(description="of the AUC; holds at 95 % for all attacks of the run at once")
    tpr_at_fpr: dict[str, TprAtFpr | None] = Field(description="null: too few non-members to measure this rate")
    tpr_low_adjusted: float | None = Field(
        description="lower end of the TPR at 1 % FPR; holds at 97.5 % for all attacks at once; null: not measurable"
    )
    arms: list[Arm] = Field([], description="participants and newcomers apart; empty where there are no newcomers")
    own_threshold: OwnThreshold | None
    members: int
    nonmembers: int
    queries_per_record: float
    references: int
    cpu_seconds: float
    flagged: float | None = Field(None, description="share of the queries that the model's owner would flag as abuse")


class AttackRow(Part):
    """Which row of `attacks` is meant."""

    attack: str
    vantage: Vantage
    target: Literal["global", "personal"]
    precision: Precision
    output: Output | None


class Comparison(Part):
    """What a change of model does to one attack, paired: both models are asked about the same people's records.

    Question "server": the strongest attack of whoever aggregates, less the strongest on the global model's answers.
    """

    attack: str
    question: Question
    attack_before: str = Field("", description="the attack before, where it is another; empty where it is the same")
    before: str = Field(description='the model before the change, such as "global float32"')
    after: str
    auc_difference: float = Field(description="AUC after less AUC before: above 0, the change makes more leak")
    ci: Interval = Field(description="covers which people and records were in the study, not another training")


class Control(Part):
    """An attack that cannot succeed: its interval should not lie above 0.5."""

    attack: str
    auc: float
    auc_ci: Interval


class Controls(Part):
    """`blind` sees the data and no model; `stranger` attacks a model that never saw the client."""

    blind: Control
    stranger: Control


class Refusal(Part):
    """An attack that could not be tried on one target: what its vantage lacks, or why the model did not answer."""

    attack: str
    vantage: Vantage
    target: Literal["global", "personal"]
    precision: Precision
    output: Output | None
    lacks: str = Field("", description="what the vantage lacks, in a few words, where these say it all")
    reason: str


class ParticipationResult(Part):
    """Whether a person took part at all, told from records that nobody trained on. Unit: person.

    The interval resamples people, not records.
    """

    attack: str
    vantage: Vantage
    precision: Precision
    participants: int
    newcomers: int
    records_per_person: float = Field(description="that the attacker holds of each, none of them trained on")
    auc: float
    auc_ci: Interval
    cpu_seconds: float
