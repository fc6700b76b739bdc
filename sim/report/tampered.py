"""The words for what tampering clients achieved."""

from __future__ import annotations

from collections.abc import Iterator

from sim.report import words
from sim.results import Amplification, AttackRow, Change, Results, TamperingOutcome, TamperingResult

NO_FIGURE = "-"
HOW = {
    "label-flip": "label flip",
    "backdoor": "backdoor",
    "truth-serum": "truth serum",
}
COMBINE = {
    "mean": "their weighted mean",
    "median": "the median of each weight",
    "trimmed-mean": "each weight's mean without the largest and smallest values",
    "krum": "the one update nearest to its neighbours (Krum)",
    "multi-krum": "the mean of those nearest to their neighbours (Multi-Krum)",
    "bulyan": "each weight's mean around the median of those that Krum chooses (Bulyan)",
}


def sentences(results: Results) -> Iterator[str]:
    """What tampering achieved, in plain words."""
    found = results.tampering
    if found is None:
        return
    yield _set_up(results, found)
    if found.how != "truth-serum":
        yield _success(found)
        yield _personal(found)
    if found.amplification:
        yield _amplified(found.amplification)
    yield _accuracy(found)


def model(row: TamperingOutcome) -> str:
    """Which model is meant, such as "personal int8"."""
    return f"{row.target} {row.precision}"


def share(row: TamperingOutcome) -> str:
    """How often the model answers as the tampering clients want, with its interval."""
    return f"{words.percent(row.success)} {words.percent_interval(row.success_ci)}"


def change(row: Change | None) -> str:
    """A difference to the run without tampering, with its interval."""
    if row is None:
        return NO_FIGURE
    value, low, high = (f"{figure:+z.3f}" for figure in (row.difference, *row.ci))
    return f"{value} [{low}, {high}]"


def without(row: Change | None) -> str:
    """The figure of the run without tampering."""
    return NO_FIGURE if row is None else words.percent(row.without)


def apart(row: Amplification) -> str:
    """How much better the attack does on targeted records, with its interval."""
    return f"{row.auc_difference:+z.3f} [{row.ci[0]:+z.3f}, {row.ci[1]:+z.3f}]"


def rule(found: TamperingResult) -> str:
    """What the server makes of the updates, and what that withstands."""
    withstands = "" if found.tampering_allowed is None else f", set to withstand {found.tampering_allowed}"
    return COMBINE[found.combine] + withstands


def _set_up(results: Results, found: TamperingResult) -> str:
    count, everyone = len(found.clients), results.data.clients
    boosted = f", and send their updates {found.boost:g} times as large" if found.boost > 1 else ""
    more = (
        " More of them tamper than the rule is set to withstand."
        if found.tampering_allowed is not None and found.tampering_allowed < count
        else ""
    )
    return (
        f"{count} of {everyone} clients {'tampers' if count == 1 else 'tamper'} ({HOW[found.how]}){boosted}. Of a"
        f" round's updates the server takes {rule(found)}.{more} All figures here are about the other clients' records."
    )


def _success(found: TamperingResult) -> str:
    row = next(row for row in found.outcomes if model(row) == "global float32")
    assert row.success_change is not None
    says = "Tampering works" if row.success_change.ci[0] > 0 else "Tampering does not work that we can see"
    return (
        f"{says}: of the held-out records {found.meant}, the global model answers {share(row)} so;"
        f" {without(row.success_change)} in the same run without tampering (difference {change(row.success_change)})."
    )


def _personal(found: TamperingResult) -> str:
    rows = {model(row): row for row in found.outcomes}
    before, own, device = (rows[name] for name in ("global float32", "personal float32", "personal int8"))
    verb = "washes some of it out" if own.success_ci[1] < before.success_ci[0] else "does not wash it out"
    lead = f"Fine-tuning on the clients' own records {verb}" if _worked(before) else "After fine-tuning"
    return f"{lead}: {share(own)} with the personal models, {share(device)} on the device."


def _worked(row: TamperingOutcome) -> bool:
    return row.success_change is not None and row.success_change.ci[0] > 0


def _amplified(rows: list[Amplification]) -> str:
    largest = max(rows, key=lambda row: row.auc_difference)
    above = sum(row.ci[0] > 0 for row in rows)
    says = (
        "Tampering makes membership show more"
        if above
        else "Tampering does not make membership show more that we can see"
    )
    many = f" The interval lies above 0 for {above} of {len(rows)} attacks." if len(rows) > 1 else ""
    many += " One of several can lie above 0 by luck." if above == 1 < len(rows) else ""
    on_targeted = f"{largest.auc:.2f} {words.interval(largest.auc_ci)}"
    on_others = f"{largest.others_auc:.2f} {words.interval(largest.others_auc_ci)}"
    return (
        f"{says}: {words.named(attack_row(largest))} has AUC {on_targeted} on the records that are targeted and"
        f" {on_others} on the others; a coin chose which (difference {apart(largest)}, the largest of"
        f" {len(rows)}).{many}"
    )


def attack_row(row: Amplification) -> AttackRow:
    """Which attack it is about."""
    return AttackRow(
        attack=row.attack, vantage=row.vantage, target=row.target, precision=row.precision, output=row.output
    )


def _accuracy(found: TamperingResult) -> str:
    rows = {model(row): row for row in found.outcomes}
    parts = [
        f"{words.rate(row.accuracy)} with the {row.target} model{'s' if row.target == 'personal' else ''}"
        f" ({change(row.accuracy_change)})"
        for row in (rows["global float32"], rows["personal float32"])
    ]
    return (
        "Accuracy on the other clients' held-out records, with the difference to the same run without tampering:"
        f" {' and '.join(parts)}."
    )
