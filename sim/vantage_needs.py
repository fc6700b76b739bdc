"""What each vantage of a scenario will have of what attacks need, known before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator

from attacks.registry import ATTACKS
from sim.results import Vantage
from sim.scenario import Scenario

_ALWAYS = {"candidates", "model architecture"}
_ROUNDS = {*_ALWAYS, "training rounds", "client that the candidates belong to"}
_USER = {*_ALWAYS, "model to query", "confidences", "reference models", "weights of reference models"}
_QUERY = {*_USER, "references tuned from the global model", "model before personalisation"}
_SINGLE = "updates of single clients"


def available(scenario: Scenario) -> dict[Vantage, set[str]]:
    """For each vantage, those of `attacks.attack.NEEDS` that it has in a run of this scenario."""
    summed = scenario.aggregation.protocol != "none"
    whoever: Vantage = "aggregator" if summed else "server"
    return {
        whoever: _ROUNDS if summed else {*_ROUNDS, _SINGLE},
        "global-user": _USER,
        "query": _QUERY,
        "device": {*_QUERY, "file of the model", "file of the global model"},
        "malicious-server": {*_ROUNDS, "broadcasts of its own making"},
    }


def untriable(scenario: Scenario) -> Iterator[str]:
    """One fault where no attack that the scenario names can be tried anywhere, with what each of them lacks."""
    seen = available(scenario)
    named = [ATTACKS[name] for name in scenario.attacks.names if name in ATTACKS]
    lacking = {
        each.name: [need for need in each.needs if not any(need in has for has in seen.values())] for each in named
    }
    if any(set(each.needs) <= has for each in named for has in seen.values()):
        return
    reasons = "; ".join(
        f"{name} needs {', '.join(needs) or 'more than any one vantage has'}" for name, needs in lacking.items()
    )
    under = f' under aggregation.protocol = "{scenario.aggregation.protocol}"' if "aggregator" in seen else ""
    yield (
        f"attacks.names = {', '.join(lacking)}: none of them can be tried{under} ({reasons}). Name an attack that can "
        "as well, such as loss, rmia or loss-series"
    )
