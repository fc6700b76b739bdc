"""What an inspection finds. Everything in it may be shown: names are printable, lengths bounded, numbers finite."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from edge.inspection.kinds import Format, Kind

Name = Annotated[str, Field(max_length=120, pattern=r"\A[ -~]*\z")]
Words = Annotated[str, Field(max_length=2000, pattern=r"\A[ -~]*\z")]
Count = Annotated[int, Field(ge=0, lt=1 << 62)]
Sides = Annotated[tuple[Annotated[int, Field(ge=-(1 << 31), lt=1 << 31)], ...], Field(max_length=8)]
Names = Annotated[tuple[Name, ...], Field(max_length=64)]
Outcome = Literal["takes", "refuses", "crashes", "stopped", "not installed", "not tried"]
_STRICT: Final = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class PortFound(BaseModel):
    """One end of the first graph, as the file has it; `shape` has the batch in front, and channels last."""

    model_config = _STRICT
    name: Name
    shape: Sides
    shape_signature: Sides
    numbers: Name
    scale: float | None
    zero_point: Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)] | None


class WorkFound(BaseModel):
    """What one inference computes: the fields of `edge.cost.Work`, which estimates of time and energy start from."""

    model_config = _STRICT
    macs: Annotated[dict[Name, Count], Field(max_length=256)]
    elements: Annotated[dict[Name, Count], Field(max_length=256)]
    operators: Count
    numbers: Name
    uncounted: Names

    @property
    def total_macs(self) -> int:
        """Multiply-accumulates of all classes together."""
        return sum(self.macs.values())


class FlawFound(BaseModel):
    """A tensor whose scale does not go with what is around it: see `edge.tflite.scales.Flaw`."""

    model_config = _STRICT
    graph: Count
    operator: Count
    kind: Name
    tensor: Name
    value: float
    wanted: float
    steps: float


class Structure(BaseModel):
    """What is in a file. Counts are over all graphs; ports are the first one's, which a device runs.

    `format` is the numbers that its weighted operators compute in, `kind` that or what stands in the way of one record
    in and one answer out. `misread_constants` are those that TFLite Micro turns into wrong numbers. `ends_in` is the
    operator that makes the output. `compiled_for` is the hardware that alone runs the file, or nothing; `flex` are
    operators of TensorFlow itself. `states` are what is kept from one inference to the next, `unset` variables that are
    read and never set, `random` the operators that draw. `biases` have another scale than their layer reads them with;
    `dead` activations have ranges below one step of what they are made of. `open_axes` are those of the first input
    that have no fixed length, the batch aside.
    """

    model_config = _STRICT
    schema_version: Count
    description: Name
    metadata: Names
    signatures: Names
    subgraphs: Count
    operators: Annotated[dict[Name, Count], Field(max_length=256)]
    inputs: Annotated[tuple[PortFound, ...], Field(max_length=64)]
    outputs: Annotated[tuple[PortFound, ...], Field(max_length=64)]
    parameters: Count
    parameter_bytes: Annotated[dict[Name, Count], Field(max_length=32)]
    format: Format
    kind: Kind
    misread_constants: Count
    compiled_for: Name
    flex: Names
    states: Annotated[tuple[Annotated[str, Field(max_length=160, pattern=r"\A[ -~]*\z")], ...], Field(max_length=64)]
    unset: Names
    random: Names
    biases: Annotated[tuple[FlawFound, ...], Field(max_length=64)]
    dead: Annotated[tuple[FlawFound, ...], Field(max_length=64)]
    open_axes: Sides
    ends_in: Name
    dynamic_batch: bool

    @property
    def probabilities(self) -> bool:
        """Whether the answers are probabilities, also where a DEQUANTIZE follows the softmax."""
        return self.ends_in in ("SOFTMAX", "LOGISTIC")

    @property
    def askable(self) -> bool:
        """Whether `edge.sandbox.answers` can ask it: one record in, one answer out, in numbers with one scale; or as
        many answers as records.
        """
        return not self.unaskable

    @property
    def unaskable(self) -> str:
        """Why it cannot be asked, with the end that stands in the way; nothing where it can be."""
        if (len(self.inputs), len(self.outputs)) != (1, 1):
            return f"it has {len(self.inputs)} inputs and {len(self.outputs)} outputs, not one of each"
        found = next((why for port in (*self.inputs, *self.outputs) if (why := _unaskable(port))), "")
        source, result = self.inputs[0].shape, self.outputs[0].shape
        if not found and source[0] != result[0]:
            return f"it takes shape {source} and gives shape {result}: the first axis is not a batch of records"
        return found

    @property
    def batch(self) -> int:
        """How many records it takes at once. Only for a file that can be asked."""
        return self.inputs[0].shape[0]


class Tried(BaseModel):
    """What became of a file in one runtime, and `reason`, its words, where it was not taken.

    Where it was asked: rows and first labels in which it differs from TFLite Micro on the same input, and by how much
    at the most (in steps of the output, or real numbers where that is floating point). None where not compared.
    `repeats` is whether records asked again, in another order, got the same answers, and `alone` whether other records
    in the same batch left them the same. `constant` is whether all records got the same answer.
    """

    model_config = _STRICT
    runtime: Name
    outcome: Outcome
    reason: Words = ""
    rows_differing: Count | None = None
    labels_differing: Count | None = None
    largest_difference: float | None = None
    repeats: bool | None = None
    alone: bool | None = None
    constant: bool | None = None

    @property
    def sound(self) -> bool:
        """Whether the runtime takes the file, and what it answers to a record depends on that record alone."""
        return self.outcome == "takes" and self.repeats is not False and self.alone is not False


class Inspection(Structure):
    """All that is said about a file.

    `work` is what one inference of the first graph computes, None where that could not be counted.
    `device_model` is whether a microcontroller computes what the file says, and `verdict` why, or why not.
    `arena_bytes` is None where TFLite Micro does not take the file. `records` went through every runtime; `drawn` says
    whether they were drawn at random. `limits` is what held for the processes that saw the file.
    """

    size: Count
    sha256: Annotated[str, Field(pattern=r"\A[0-9a-f]{64}\z")]
    work: WorkFound | None
    runtimes: tuple[Tried, ...]
    records: Count
    drawn: bool
    arena_bytes: Count | None
    device_model: bool
    verdict: Words
    limits: Names

    @property
    def macs(self) -> int | None:
        """Multiply-accumulates of one inference; None where they could not be counted."""
        return None if self.work is None else self.work.total_macs

    def tried(self, runtime: str) -> Tried | None:
        """What became of it in this runtime."""
        return next((each for each in self.runtimes if each.runtime == runtime), None)


def _unaskable(port: PortFound) -> str:
    if not port.shape or min(port.shape) < 1:
        return f"'{port.name}' has shape {port.shape}, which holds no batch of records"
    if port.numbers == "float32":
        return ""
    if port.numbers not in ("int8", "int16", "uint8"):
        return f"'{port.name}' is {port.numbers}; int8, int16, uint8 and float32 can be asked"
    usable = port.scale is not None and 0 < port.scale < float("inf")
    return "" if usable else f"'{port.name}' is {port.numbers} without one usable scale"
