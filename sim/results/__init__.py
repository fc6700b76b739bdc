"""The results document, `results.json`: one typed model, from which its JSON Schema is made."""

from sim.results.beyond import (
    LabelResult,
    Picture,
    PropertyResult,
    ReconstructionResult,
    RecoveryResult,
    SourceResult,
    Spread,
    Triple,
)
from sim.results.deviating import Amplification, Change, Detection, ProbeResult, TamperingOutcome, TamperingResult
from sim.results.edge import Calibration, CalibrationLeak, Called, EdgeResult, Estimated, LitertVerdict
from sim.results.membership import (
    Arm,
    AttackResult,
    AttackRow,
    Comparison,
    Control,
    Controls,
    OwnThreshold,
    ParticipationResult,
    Refusal,
    TprAtFpr,
)
from sim.results.part import Interval, Output, Precision, Question, Vantage
from sim.results.people import ClientResult, DataCard, PersonResult, PopulationCard, RoundResult, Utilities, Utility
from sim.results.protection import Budget, Cost, Protection
from sim.results.run import Results

__all__ = [
    "Amplification",
    "Arm",
    "AttackResult",
    "AttackRow",
    "Budget",
    "Calibration",
    "CalibrationLeak",
    "Called",
    "Change",
    "ClientResult",
    "Comparison",
    "Control",
    "Controls",
    "Cost",
    "DataCard",
    "Detection",
    "EdgeResult",
    "Estimated",
    "Interval",
    "LabelResult",
    "LitertVerdict",
    "Output",
    "OwnThreshold",
    "ParticipationResult",
    "PersonResult",
    "Picture",
    "PopulationCard",
    "Precision",
    "ProbeResult",
    "PropertyResult",
    "Protection",
    "Question",
    "ReconstructionResult",
    "RecoveryResult",
    "Refusal",
    "Results",
    "RoundResult",
    "SourceResult",
    "Spread",
    "TamperingOutcome",
    "TamperingResult",
    "TprAtFpr",
    "Triple",
    "Utilities",
    "Utility",
    "Vantage",
]
