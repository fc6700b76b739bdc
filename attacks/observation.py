"""What an attacker holds: what its vantage sees, its own people's data, and models it trained itself. Nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import islice
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from torch import nn

Vantage = Literal["server", "aggregator", "malicious-server", "global-user", "query", "device"]
Output = Literal["logits", "probabilities", "label"]
Predictor = Callable[[Float[np.ndarray, "records ..."]], Float[np.ndarray, "records classes"]]

_MOST_NOTES = 2**15  # who asks more asks about points of its own making, once each


class VantageLacksError(Exception):
    """The attack needs something that this vantage does not see; `need` names it in a few words, if it has a name."""

    def __init__(self, message: str, need: str = "") -> None:
        super().__init__(message)
        self.need = need


class QueriesRefusedError(VantageLacksError):
    """The attack asks more than the model's owner answers."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "more queries")


class NotFiniteError(VantageLacksError):
    """A model, or the attack's own arithmetic or training, left the finite numbers, so that there are no scores."""


@dataclass(frozen=True, slots=True)
class Records:
    """Labelled records: `x` of shape (records, ...), `y` of shape (records,) with class numbers."""

    x: Float[np.ndarray, "records ..."]
    y: Int[np.ndarray, " records"]

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: slice | Bool[np.ndarray, " records"] | Int[np.ndarray, " picked"]) -> Records:
        return Records(self.x[index], self.y[index])

    def joined(self, other: Records) -> Records:
        """These records followed by `other`'s."""
        return Records(np.concatenate([self.x, other.x]), np.concatenate([self.y, other.y]))


@dataclass(slots=True)
class Oracle:
    """A model that can only be asked. It counts the records it was asked about; a record asked again is answered
    from the attacker's notes and not counted twice. Notes are of 32,768 records at most.
    """

    answer: Predictor
    output: Output = "logits"  # of "label" an answer is 1 in the column of the label, 0 elsewhere
    resolution: float = 0.0  # smallest step of an answer: 1/256 for an int8 softmax, 0 for floating point
    queries: int = 0
    budget: int | None = None  # records that it answers about in all; None: no limit
    _notes: dict[bytes, Float[np.ndarray, " classes"]] = field(default_factory=dict, repr=False)

    def __call__(self, x: Float[np.ndarray, "records ..."]) -> Float[np.ndarray, "records classes"]:
        """Answers for `x`, one row per record. Raises QueriesRefusedError where they would pass the budget."""
        keys = [blake2b(row.tobytes(), digest_size=16).digest() for row in np.ascontiguousarray(x)]
        new = {key: i for i, key in enumerate(keys) if key not in self._notes}
        answers = self._asked(x[list(new.values())]) if new else ()
        fresh = dict(zip(new, answers, strict=True))
        found = np.stack([fresh[key] if key in fresh else self._notes[key] for key in keys])
        self._notes.update(islice(fresh.items(), max(_MOST_NOTES - len(self._notes), 0)))
        return found

    @property
    def left(self) -> int | None:
        """Records that it still answers about; None where there is no limit."""
        return None if self.budget is None else self.budget - self.queries

    def _asked(self, x: Float[np.ndarray, "records ..."]) -> Float[np.ndarray, "records classes"]:
        if self.left is not None and len(x) > self.left:
            raise QueriesRefusedError(
                f"asked about {self.queries:,} records and wanted {len(x):,} more, the model's owner answers "
                f"{self.budget:,}. Raise attacks.queries, or name an attack that asks less"
            )
        self.queries += len(x)
        return self.answer(x)


@dataclass(frozen=True, slots=True)
class Reference:
    """A model the attacker trained itself, with the target's recipe, on part of its own population."""

    predict: Predictor  # answers in the same form (logits or probabilities, same resolution) as the target
    trained_on: Bool[np.ndarray, " population"]
    weights: Float[np.ndarray, " params"] | None = None  # in `named_parameters` order, where an attack looks at them


Ends = tuple[Float[np.ndarray, "records tensors"], Float[np.ndarray, "records tensors"]]


@dataclass(frozen=True, slots=True)
class Opened:
    """An int8 model file, taken apart by whoever holds it: its weights, and the range of each activation tensor.

    A range runs from `low` to `high`, was set by the calibration records, and holds zero. Its width, 255 steps, is
    exact; where it has both signs the zero point is rounded, and both ends are off by up to half a step, together.
    """

    weights: Float[np.ndarray, " params"]  # dequantised, in `named_parameters` order
    low: Float[np.ndarray, " tensors"]
    high: Float[np.ndarray, " tensors"]
    # Smallest and largest float activation per record and tensor, with the dequantised weights; given a generator, with
    # weights that round to the same. The first tensor is the input, where rounding has no part.
    extremes: Callable[[Float[np.ndarray, "records ..."], np.random.Generator | None], Ends]
    calibration_records: int  # how many records set the ranges: the maker's model card says so
    grid: float = 1.0  # the ends were moved outward to powers of it, as the model card says too; 1: they were not
    steps: Float[np.ndarray, " params"] | None = None  # between neighbouring values of each weight; None: not known


@dataclass(frozen=True, slots=True)
class Recipe:
    """What attacks on updates use of the public training recipe."""

    optimizer: Literal["sgd", "adam"] = "sgd"
    weight_decay: float = 0.0


@dataclass(frozen=True, slots=True)
class ServerRound:
    """One round as whoever aggregates sees it. Vectors hold the model's parameters in `named_parameters` order.

    Under secure aggregation `updates` is empty: the mean, and who is in it, is all that can be seen.
    """

    number: int
    weights: Float[np.ndarray, " params"]  # the global model that was broadcast
    clients: tuple[int, ...]  # whose updates are in the mean
    mean: Float[np.ndarray, " params"]  # of the updates, weighted, before any noise that the server adds
    updates: Mapping[int, Float[np.ndarray, " params"]]  # client -> broadcast weights minus the client's weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One round beside the protocol: what a malicious server sent to whom, and what came back.

    Under secure aggregation `updates` is empty. Where the clients were told to personalise no update comes back, and
    the personal models can be queried.
    """

    attack: str
    part: int  # which of the attack's rounds this is, from 0
    weights: Float[np.ndarray, " params"]  # what the protocol would have had it send
    sent: Mapping[int, Float[np.ndarray, " params"]]  # client -> what it was sent
    clients: tuple[int, ...] = ()  # who answered
    mean: Float[np.ndarray, " params"] | None = None  # of sent less returned weights, over who answered, weighted
    updates: Mapping[int, Float[np.ndarray, " params"]] = field(default_factory=dict)  # client -> sent less returned
    personal: Mapping[int, Oracle] = field(default_factory=dict)  # client -> the model it made of what it was sent
    refused: str = ""  # why nothing came back, if nothing did


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """Everything one attacker has when it judges `candidates`. Whether a candidate was a member is not in here.

    `population` are the attacker's own records: known non-members. The architecture, with the first weights in it, is
    public. A vantage that may query a model has `oracle` and the `references` it trained from the first weights; for a
    personal model also `before`, the global model that it was fine-tuned from, and `tuned`, references that were too.
    The curious server, and the aggregator of a secure sum, have `rounds`, and know which client the candidates belong
    to. A server that deviates has `probes` as well.
    """

    vantage: Vantage
    candidates: Records
    population: Records
    oracle: Oracle | None = None
    references: tuple[Reference, ...] = ()
    before: Oracle | None = None
    tuned: tuple[Reference, ...] = ()
    rounds: Sequence[ServerRound] = ()
    probes: Sequence[Probe] = ()
    architecture: nn.Module | None = None
    client: Int[np.ndarray, " candidates"] | None = None  # whose record each candidate is
    file: Opened | None = None  # for whoever holds the device
    file_before: Opened | None = None  # the global model's, which every device has had
    recipe: Recipe = Recipe()  # of the training that is attacked: of the global model, or of the personal one


@dataclass(frozen=True, slots=True)
class Guess:
    """An attack's answer: larger scores for likelier members, and what it took to get them.

    `population_scores` are the same scores for the attacker's own records (known non-members; NaN where a record
    cannot be scored): from them the attacker can set a threshold without ever seeing the truth.
    """

    scores: Float[np.ndarray, " candidates"]
    population_scores: Float[np.ndarray, " population"] | None = None
    queries_per_record: float = 0.0
    references: int = 0
    cpu_seconds: float = 0.0
    flagged: float | None = None  # share of the queries that the model's owner would flag, where one watched
