"""A made-up run whose figures are all computed from its scores, so that no number on the page contradicts another."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import norm

from sim.budgets import budgets
from sim.findings import findings
from sim.noise import planned
from sim.report import words
from sim.results import Cost, Protection, Refusal, Results
from sim.scenario import Scenario
from sim.score import auc, auc_difference, roc
from sim.verdict import Tried, adjusted, by_record, luck
from tests.sim.conftest import TINY

PEOPLE, DEVICES_EACH, PER_CLIENT = 14, 2, 90
SCRIPT_NAME = "<script>alert('client')</script> & <b>son</b>"

# attack, vantage, target, precision, output, how far members' scores lie above others' (0: no leak)
ATTACKS = (
    ("cosine", "server", "global", "float32", None, 0.35),
    ("loss-series", "server", "global", "float32", None, 0.22),
    ("loss", "global-user", "global", "float32", "logits", 0.10),
    ("rmia", "global-user", "global", "float32", "logits", 0.16),
    ("loss", "query", "personal", "float32", "logits", 0.34),
    ("rmia", "query", "personal", "float32", "logits", 0.50),
    ("lira", "query", "personal", "float32", "logits", 0.42),
    ("loss", "query", "personal", "int8", "probabilities", 0.33),
    ("rmia", "query", "personal", "int8", "probabilities", 0.49),
    ("lira", "query", "personal", "int8", "probabilities", 0.41),
    ("loss", "global-user", "global", "int8", "probabilities", 0.10),
)

MODELS = {
    (vantage, precision): f"{target} {precision}"
    for vantage, target in (("global-user", "global"), ("query", "personal"))
    for precision in ("float32", "int8")
}


@dataclass(frozen=True)
class Run:
    """What the report is written from."""

    results: Results
    scores: pa.Table


def auc_interval(value: float, members: int, nonmembers: int) -> tuple[float, float]:
    """Hanley and McNeil's standard error."""
    q1, q2 = value / (2 - value), 2 * value * value / (1 + value)
    spread = value * (1 - value) + (members - 1) * (q1 - value**2) + (nonmembers - 1) * (q2 - value**2)
    half = 1.96 * np.sqrt(spread / (members * nonmembers))
    return max(0.0, value - half), min(1.0, value + half)


def rate_interval(rate: float, count: int) -> tuple[float, float]:
    """Wilson's."""
    z = norm.ppf(0.975)
    middle = (rate + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * np.sqrt(rate * (1 - rate) / count + z * z / (4 * count * count))
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


def tpr_cell(scores, member, target):
    nonmembers = int((~member).sum())
    if nonmembers < 10 / target:
        return None
    fpr, tpr, _ = roc(scores, member)
    best = int(np.flatnonzero(fpr <= target)[-1])
    return {
        "tpr": float(tpr[best]),
        "ci": rate_interval(float(tpr[best]), int(member.sum())),
        "realised_fpr": float(fpr[best]),
    }


def candidates(rng):
    """Client, person, label, member, slice of every candidate record; half of each client's were members."""
    clients = np.repeat(np.arange(PEOPLE * DEVICES_EACH), PER_CLIENT)
    return {
        "client": clients,
        "person": np.array([f"person {c // DEVICES_EACH + 1:02d}" for c in clients]),
        "record": np.arange(len(clients)),
        "label": rng.integers(0, 5, len(clients)),
        "slice": np.array(["phone" if c % DEVICES_EACH else "watch" for c in clients]),
        "member": np.tile(np.arange(PER_CLIENT) % 2 == 0, PEOPLE * DEVICES_EACH),
    }


def draw_scores(who, rng):
    """One score column per row of ATTACKS; int8 scores are the float ones, rounded."""
    ease = rng.normal(0, 0.25, PEOPLE)[np.array([int(p.split()[1]) - 1 for p in who["person"]])]
    columns, by_attack = [], {}
    for attack, vantage, _, precision, _, lift in ATTACKS:
        if precision == "int8":
            base = by_attack[attack, vantage]
            columns.append(np.round((base + rng.normal(0, 0.1, len(base))) * 64) / 64)
            continue
        noise = rng.normal(0, 1, len(ease))
        columns.append(noise + who["member"] * lift * (1 + ease))
        by_attack[attack, vantage] = columns[-1]
    return columns


def score_table(who, columns):
    parts = []
    for (attack, vantage, target, precision, output, _), scores in zip(ATTACKS, columns, strict=True):
        count = len(scores)
        named = {"attack": attack, "vantage": vantage, "target": target, "precision": precision, "output": output}
        fixed = {name: pa.array([value] * count, pa.string()) for name, value in named.items()}
        parts.append(pa.table({**fixed, **{k: pa.array(v) for k, v in who.items()}, "score": pa.array(scores)}))
    return pa.concat_tables(parts)


def attack_rows(who, columns):
    member, rows = who["member"], []
    for (attack, vantage, target, precision, output, _), scores in zip(ATTACKS, columns, strict=True):
        value, low = float(auc(scores, member)), tpr_cell(scores, member, 0.01)
        own = None
        if low is not None and vantage != "server":
            realised = low["realised_fpr"] * 1.7
            own = {
                "target_fpr": 0.01,
                "tpr": low["tpr"],
                "tpr_ci": low["ci"],
                "realised_fpr": realised,
                "realised_fpr_ci": rate_interval(realised, int((~member).sum())),
            }
        rows.append(
            {
                "attack": attack,
                "vantage": vantage,
                "target": target,
                "precision": precision,
                "output": output,
                "auc": value,
                "auc_ci": auc_interval(value, int(member.sum()), int((~member).sum())),
                "auc_ci_adjusted": (0.0, 1.0),
                "tpr_at_fpr": {"0.01": tpr_cell(scores, member, 0.01), "0.001": tpr_cell(scores, member, 0.001)},
                "tpr_low_adjusted": None,
                "own_threshold": own,
                "members": int(member.sum()),
                "nonmembers": int((~member).sum()),
                "queries_per_record": 0.0 if vantage == "server" else 1.0,
                "references": 4 if attack in ("rmia", "lira") else 0,
                "cpu_seconds": 1.5,
            }
        )
    return rows


def comparison_rows(who, columns):
    found = {
        (attack, vantage, precision): scores
        for (attack, vantage, _, precision, *_), scores in zip(ATTACKS, columns, strict=True)
    }
    sides = (
        ("personalising", ("global-user", "float32"), ("query", "float32")),
        ("rounding", ("global-user", "float32"), ("global-user", "int8")),
        ("rounding", ("query", "float32"), ("query", "int8")),
    )
    rows = []
    for question, before, after in sides:
        for attack in ("loss", "rmia", "lira"):
            if (attack, *before) in found and (attack, *after) in found:
                scores = found[attack, *before], found[attack, *after]
                one = auc_difference(*scores, who["member"], who["person"], np.random.default_rng(3), bootstrap=200)
                rows.append(
                    {
                        "attack": attack,
                        "question": question,
                        "before": MODELS[before],
                        "after": MODELS[after],
                        "auc_difference": one.difference,
                        "ci": one.ci,
                    }
                )
    return rows


def exposure(scores, member, mask):
    value = float(auc(scores[mask], member[mask]))
    members, nonmembers = int(member[mask].sum()), int((~member[mask]).sum())
    return {
        "exposure": value,
        "exposure_ci": auc_interval(value, members, nonmembers),
        "members": members,
        "nonmembers": nonmembers,
    }


def client_rows(who, scores, rng):
    rows = []
    for client in range(PEOPLE * DEVICES_EACH):
        mask, person = who["client"] == client, f"person {client // DEVICES_EACH + 1:02d}"
        accuracy = float(rng.uniform(0.6, 0.9))
        rows.append(
            {
                "client": client,
                "name": SCRIPT_NAME if client == 3 else f"{person}, {'phone' if client % 2 else 'watch'}",
                "person": person,
                "participates": True,
                "accuracy_global": accuracy,
                "accuracy_personal": min(1.0, accuracy + 0.1),
                "accuracy_device": min(1.0, accuracy + 0.09),
                **exposure(scores, who["member"], mask),
            }
        )
    return rows


def person_rows(who, scores):
    return [
        {"person": person, "clients": DEVICES_EACH, **exposure(scores, who["member"], who["person"] == person)}
        for person in sorted(set(who["person"].tolist()))
    ]


def utility(accuracy, worst, member):
    return {
        "accuracy": accuracy,
        "accuracy_ci": (accuracy - 0.03, accuracy + 0.028),
        "worst_client": worst,
        "member_accuracy": member,
    }


def edge_rows():
    rows = [("global", None)] + [("personal", client) for client in range(PEOPLE * DEVICES_EACH)]
    return [
        {
            "artifact": "global-int8.tflite" if client is None else f"personal-{client:02d}-int8.tflite",
            "target": target,
            "client": client,
            "device": "nano-33-ble-sense",
            "bytes": 21_344,
            "arena_bytes": 11_808,
            "fits": True,
            "top1_agreement": 0.989 if client is None else 0.97 + (client % 4) * 0.008,
            "max_logit_error": 0.041,
            "rows_compared": 44,
            "litert_rows_differing": 2 if client == 5 else 0,
            "litert_labels_differing": 0,
        }
        for target, client in rows
    ]


def document(attacks, comparisons, clients, people, **changes):
    """The results as plain data; `changes` replace whole top-level parts."""
    base = {
        "scenario": "har-personal",
        "title": "Phones and watches that learn their owner's movements",
        "seed": 7,
        "verdict": "none shown",
        "summary": "",
        "versions": {"seepage": "0.1.0", "python": "3.11.7", "torch": "2.13.0", "flwr": "1.41.0"},
        "timing": {"data": 1.2, "federation": 41.0, "personalisation": 6.3, "attacks": 22.5, "edge": 14.9},
        "data": {
            "source": "har",
            "title": "Human activity from phones and watches",
            "licence": "CC BY 4.0",
            "synthetic": False,
            "records": PEOPLE * DEVICES_EACH * PER_CLIENT,
            "classes": ["walk", "run", "sit", "stand", "stairs"],
            "clients": PEOPLE * DEVICES_EACH,
            "people": PEOPLE,
            "natural": True,
            "names_people": True,
        },
        "population": {
            "who": "other-people",
            "people": 6,
            "records": 900,
            "assumption": "The attacker holds 900 labelled records of 6 other people who took no part.",
        },
        "model": {"name": "cnn", "parameters": 5_221},
        "rounds": [
            {
                "round": r,
                "clients": list(range(14)),
                "accuracy": float(0.78 - 0.55 * np.exp(-r / 6)),
                "dropped": {},
                "refused": "",
            }
            for r in range(1, 26)
        ],
        "utility": {
            "global": utility(0.776, 0.52, 0.79),
            "personal": utility(0.929, 0.77, 0.97),
            "device": utility(0.924, 0.77, 0.962),
            "commonest_class": 0.23,
        },
        "budgets": [
            {
                "unit": unit,
                "vantage": "every vantage",
                "epsilon": "inf",
                "delta": None,
                "accountant": None,
                "adjacency": None,
                "per_client_max": None,
                "why": "no noise is added",
            }
            for unit in ("record", "client")
        ],
        "protection": None,
        "attacks": attacks,
        "refused": [],
        "comparisons": comparisons,
        "controls": {
            "blind": {"attack": "classifier on the records alone", "auc": 0.507, "auc_ci": (0.474, 0.54)},
            "stranger": {"attack": "rmia", "auc": 0.492, "auc_ci": (0.459, 0.525)},
        },
        "exposure_attack": {
            "attack": "rmia",
            "vantage": "query",
            "target": "personal",
            "precision": "int8",
            "output": "probabilities",
        },
        "clients": clients,
        "people": people,
        "calibration": {
            "source": "members",
            "records": 64,
            "description": "64 training records of each client set the ranges of its own model",
        },
        "edge": edge_rows(),
        "findings": [],
    }
    return {**base, **changes}


@cache
def make_run() -> Run:
    rng = np.random.default_rng(20)
    who = candidates(rng)
    columns = draw_scores(who, rng)
    exposed = columns[8]  # rmia on the personal int8 models
    clients, people = client_rows(who, exposed, rng), person_rows(who, exposed)
    data = document(attack_rows(who, columns), comparison_rows(who, columns), clients, people)
    results = with_findings(counted(Results.model_validate(data), who, columns))
    return Run(results, score_table(who, columns))


def counted(results: Results, who, columns) -> Results:
    """The rows with what holds for all of them at once."""
    everybody = np.ones(len(who["member"]), dtype=bool)
    tried = [Tried(scores, who["member"], everybody) for scores in columns]
    found = adjusted(results.attacks, luck(tried, by_record(who["client"]), np.random.default_rng(1), deals=199))
    rows = [
        row.model_copy(update={"auc_ci_adjusted": each.auc_ci, "tpr_low_adjusted": each.tpr_low})
        for row, each in zip(results.attacks, found, strict=True)
    ]
    return results.model_copy(update={"attacks": rows})


def with_findings(results: Results) -> Results:
    said = {"verdict": words.verdict(results), "summary": words.summary(results), "findings": findings(results)}
    return results.model_copy(update=said)


@pytest.fixture(scope="session")
def run() -> Run:
    return make_run()


def central_noise() -> Scenario:
    """A small scenario whose server adds noise, and keeps it from everybody but itself."""
    return Scenario.model_validate(
        tomllib.loads(TINY)
        | {
            "federation": {"rounds": 3, "participation": 0.5, "sampling": "poisson"},
            "privacy": {"client": {"where": "central", "noise_multiplier": 2.0}},
        }
    )


@cache
def make_protected() -> Results:
    """The made-up run as if its server had added noise: promises as accounted, and a run with some bad luck."""
    scenario, plain = central_noise(), make_run().results
    bad_luck = {
        2: {"dropped": {"5": "no reply came", "7": "RuntimeError: out of memory"}},
        3: {"clients": [], "refused": "no client was sampled in round 3"},
        9: {"clients": [], "refused": "no client was sampled in round 9", "dropped": {"0": "no reply came"}},
    }
    reason = "attack 'source' needs updates of single clients, vantage 'server' has no updates of single clients"
    where = {"vantage": "server", "target": "global", "precision": "float32", "output": None, "reason": reason}
    found = plain.model_copy(
        update={
            "budgets": budgets(scenario, planned(scenario)),
            "rounds": [each.model_copy(update=bad_luck.get(each.round, {})) for each in plain.rounds],
            "refused": [Refusal(attack="source", **where), Refusal(attack="source", **where)],
            "protection": Protection(
                aggregation="none",
                record_noise_multiplier=None,
                client_noise_multiplier=2.0,
                client_noise="central",
                stopped="after round 25: one more would pass max_epsilon",
                cost=[
                    Cost(model="global", unprotected=0.8071, difference=-0.0311, ci=(-0.0502, -0.0119)),
                    Cost(model="personal", unprotected=0.925, difference=0.004, ci=(-0.002, 0.0099)),
                ],
            ),
        }
    )
    return with_findings(found)


def make_summed() -> Results:
    """The made-up run under secure aggregation without noise: the server sees sums, and nothing is promised."""
    protected = make_protected()
    rows = [
        row.model_copy(update={"vantage": "aggregator"}) if row.vantage == "server" else row
        for row in protected.attacks
        if row.attack != "cosine"
    ]
    protection = protected.protection.model_copy(
        update={"aggregation": "secagg", "client_noise": None, "client_noise_multiplier": None, "stopped": ""}
    )
    found = protected.model_copy(
        update={"attacks": rows, "protection": protection, "budgets": make_run().results.budgets}
    )
    return with_findings(found)
