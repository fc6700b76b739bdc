"""The words for a server that deviates from the protocol: what it gained, and who could have noticed."""

from __future__ import annotations

from collections.abc import Iterator

from sim.report import words
from sim.results import AttackResult, Detection, ProbeResult, Results


def sentences(results: Results) -> Iterator[str]:
    """One per attack for which the server deviates, in plain words."""
    for probe in results.probes:
        row = next((row for row in results.attacks if row.attack == probe.attack), None)
        if row is not None:
            yield f"{_gained(probe, row)} {_needs(probe)} {_worth(probe)}"


def noticed(found: Detection) -> str:
    """Who would have noticed."""
    return f"{found.noticed} of {found.clients}"


def false_alarms(found: Detection) -> str:
    """How often the check alarms at an honest broadcast."""
    return words.percent(found.false_alarms)


def checks(results: Results) -> list[str]:
    """The checks, in the order of the table's columns."""
    return [found.check for found in results.probes[0].detections] if results.probes else []


def _gained(probe: ProbeResult, row: AttackResult) -> str:
    rounds = "one round" if probe.rounds == 1 else f"{probe.rounds} rounds"
    figures = f"AUC {words.auc(row)}{_of_covered(probe, row)}"
    return f"A server that sends what it likes has, with {probe.attack} in {rounds}, {figures}."


def _of_covered(probe: ProbeResult, row: AttackResult) -> str:
    """The figure on what the attack is about, where that is not everything."""
    if probe.covered_auc is None or probe.covered_auc_ci is None or probe.covered >= row.members + row.nonmembers:
        return ""
    low, high = probe.covered_auc_ci
    return f"; on the {probe.covered:,} records that this tells about, {probe.covered_auc:.2f} [{low:.2f}, {high:.2f}]"


def _needs(probe: ProbeResult) -> str:
    best = max(probe.detections, key=lambda found: (found.noticed, -found.false_alarms))
    needs = "It needs a deviation from the protocol"
    if not best.noticed:
        return f"{needs} that no client would have seen by any of {len(probe.detections)} checks."
    cost = f", which alarms at {false_alarms(best)} of honest broadcasts" if best.false_alarms else ""
    return f"{needs}: {noticed(best)} clients would have seen it by one check ({best.check}){cost}."


def _worth(probe: ProbeResult) -> str:
    said = f"What it sends is right about {words.percent(probe.accuracy_sent)} of held-out records"
    said += f" and not {words.percent(probe.accuracy)}"
    if probe.personal is None or probe.personal_made is None:
        return f"{said}."
    return f"{said}, and personal models made of it about {words.percent(probe.personal_made)} and not " + (
        f"{words.percent(probe.personal)}."
    )
