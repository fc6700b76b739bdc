"""The results document, `results.json`: one typed model, from which its JSON Schema is made."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Interval = tuple[float, float]
Precision = Literal["float32", "int8", "int8-per-tensor", "int16x8", "int4", "head"]
Output = Literal["logits", "probabilities", "label"]
Vantage = Literal["server", "aggregator", "malicious-server", "global-user", "query", "device"]
Question = Literal["personalising", "rounding"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TprAtFpr(_Part):
    """True-positive rate at the largest false-positive rate that does not pass the target (ties never split)."""

    tpr: float
    ci: Interval
    realised_fpr: float


class OwnThreshold(_Part):
    """What the attacker gets with the threshold it sets on its own population, where it aims at `target_fpr`."""

    target_fpr: float
    tpr: float
    tpr_ci: Interval
    realised_fpr: float
    realised_fpr_ci: Interval


class Arm(_Part):
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


class AttackResult(_Part):
    """One attack from one vantage on one model, over all candidate records of all clients."""

    attack: str
    vantage: Vantage
    target: Literal["global", "personal"]
    precision: Precision
    output: Output | None = Field(description="what the model answers; null for a server that sees the training itself")
    auc: float
    auc_ci: Interval
    tpr_at_fpr: dict[str, TprAtFpr | None] = Field(description="null: too few non-members to measure this rate")
    arms: list[Arm] = Field([], description="participants and newcomers apart; empty where there are no newcomers")
    own_threshold: OwnThreshold | None
    members: int
    nonmembers: int
    queries_per_record: float
    references: int
    cpu_seconds: float
    flagged: float | None = Field(None, description="share of the queries that the model's owner would flag as abuse")


class AttackRow(_Part):
    """Which row of `attacks` is meant."""

    attack: str
    vantage: Vantage
    target: Literal["global", "personal"]
    precision: Precision
    output: Output | None


class Comparison(_Part):
    """What a change of model does to one attack, paired: both models are asked about the same people's records."""

    attack: str
    question: Question
    before: str = Field(description='the model before the change, such as "global float32"')
    after: str
    auc_difference: float = Field(description="AUC after less AUC before: above 0, the change makes more leak")
    ci: Interval = Field(description="covers which people and records were in the study, not another training")


class Control(_Part):
    """An attack that cannot succeed: its interval should hold 0.5."""

    attack: str
    auc: float
    auc_ci: Interval


class Controls(_Part):
    """`blind` sees the data and no model; `stranger` attacks a model that never saw the client."""

    blind: Control
    stranger: Control


class Utility(_Part):
    """Accuracy on held-out records, all clients pooled, with the worst client beside it."""

    accuracy: float
    accuracy_ci: Interval
    worst_client: float
    member_accuracy: float


class Utilities(_Part):
    """Of the global model, the personal models, and the personal models that ship, as the device computes them.

    `beside` has the personal models of the other variants, and those whose last layer the device trained ("head").
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)
    global_: Utility = Field(alias="global")
    personal: Utility
    device: Utility
    beside: dict[Precision, Utility] = {}


class Budget(_Part):
    """What is promised to one unit against one vantage. `epsilon` is "inf" where nothing protects."""

    unit: Literal["record", "client"]
    vantage: str
    epsilon: float | Literal["inf"]
    delta: float | None
    accountant: str | None
    adjacency: str | None = Field(description="which data sets the promise holds between")
    per_client_max: float | None = Field(description="the largest over clients, where each has a budget of its own")
    why: str = Field(description="where the promise comes from, or why there is none")


class Refusal(_Part):
    """An attack that could not be tried on one target: what its vantage lacks, or why the model did not answer."""

    attack: str
    vantage: Vantage
    target: Literal["global", "personal"]
    precision: Precision
    output: Output | None
    lacks: str = Field("", description="what the vantage lacks, in a few words, where these say it all")
    reason: str


class Cost(_Part):
    """What protection takes from one model, paired: the same held-out records, the same seed, with and without it."""

    model: Literal["global", "personal"]
    unprotected: float = Field(description="accuracy of the same run without [privacy] and [aggregation]")
    difference: float = Field(description="protected less unprotected: below 0, protection costs accuracy")
    ci: Interval = Field(description="covers which people and records were in the study, not another training")


class Protection(_Part):
    """What was in force: the settings as they were solved and as they turned out."""

    aggregation: str
    record_noise_multiplier: float | None
    client_noise_multiplier: float | None
    client_noise: Literal["central", "local", "distributed"] | None
    stopped: str = Field(description="why training ended early, if it did")
    cost: list[Cost]


class ClientResult(_Part):
    """One client: a person's device. `exposure` is the AUC of `exposure_attack` on this client's records alone.

    It is null for a newcomer where that attack is on the global model, which no record of a newcomer's is in.
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


class PersonResult(_Part):
    """The same, over all devices of one person."""

    person: str
    clients: int
    members: int
    nonmembers: int
    exposure: float
    exposure_ci: Interval


class Estimated(_Part):
    """Between which two figures something lies, and what that rests on; or why nothing can be said."""

    interval: Interval | None
    unit: Literal["ms", "uJ"]
    anchor: str


class EdgeResult(_Part):
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
    rows_compared: int
    litert_rows_differing: int | None = Field(
        description="rows whose outputs differ between LiteRT and TFLite Micro; null where LiteRT refuses the model"
    )
    litert_labels_differing: int | None


class LitertVerdict(_Part):
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


class Calibration(_Part):
    """The records that set the quantisation ranges: they are part of what is released."""

    source: str
    records: int
    description: str


class DataCard(_Part):
    """Where the data came from."""

    source: str
    title: str
    licence: str
    synthetic: bool
    records: int
    classes: list[str]
    clients: int
    people: int = Field(description="as many as clients where these are simulated")
    natural: bool = Field(description="whether the clients are the data's own devices; if not, they are simulated")


class PopulationCard(_Part):
    """The attacker's own records, and the assumption they stand for."""

    who: Literal["other-people", "same-people"]
    people: int
    records: int
    assumption: str


class RoundResult(_Part):
    """One round: whose updates went in, and the broadcast model's accuracy on all clients' held-out records."""

    round: int
    clients: list[int]
    accuracy: float
    dropped: dict[str, str] = Field(description="client -> why its update is missing")
    refused: str = Field(description="why the round changed nothing, if it did not")


class RecoveryResult(_Part):
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


class Spread(_Part):
    """The middle of some figures, and between which they lie."""

    median: float
    low: float
    high: float


class Picture(_Part):
    """One record to look at: an image (channels, height, width) or a signal (channels, length)."""

    shape: tuple[int, ...]
    values: str = Field(description="base64 of one byte per value: 0 is `lowest`, 255 is `highest`")
    lowest: float
    highest: float


class Triple(_Part):
    """A true record, what was made of it, and what the attacker already had that is nearest to the true one."""

    true: Picture
    recovered: Picture
    public: Picture
    psnr: float = Field(description="of what was recovered, in decibels")
    public_psnr: float
    exact: bool


class ReconstructionResult(_Part):
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


class LabelResult(_Part):
    """How many labels of the records behind one update its last bias tells."""

    attack: str
    vantage: Vantage
    client: int | None = Field(description="the victim; null: the sum of a round's updates")
    round: int
    records: int
    right: int = Field(description="labels counted right: sum over classes of the smaller of told and true count")
    guessed: int = Field(description="the same with the class shares of the attacker's own records, and no update")


class SourceResult(_Part):
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


class PropertyResult(_Part):
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


class Detection(_Part):
    """One check that a client could make on every broadcast, with the most extreme honest value as its threshold."""

    check: str
    clients: int = Field(description="that had honest broadcasts to set a threshold by")
    noticed: int = Field(description="of them, how many the attack would have alarmed")
    false_alarms: float = Field(description="share of honest broadcasts alarmed at if the others set the threshold")


class ProbeResult(_Part):
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


class Change(_Part):
    """What tampering changed, paired: the same records, the same seed, with and without it."""

    without: float = Field(description="the figure of the same run without tampering")
    difference: float = Field(description="with tampering less without")
    ci: Interval = Field(description="covers which people and records were in the study, not another training")


class TamperingOutcome(_Part):
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


class Amplification(_Part):
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


class TamperingResult(_Part):
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


class Called(_Part):
    """Records that an attacker is sure about, a thousand to one by its own reckoning, and how often it is right."""

    called: int
    right: int
    right_ci: Interval | None = Field(description="of the share that is right, Clopper-Pearson; null: none called")
    of: int = Field(description="how many there were to call rightly")
    share_ci: Interval = Field(description="of `right` / `of`, Clopper-Pearson")


class CalibrationLeak(_Part):
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
    public_auc_ci: Interval = Field(description="should hold 0.5: those ranges tell of none of the candidates")
    cpu_seconds: float


class ParticipationResult(_Part):
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


class Results(_Part):
    """One run, whole."""

    schema_: Literal["seepage/results/1"] = Field(alias="schema", default="seepage/results/1")
    scenario: str
    title: str
    seed: int
    versions: dict[str, str]
    timing: dict[str, float] = Field(description="seconds of each stage")
    data: DataCard
    population: PopulationCard
    model: dict[str, str | int]
    rounds: list[RoundResult]
    utility: Utilities
    budgets: list[Budget]
    protection: Protection | None = Field(description="null where nothing protects")
    attacks: list[AttackResult]
    refused: list[Refusal] = Field(description="attacks that a vantage lacks something for")
    comparisons: list[Comparison]
    recoveries: list[RecoveryResult] = []
    reconstructions: list[ReconstructionResult] = []
    labels: list[LabelResult] = []
    sources: list[SourceResult] = []
    properties: list[PropertyResult] = []
    calibration_leak: list[CalibrationLeak] = Field([], description="empty where public records set the ranges")
    probes: list[ProbeResult] = Field([], description="what deviating from the protocol cost the server")
    participations: list[ParticipationResult] = []
    tampering: TamperingResult | None = Field(None, description="null where no client tampers")
    audits: list[dict[str, str]] = []
    controls: Controls
    exposure_attack: AttackRow = Field(description="the attack that the clients' exposure comes from")
    clients: list[ClientResult]
    people: list[PersonResult]
    calibration: Calibration
    edge: list[EdgeResult]
    remedies: list[str] = Field([], description="what would make a global model fit that does not, as measured")
    litert: LitertVerdict | None = Field(None, description="null where LiteRT refuses the models")
    findings: list[str] = Field(description="what the figures say, in plain words")
