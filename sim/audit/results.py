"""The audit document, `audit.json`: one typed model, from which its JSON Schema is made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from sim.results import Control, Interval, OwnThreshold, TprAtFpr, Verdict

SCHEMA: Final = "seepage/audit/1"
FILE: Final = Path(__file__).with_name("audit.schema.json")

AuditVerdict = Verdict | Literal["files swapped?", "structure only"]
Which = Literal["file", "float model", "pair"]
Answered = Literal["logits", "probabilities", "label", "numbers"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelFile(_Part):
    """The file that was audited."""

    name: str
    bytes: int
    sha256: str


class RuntimeCheck(_Part):
    """Whether a runtime takes the file, and computes what the file says."""

    runtime: str
    runs: bool
    words: str


class Board(_Part):
    """Whether the file fits a board: what it needs there, in bytes, and how long one answer takes, with its anchor."""

    device: str
    title: str
    fits: bool | None = Field(description="null: the working memory could not be measured")
    flash_needed: int | None
    flash: int
    ram_needed: int | None
    ram: int
    exceeded: list[str]
    words: str = Field(description="what the reckoning rests on")
    latency_ms: Interval | None
    latency_from: str | None


class HostAndDevice(_Part):
    """How often the host's runtime answers otherwise than the device does, to the same inputs."""

    inputs: Literal["the records", "random numbers"]
    records: int
    rows_differing: int
    labels_differing: int | None = Field(description="null where the model names no classes")
    largest_difference: float
    attack: str | None = Field(description="the attack that was made on both")
    auc_difference: float | None = Field(description="AUC on the host's answers less AUC on the device's, paired")
    auc_difference_ci: Interval | None


class Structure(_Part):
    """What is in the file."""

    kind: str = Field(description='such as "int8 throughout" or "weight-only int8"')
    words: list[str] = Field(description="what follows from that, one sentence each")
    input: str
    output: str
    operators: dict[str, int]
    parameters: int | None
    macs: int | None = Field(description="multiply-accumulates of one inference; null: they could not be counted")
    macs_uncounted: list[str] = Field(description="operators whose work is not in macs, which then is a lower bound")
    arena_bytes: int | None
    device_model: bool = Field(description="whether a microcontroller would compute it, and rightly")
    inspection: dict[str, Any] = Field(description="everything that was read from the file")


class Data(_Part):
    """What the auditor has."""

    task: Literal["classes", "binary", "reconstruction", "regression"]
    answers: str
    resolution: float
    runtime: str = Field(description="which runtime answered the questions")
    members: int
    nonmembers: int
    population: int
    people: int = Field(description="0: the files name nobody")
    people_on_both_sides: int
    references: int
    references_from: Literal["none", "files", "recipe"]
    notes: list[str]


class Side(_Part):
    """How good the model is on one side: accuracy with its interval, or the median root-mean-square error."""

    records: int
    accuracy: float | None
    accuracy_ci: Interval | None
    commonest_class: float | None = Field(None, description="the accuracy of always naming this side's commonest class")
    median_error: float | None


class AuditAttack(_Part):
    """One attack on the file, on its float parent, or on both together."""

    attack: str
    model: Which
    output: Answered
    auc: float
    auc_ci: Interval
    auc_ci_adjusted: Interval = Field(description="of the AUC; holds at 95 % for all attacks of the audit at once")
    tpr_at_fpr: dict[str, TprAtFpr | None] = Field(description="null: too few non-members to measure this rate")
    tpr_low_adjusted: float | None = Field(
        description="lower end of the TPR at 1 % FPR; holds at 97.5 % for all attacks at once; null: not measurable"
    )
    own_threshold: OwnThreshold | None
    members: int
    nonmembers: int
    queries_per_record: float
    references: int
    cpu_seconds: float


class Untried(_Part):
    """An attack that could not be made, and what it would take."""

    attack: str
    reason: str


class Paired(_Part):
    """One attack on two models or against the control, on the same records: AUC after less AUC before."""

    attack: str
    before: str
    after: str
    auc_difference: float
    ci: Interval


class Audit(_Part):
    """Everything that one audit found out."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    schema_: Literal["seepage/audit/1"] = Field(SCHEMA, alias="schema")
    model: ModelFile
    verdict: AuditVerdict = Field(description="graded by the figures that hold for all attacks at once")
    summary: str = Field(description="the verdict in a sentence")
    findings: list[str]
    structure: Structure
    runtimes: list[RuntimeCheck]
    boards: list[Board]
    host_and_device: HostAndDevice | None
    data: Data | None
    members: Side | None
    nonmembers: Side | None
    attacks: list[AuditAttack]
    untried: list[Untried]
    blind: Control | None
    paired: list[Paired]
    seed: int
    versions: dict[str, str]
    timing: dict[str, float] = Field(description="seconds of each stage")


def json_schema() -> str:
    """The schema as `audit.schema.json` holds it."""
    return json.dumps(Audit.model_json_schema(by_alias=True, mode="serialization"), indent=2) + "\n"


if __name__ == "__main__":
    FILE.write_text(json_schema())
