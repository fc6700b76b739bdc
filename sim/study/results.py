"""The study's document, `study.json`: the figures of all its runs, read together."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from sim.results import Interval, Output, Precision, Vantage, Verdict


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Figure(_Part):
    """A figure over the runs of one variant: their mean, and its 95 % interval.

    Over two seeds or more that is Student's t of the runs' own figures, so it covers all that the seed decides: who is
    a member, who the attacker's people are, training and attacks. It says nothing of other people than the data's. Of
    one run it is that run's own interval, which covers people and records, and not the luck of training.
    """

    value: float
    ci: Interval
    by_seed: list[float]


class Column(_Part):
    """Who attacks which model: one column of the matrix, for each variant."""

    vantage: Vantage
    target: Literal["global", "personal"]
    precision: Precision
    output: Output | None

    @property
    def key(self) -> tuple[str, str, str, str | None]:
        """What tells one column from another."""
        return self.vantage, self.target, self.precision, self.output


class Cell(Column):
    """One attack in one column: what it reached, or why it cannot be tried there."""

    variant: str
    attack: str
    auc: Figure | None
    auc_ci_adjusted: Interval = Field(
        (0.0, 1.0), description="of the mean AUC; holds at 95 % for all attacks of the study at once"
    )
    tpr: Figure | None = Field(description="members caught at 1 % false alarms; null where too few non-members")
    tpr_low_adjusted: float | None = Field(
        None, description="lower end of the mean TPR at 1 % FPR, for all attacks of the study at once"
    )
    lacks: str = Field(description="what the vantage lacks, where it cannot be tried")
    like: Vantage | None = Field(
        None, description="the vantage that can do this with less, and the same result: it is measured there, not twice"
    )


class Strongest(Column):
    """What the strongest attack of a column reaches, if it has to be chosen without looking.

    For each seed the attack is the one with the largest mean AUC over the other seeds; `auc` and `tpr` are its figures
    on the seed left out. The largest of many figures, read off where they were measured, would flatter the attacker.
    The intervals allow for seeds having a say in each other's choices (jackknife over seeds).
    """

    variant: str
    attacks: list[str] = Field(description="the one chosen for each seed")
    chosen_blind: bool = Field(description="false with one seed: then it is the largest of all, and flatters")
    auc: Figure
    tpr: Figure | None


class Difference(Column):
    """A change between two figures of one column, paired by seed, with its interval over seeds (two or more)."""

    question: Literal["protection", "newcomers", "format"] = Field(
        description="protection: the strongest attack's AUC in this variant less that in the first one; newcomers: an "
        "attack's AUC on people who only fine-tuned less that on those who helped to train; format: the strongest "
        "attack's AUC on the model in this form, or on its labels alone, less that on its float32 answers"
    )
    variant: str
    attack: str
    difference: Figure


class Variant(_Part):
    """One variant: its changes to the scenario, its runs, and what its models are good for."""

    name: str
    changes: str = Field(description="as TOML; empty where it changes nothing")
    runs: list[str] = Field(description="run folders, in the order of the seeds")
    accuracy: dict[str, Figure] = Field(description="global, personal, device, and personal models in other forms")
    commonest_class: float = Field(description="the accuracy of always naming the commonest class, mean over seeds")
    verdict: Verdict = Field(description="graded by the figures that hold for all attacks of the study at once")
    promises: list[str] = Field(description="each finite epsilon of the first seed's run, in words")
    controls_held: int = Field(description="of twice as many controls as runs: not above 0.5")


class StudyResults(_Part):
    """One study, whole."""

    schema_: Literal["seepage/study/1"] = Field(alias="schema", default="seepage/study/1")
    scenario: str
    title: str
    synthetic: bool | None
    crowd: str
    seeds: list[int]
    variants: list[Variant]
    columns: list[Column]
    attacks: list[str]
    cells: list[Cell]
    strongest: list[Strongest]
    differences: list[Difference]
    findings: list[str]
