"""A scenario: one experiment, validated. Everything in it stands in one TOML file; `--set` overrides single values."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import typing
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from attacks.config import AttackConfig
from attacks.tampering import TamperingConfig
from clients.models import ModelConfig
from clients.privacy import PrivacyConfig
from clients.training import TrainingConfig
from edge.config import EdgeConfig
from server.aggregation.config import AggregationConfig
from server.strategy import FederationConfig
from sim.data.config import DataConfig, PopulationConfig, place
from sim.errors import LONGEST, InputError, repeated, shown
from sim.study.config import StudyConfig
from sim.toml import parse, read_toml, refuse_depth

MOST_TOLD = 20  # faults of one file
LONGEST_NAME = 60  # of a scenario, and of one run of a study, which is NAME.VARIANT
SEEDS = 2**63  # as many as there are


class Scenario(BaseModel):
    """One experiment. Each table's settings are described beside the code they configure."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=LONGEST_NAME, description="used in the run folder's name"
    )
    title: str = Field("", description="one line for the report")
    seed: int = Field(1, ge=0, lt=SEEDS, description="every random choice follows from it")
    data: DataConfig
    population: PopulationConfig = PopulationConfig()
    model: ModelConfig
    federation: FederationConfig = FederationConfig()
    training: TrainingConfig = TrainingConfig()
    personalization: TrainingConfig = TrainingConfig()
    privacy: PrivacyConfig = PrivacyConfig()
    aggregation: AggregationConfig = AggregationConfig()
    edge: EdgeConfig = EdgeConfig()
    attacks: AttackConfig = AttackConfig()
    study: StudyConfig = StudyConfig()
    tampering: TamperingConfig | None = Field(None, description="clients that poison their training data")

    @property
    def protected(self) -> bool:
        """Whether anything keeps anybody from seeing what the clients send."""
        return self.aggregation.protocol != "none" or self.noised

    @property
    def noised(self) -> bool:
        """Whether anybody is promised differential privacy."""
        return self.privacy.record is not None or self.privacy.client is not None

    @property
    def fingerprint(self) -> str:
        """Eight hexadecimal digits that differ when any setting does; where the data's files lie is none."""
        return self.sha256[:8]

    @property
    def sha256(self) -> str:
        """SHA-256 of all settings; where the data's files lie is none."""
        canonical = json.dumps(self.model_dump(mode="json", exclude={"data": {"folder"}}), sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()


def load_scenario(path: Path, overrides: Iterable[str] = ()) -> Scenario:
    """Read and check a scenario file, with `key=value` overrides applied first.

    Raises:
        InputError: the file cannot be read or parsed, or with every fault in its values at once.
    """
    values = _read(path)
    for override in overrides:
        _apply(values, override)
    refuse_depth(values, str(path))
    try:
        scenario = Scenario.model_validate(values)
    except ValidationError as error:
        raise _to_mend(path, {_explain(fault) for fault in error.errors()}) from error
    if faults := {*_study_faults(scenario), *_variant_faults(scenario)}:
        raise _to_mend(path, faults)
    return _placed(scenario, path.parent)


def _placed(scenario: Scenario, folder: Path) -> Scenario:
    """With the data's place made absolute, so that a run can be attacked from anywhere; variants' too."""
    variants = {
        name: {**changes, "data": place(changes["data"], folder)} if _tables(changes.get("data")) else changes
        for name, changes in scenario.study.variants.items()
    }
    data = DataConfig.model_validate(place(scenario.data.model_dump(exclude_none=True), folder))
    study = scenario.study.model_copy(update={"variants": variants})
    return scenario.model_copy(update={"data": data, "study": study})


def changed(scenario: Scenario, changes: dict[str, Any]) -> Scenario:
    """The scenario with some settings changed: tables are merged, other values replaced.

    Raises:
        ValidationError: what comes out is no scenario.
    """
    return Scenario.model_validate(_merged(scenario.model_dump(mode="json", exclude_none=True), changes))


def _merged(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    both = {key: _merged(values[key], new) for key, new in changes.items() if _tables(values.get(key), new)}
    return {**values, **changes, **both}


def _tables(*values: object) -> bool:
    return all(isinstance(value, dict) for value in values)


def _study_faults(scenario: Scenario) -> Iterator[str]:
    """What its runs could not be called, or seeded with."""
    name, study = scenario.name, scenario.study
    for variant in study.variants:
        if (length := len(name) + 1 + len(variant)) > LONGEST_NAME:
            yield (
                f"study.variants.{shown(variant, LONGEST)}: its runs would be called NAME.VARIANT, {length} letters; "
                f"{LONGEST_NAME} are allowed. Shorten `name` (now {len(name)} letters) or the variant's"
            )
    if (last := scenario.seed + study.seeds - 1) >= SEEDS:
        yield f"study.seeds = {study.seeds}: the last seed would be {last}; {SEEDS - 1} is the largest. Lower `seed`"


def _variant_faults(scenario: Scenario) -> Iterator[str]:
    for name, changes in scenario.study.variants.items():
        try:
            changed(scenario, changes)
        except ValidationError as error:
            yield from (f"study.variants.{name}: {_explain(fault)}" for fault in error.errors())


def _to_mend(path: Path, faults: set[str]) -> InputError:
    count = f"{len(faults)} thing{'s' if len(faults) > 1 else ''} to mend"
    told = sorted(faults)[:MOST_TOLD] + ([f"and {len(faults) - MOST_TOLD:,} more"] if len(faults) > MOST_TOLD else [])
    return InputError(f"{path}: {count}\n" + "\n".join(f"  {fault}" for fault in told))


def _read(path: Path) -> dict[str, Any]:
    near = difflib.get_close_matches(path.stem[:LONGEST], [p.stem for p in shipped_scenarios()], 1)
    hint = f"did you mean scenarios/{near[0]}.toml? " if near else ""
    return read_toml(path, str(path), f"{hint}`seepage list scenarios` shows those that come along")


def _apply(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    path = key.strip().split(".")
    if not equals or not all(path):
        raise InputError(f"--set {override}: write it as table.key=value, e.g. --set federation.rounds=5")
    for table in path[:-1]:
        values = values.setdefault(table, {})
        if not isinstance(values, dict):
            raise InputError(f"--set {override}: {table} is a value, not a table")
    values[path[-1]] = _toml_value(text.strip())


def _toml_value(text: str) -> Any:  # noqa: ANN401  # whatever TOML can hold; pydantic checks it next
    """A TOML value, or the bare text where it is none: `--set model.name=mlp` needs no quotes."""
    try:
        return parse(f"value = {text}")["value"]
    except ValueError:
        return text


_KINDS = {  # what a value should have been, in TOML's words
    **dict.fromkeys(("tuple_type", "list_type"), 'should be a list, such as ["a", "b"]'),
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), "should be a table of settings"),
}


def _explain(fault: ErrorDetails) -> str:
    """One line: the field, its value, what is wrong or allowed, and the nearest right name."""
    field = ".".join(shown(str(part), LONGEST) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        known = _known_keys(fault["loc"][:-1])
        return f"{field}: unknown key.{_nearest(str(fault['loc'][-1]), known)} Known here: {', '.join(known)}"
    if fault["type"] == "missing":
        return f"{field}: missing, and it has no default"
    message = fault["msg"].removeprefix("Value error, ").removeprefix("Input ").removeprefix("String ").rstrip(".")
    message = message.removeprefix("Tuple ").replace(" after validation", "")
    said = _KINDS.get(fault["type"]) or shown(message, 10 * LONGEST)
    return f"{field} = {repeated(fault['input'])}: {said}.{_nearest_allowed(fault['input'], message)}"


def _nearest_allowed(value: object, message: str) -> str:
    """The nearest name in the message, which lists what is allowed and quotes what is not."""
    texts = [text for text in (value if isinstance(value, list | tuple) else [value]) if isinstance(text, str)]
    odd = [text for text in texts if repr(text) in message] or texts[:1]
    names = set(re.findall(r"[a-z][a-z0-9:_-]+", message)) - set(odd)
    return _nearest(odd[0][:LONGEST], sorted(names)) if odd else ""


def _known_keys(table: tuple[int | str, ...]) -> list[str]:
    model: type[BaseModel] | None = Scenario
    for part in table:
        model = table_of(model.model_fields[str(part)].annotation) if model else None
    return list(model.model_fields) if model else []


def table_of(annotation: Any) -> type[BaseModel] | None:  # noqa: ANN401  # whatever stands behind a field's colon
    """The model behind a setting that is a table of its own, also where it may be left out; None for a plain value."""
    kinds = typing.get_args(annotation) or (annotation,)
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f" Did you mean {near[0]}?" if near else ""


def shipped_scenarios() -> Iterator[Path]:
    """The scenario files that come with the product, by name."""
    yield from sorted((Path(__file__).parent.parent / "scenarios").glob("*.toml"))
