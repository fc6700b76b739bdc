"""Every setting at its own ends: whatever a scenario says is accepted, or refused with one message, and never breaks.

The cases are made from the settings themselves, so a new setting is tried without a new test.
"""

import json
import typing

import numpy as np
import pytest

from clients import accounting
from sim.budgets import plan
from sim.errors import InputError
from sim.preflight import preflight
from sim.scenario import Scenario, load_scenario, table_of
from sim.study.plan import parts

BASE = """
name = "ends"
[data]
source = "npz:mine.npz"
partition = "iid"
clients = 4
[population]
people = 2
[model]
name = "mlp"
width = 4
[federation]
rounds = 2
[attacks]
names = ["loss"]
references = 1
"""
# What makes a setting count, where the base leaves it out.
BESIDE = {
    "data.alpha": ["data.partition=dirichlet"],
    "data.shards_per_client": ["data.partition=shards"],
    "data.purchase": [
        "data.source=purchase-like",
        *(f"data.purchase.{small}" for small in ("records=300", "products=40", "classes=2", "styles=3")),
    ],
    "population.share": ["population.who=same-people"],
    "privacy.record": ["privacy.record.noise_multiplier=1.0"],
    "privacy.record.epsilon": [],
    "privacy.client": ["privacy.client.noise_multiplier=1.0", "privacy.client.where=local"],
    "privacy.client.epsilon": ["privacy.client.where=local"],
    "aggregation": ["aggregation.protocol=secagg"],
    "attacks.probes": ['attacks.names=["loss","gradient-ascent","privacy-backdoor"]'],
    "tampering": ["tampering.how=label-flip"],
    "edge.head": ["edge.head.epochs=2"],
}
TEXTS = [
    "",
    " ",
    "x" * 100_000,
    "a/b",
    "../..",
    "~nobody",
    "\x1b[2J\x07",
    "a\nb",
    "nul\0",
    "\u202e",
    "[/red]",
    ":bomb:",
    "é" * 300,
]
WRONG = [True, "yes", [], {}, [1], {"a": {"b": 1}}, 1.5]
HUGE = [2**31, 2**63 - 1, 2**63, 10**40]


SLOW = {
    (name, str(end - less))
    for name, end in (("federation.rounds", 100_000), ("data.clients", 10_000))
    for less in (0, 1)
}
SLOW |= {("population.people", end) for end in ("100000", "99999")}


def settings(model=Scenario, prefix=""):
    """Every setting that is no table: its dotted name and its field."""
    for name, field in model.model_fields.items():
        table = table_of(field.annotation)
        if table:
            yield from settings(table, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


FIELDS = dict(settings())
TABLES = sorted({name.rpartition(".")[0] for name in FIELDS})


def bounds(field):
    return [
        getattr(each, name)
        for each in field.metadata
        for name in ("ge", "gt", "le", "lt")
        if getattr(each, name, None) is not None
    ]


def kinds(annotation):
    """The plain types behind an annotation, options taken apart."""
    return {
        kind
        for each in typing.get_args(annotation) or (annotation,)
        for kind in (kinds(each) if typing.get_args(each) and typing.get_origin(each) is not dict else {each})
    }


def values(field):
    """Ends, just outside and inside of them, and what no field takes."""
    found = kinds(field.annotation)
    yield from WRONG
    if found & {int, float}:
        yield from (0, -1, 1, 2, *HUGE, float("inf"), float("-inf"), float("nan"))
        for end in bounds(field):
            yield from (end, end + 1, end - 1)
    if float in found:
        yield from (1e-300, 5e-324, 1e308, -0.0, 1e-9, 1e9)
        for end in bounds(field):
            yield from (np.nextafter(end, np.inf), np.nextafter(end, -np.inf))
    if not found & {int, float}:
        yield from TEXTS
    if typing.get_origin(field.annotation) is tuple:
        yield from ([text] for text in TEXTS)
        one = list(field.default)[:1]
        yield from (one, one * 2, one * 3_000, [f"v{i}" for i in range(3_000)])
    options = [value for kind in found if isinstance(kind, str) for value in [kind]]
    yield from options


def beside(name):
    fitting = [prefix for prefix in BESIDE if name == prefix or name.startswith(f"{prefix}.")]
    return BESIDE[max(fitting, key=len)] if fitting else []


def toml(value):
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return "nan" if np.isnan(value) else repr(float(value))
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value).replace("\\u0000", "\\u0000") if isinstance(value, str) else str(value)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ends")
    rng = np.random.default_rng(0)
    np.savez(folder / "mine.npz", x=rng.normal(size=(120, 6)).astype(np.float32), y=np.arange(120) % 3)
    (folder / "ends.toml").write_text(BASE)
    return folder / "ends.toml"


def outcome(file, *sets):
    """0 or 2, as `seepage budget` would end; anything else is raised."""
    try:
        everything = parts(load_scenario(file, sets))
        for part in (everything[0], everything[-1]):
            preflight(part.scenario)
            plan(part.scenario)
    except InputError as error:
        assert str(error) and len(str(error)) < 5_000, sets
        return 2
    return 0


COSTLY = ("privacy.record", "privacy.client", "federation", "data.purchase")  # seconds each: noise is solved for


@pytest.mark.parametrize(
    "table", [pytest.param(table, marks=pytest.mark.slow) if table in COSTLY else table for table in TABLES]
)
def test_every_setting_at_its_ends_is_accepted_or_refused(table, file, monkeypatch):
    monkeypatch.setattr(accounting, "VACUOUS", 0)  # the Renyi bound will do: no epsilon is looked at here
    broken = []
    for name, field in FIELDS.items():
        if name.rpartition(".")[0] != table:
            continue
        for value in values(field):
            if (name, str(value)) in SLOW:
                continue
            try:
                assert outcome(file, *beside(name), f"{name}={toml(value)}") in (0, 2)
            except Exception as error:  # noqa: BLE001  # all of them are told at once
                broken.append(f"{name} = {str(value)[:40]!r}: {type(error).__name__}: {str(error)[:150]}")
    assert not broken, "\n".join(broken)
