"""The words for what attackers got beyond membership: records, labels, classes, whose a record is, kinds of clients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sim.report import words
from sim.results import (
    CountResult,
    LabelResult,
    ParticipationResult,
    PropertyResult,
    ReconstructionResult,
    Results,
    SourceResult,
    Spread,
)

EYES = {
    "record": ("true record", "got back", "nearest public"),
    "class": ("members' mean", "got back", "public mean"),
}


@dataclass(frozen=True, slots=True)
class Line:
    """One attack in one row: what it worked from, and what came of it."""

    attack: str
    vantage: str
    seen: str
    result: str
    bad: bool  # something private came out


def lines(results: Results) -> list[Line]:
    """One per attack, in the order in which they were made."""
    return [
        *(_records(rows) for rows in by_attack(results).values()),
        *([_labels(results.labels)] if results.labels else []),
        *map(_source, results.sources),
        *map(_count, results.counts),
        *(_property(row, len(results.properties)) for row in results.properties),
        *(_participation(row, len(results.participations)) for row in results.participations),
    ]


def sentences(results: Results) -> Iterator[str]:
    """What came of each attack, in plain words."""
    for rows in by_attack(results).values():
        yield _classes_said(rows[0]) if rows[0].unit == "class" else _records_said(rows)
    if results.labels:
        right, guessed, count = (
            sum(getattr(row, key) for row in results.labels) for key in ("right", "guessed", "records")
        )
        yield (
            f"The last layer's bias gives away {right} of {count:,} labels behind {_where(results.labels)}; without it"
            f" the class mix of the attacker's own records gives {guessed}."
        )
    yield from map(_source_said, results.sources)
    yield from map(_count_said, results.counts)
    yield from (_property_said(row, len(results.properties)) for row in results.properties)
    yield from (_participation_said(row, len(results.participations)) for row in results.participations)


def by_attack(results: Results) -> dict[str, list[ReconstructionResult]]:
    """The reconstructions of each attack, one row per victim."""
    groups: dict[str, list[ReconstructionResult]] = {}
    for row in results.reconstructions:
        groups.setdefault(row.attack, []).append(row)
    return groups


def exact(results: Results) -> int:
    """How many records some attack got back exactly."""
    return max((sum(row.exact for row in rows) for rows in by_attack(results).values()), default=0)


def whose(row: ReconstructionResult) -> str:
    """Behind which update the records are, such as "client 3: 2 records, 1 local step, round 1"."""
    if row.unit == "class":
        return f"the final model: {row.records} classes"
    who = "all clients of the round" if row.client is None else f"client {row.client}"
    steps = _many(row.steps or 0, "local step")
    return f"{who}: {_many(row.records, 'record')}, {steps}{' each' if row.client is None else ''}, round {row.round}"


def decibels(spread: Spread | None) -> str:
    """The middle of PSNRs."""
    return words.NOT_MEASURABLE if spread is None else _decibels(spread.median)


def psnr(value: float) -> str:
    """One PSNR."""
    return _decibels(value)


def _decibels(value: float) -> str:
    return f"{value:.0f} dB"


def _many(count: int, thing: str) -> str:
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def _where(rows: Sequence[ReconstructionResult] | Sequence[LabelResult]) -> str:
    if rows[0].client is None:
        return "the sum of one round's updates"
    return "one client's update" if len(rows) == 1 else f"{len(rows)} clients' updates"


def _records(rows: list[ReconstructionResult]) -> Line:
    total, sought = sum(row.records for row in rows), sum(row.sought for row in rows)
    learnt, same = sum(row.recovered for row in rows), sum(row.exact for row in rows)
    if rows[0].unit == "class":
        seen, thing = "the final model", "classes"
    else:
        seen, thing = f"{_where(rows)}, {_many(total, 'record')}", "records"
    exactly = f", {same} exactly" if same else ""
    result = (
        f"{learnt} of {total:,} {thing}{exactly}; PSNR {_range(rows, 'psnr')}, public {_range(rows, 'public_psnr')}"
    )
    return Line(
        rows[0].attack, rows[0].vantage, seen, result if sought else "nothing", bad=learnt > 0 and thing == "records"
    )


def _range(rows: list[ReconstructionResult], key: str) -> str:
    spreads: list[Spread] = [spread for row in rows if (spread := getattr(row, key))]
    if not spreads:
        return words.NOT_MEASURABLE
    low, high = min(each.low for each in spreads), max(each.high for each in spreads)
    return f"{low:.0f} to {high:.0f} dB"


def _labels(rows: list[LabelResult]) -> Line:
    right, guessed, count = (sum(getattr(row, key) for row in rows) for key in ("right", "guessed", "records"))
    seen = f"{_where(rows)}, {_many(count, 'record')}"
    result = f"{right:,} of {count:,} labels; {guessed:,} by guessing"
    return Line(rows[0].attack, rows[0].vantage, seen, result, bad=right > guessed)


def _source(row: SourceResult) -> Line:
    result = f"{_rate(row.accuracy, row.ci)} right; guessing {words.percent(_blind(row))}"
    seen = f"{row.records:,} members' records, {row.clients} clients"
    return Line(row.attack, row.vantage, seen, result, bad=row.ci[0] > max(_blind(row), row.held_out_ci[1]))


def _count(row: CountResult) -> Line:
    result = f"{row.right} of {row.clients} counted right, {row.clients - row.complete} counted as a least"
    return Line(row.attack, row.vantage, f"updates of {row.clients} clients", result, bad=row.right > 0)


def _count_said(row: CountResult) -> str:
    if not row.complete:
        return (
            f"How many records a client has: {row.attack} finds a least number for each of {row.clients} clients, and"
            f" holds for {row.at_least} of them; that there are no more it cannot see here."
        )
    return (
        f"How many records a client has: the rank of its updates is that number for {row.right} of the {row.complete}"
        f" clients of {row.clients} whose updates leave no room for more ({row.attack}), whatever clients report."
    )


def _blind(row: SourceResult) -> float:
    """What the better of two blind guesses gets: any client, or always the one with the most records."""
    return max(row.chance, row.largest)


def _property(row: PropertyResult, looks: int) -> Line:
    seen = f"updates of round {row.round}, {row.clients} clients"
    return Line(row.attack, row.vantage, seen, f"AUC {_area(row)}", bad=_tells(row, looks))


def _participation(row: ParticipationResult, looks: int) -> Line:
    seen = f"global {row.precision} model, {row.records_per_person:.0f} fresh records of each person"
    result = f"AUC {row.auc:.2f} {words.interval(row.auc_ci)} over {row.participants + row.newcomers} people"
    return Line(row.attack, row.vantage, seen, result, bad=words.above_chance(row.auc, row.auc_ci, looks))


def _participation_said(row: ParticipationResult, looks: int) -> str:
    verdict = "can be told" if words.above_chance(row.auc, row.auc_ci, looks) else "is not shown to be told"
    return (
        f"Whether a person took part at all {verdict} from the global {row.precision} model's answers to"
        f" {row.records_per_person:.0f} records of theirs that nobody trained on: AUC {row.auc:.2f}"
        f" {words.interval(row.auc_ci)} over {row.participants} people who did and {row.newcomers} who did not."
    )


def _tells(row: PropertyResult, looks: int) -> bool:
    return row.auc is not None and row.auc_ci is not None and words.above_chance(row.auc, row.auc_ci, looks)


def _area(row: PropertyResult) -> str:
    if row.auc is None or row.auc_ci is None:
        return words.NOT_MEASURABLE
    return f"{row.auc:.2f} {words.interval(row.auc_ci)}"


def _rate(value: float, ci: tuple[float, float]) -> str:
    return f"{words.percent(value)} {words.percent_interval(ci)}"


def _records_said(rows: list[ReconstructionResult]) -> str:
    attack, total = rows[0].attack, sum(row.records for row in rows)
    learnt, same = sum(row.recovered for row in rows), sum(row.exact for row in rows)
    behind = f"{_many(total, 'record')} behind {_where(rows)}"
    if not learnt:
        return (
            f"{attack} got nothing back of the {behind}: nothing that it came up with is closer to a true record than"
            f" the attacker's own records are (PSNR {_range(rows, 'psnr')}, of the nearest public records"
            f" {_range(rows, 'public_psnr')})."
        )
    exactly = f", {same} of them exactly" if same else ""
    return (
        f"Updates are data: {attack} got {learnt} of the {behind} back closer than anything public{exactly} (PSNR"
        f" {_range(rows, 'psnr')}, of the nearest public records {_range(rows, 'public_psnr')})."
    )


def _classes_said(row: ReconstructionResult) -> str:
    return (
        f"{row.attack} shows classes and no person: for {row.recovered} of {row.records} classes what the final model"
        f" takes for typical is closer to the members' mean than the mean of the attacker's own records is."
    )


def _source_said(row: SourceResult) -> str:
    figures = (
        f"Whose record is it: {row.attack} names the right one of {row.clients} clients for"
        f" {_rate(row.accuracy, row.ci)} of members' records, and a blind guess for {words.percent(_blind(row))}"
    )
    held = f"{_rate(row.held_out_accuracy, row.held_out_ci)} of records never trained on"
    if row.ci[0] > row.held_out_ci[1]:
        return f"{figures}. It does so for {held}, so the updates tell more than the clients' habits do."
    return f"{figures}. It does so for {held}: that training on a record gives it away is not shown."


def _property_said(row: PropertyResult, looks: int) -> str:
    question = f"Whether a client {row.property}, which no label says: {row.attack} "
    if row.auc is None:
        return (
            f"{question}is not measurable here: {row.holding} of {row.clients} clients do, too few on one side. On"
            f" updates that the attacker simulated its AUC is {row.simulated_auc:.2f}."
        )
    verdict = "tells it" if _tells(row, looks) else "is not shown to tell it"
    return (
        f"{question}{verdict} from the updates of round {row.round}, with AUC {_area(row)} over {row.clients} clients"
        f" ({row.simulated_auc:.2f} on updates that it simulated)."
    )
