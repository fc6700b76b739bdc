"""Everything that the clients' records touch and that somebody gets to see: the list that every budget walks through.

A release is covered by noise that is accounted, depends on no record, or is neither. In the last case nothing is
promised to whoever sees it: epsilon is infinite, whatever noise there is elsewhere. A new way out of a client, or out
of the file that is shipped, belongs here before it is built.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sim.scenario import Scenario

SERVERS = ("server", "aggregator", "malicious-server")
HOLDERS = ("query", "device")  # of the personal model: by its answers, or as a file
ALL = (*SERVERS, "peer", "global-user", *HOLDERS)
WHO_GETS_FILES = ("malicious-server", "peer", "global-user", *HOLDERS)  # the first if it queries a personal model

Fault = Callable[[Scenario], str]


def _none(scenario: Scenario) -> str:  # noqa: ARG001  # as the others
    return ""


@dataclass(frozen=True, slots=True)
class Release:
    """One thing that is seen. `unaccounted` says why nothing can be promised where it is seen, or nothing."""

    what: str
    seen_by: tuple[str, ...]
    covered: str  # by what, where it is
    unaccounted: Fault = _none


def uncovered(scenario: Scenario, vantage: str) -> Iterator[str]:
    """Why nothing can be promised against this vantage, whatever the noise; empty if all that it sees is covered."""
    for release in RELEASES:
        if vantage in release.seen_by and (why := release.unaccounted(scenario)):
            yield why


def _central(scenario: Scenario) -> bool:
    return scenario.privacy.client is not None and scenario.privacy.client.where == "central"


def _before_the_noise(scenario: Scenario) -> str:
    if _central(scenario) and scenario.privacy.record is None:
        return "central noise is added by the server, so it is no protection from the server"
    return ""


def _opened_by_a_client(scenario: Scenario) -> str:
    if _central(scenario) and scenario.privacy.record is None and scenario.aggregation.protocol == "ckks":
        return (
            "under ckks every client holds the key and one of them opens the sum, before the server adds its noise: "
            'use aggregation.protocol = "secagg"'
        )
    return ""


def _alone_in_a_sum(scenario: Scenario) -> str:
    client = scenario.privacy.client
    if scenario.privacy.record is None and client is not None and client.where == "distributed":
        return (
            "a server that deviates can keep the other clients' noise out of a sum, but for two of them, and nothing "
            "here bounds how often"
        )
    return ""


def _calibration(scenario: Scenario) -> str:
    if scenario.edge.calibration == "population":
        return ""
    return (
        f'edge.calibration = "{scenario.edge.calibration}": the clients\' own records set the ranges of the shipped '
        'file, and no noise covers them; use edge.calibration = "population"'
    )


def _head(scenario: Scenario) -> str:
    if scenario.edge.head is None:
        return ""
    return "edge.head: devices train their last layer on their own records without noise"


def _personal(scenario: Scenario) -> str:
    if scenario.privacy.record is None:
        return "a personal model is trained on its client's own records after the noise, and without any"
    return ""


NOISE = "noise of DP-SGD, local noise, or shares of distributed noise"

RELEASES = (
    Release("what a client sends back in a round: its update, alone or masked", SERVERS, NOISE, _before_the_noise),
    Release("the opened sum of a round", (*SERVERS, "peer"), NOISE, _opened_by_a_client),
    Release("the opened sum of a round that a server has put together", ("malicious-server",), NOISE, _alone_in_a_sum),
    Release("the global model of a round", ALL, f"{NOISE}; or central noise"),
    Release("the adaptive clipping norm", ALL, "noise on the count of short contributions, out of the same budget"),
    Release("who took part in a round", ALL, "drawn without regard to records; amplifies only where it stays hidden"),
    Release("that a round was refused", ALL, "hangs on numbers of clients; where those are hidden, too rare to matter"),
    Release("a client's weight and what it reports", SERVERS, "every client weighs 1 and reports nothing"),
    Release(
        "that a client failed, and its words", SERVERS, "an update of zero; of DP-SGD, follows from noised weights"
    ),
    Release("that personalising failed", SERVERS, "it keeps the global model then, and says nothing of it"),
    Release(
        "that training ended early", ALL, "max_epsilon counts public numbers; no loss, accuracy or failure ends it"
    ),
    Release("the first weights, and the shape of records", ALL, "the seed and the data's card"),
    Release("the scaling of features", ALL, "constants of the loader, or of the attacker's population"),
    Release("the ranges of quantised files", WHO_GETS_FILES, "public records", _calibration),
    Release("the personal model", HOLDERS, "noise of DP-SGD in personalisation", _personal),
    Release("the last layer trained on a device", HOLDERS, "nothing: refused with [privacy.record]", _head),
)
"""Learning curve, scores, report and model card are the study's own: seen from no vantage and covered by no promise."""
