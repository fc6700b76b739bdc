"""What the figures of an audit say, in sentences: shared by the terminal, the document and the report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sim.audit.results import (
    AuditAttack,
    AuditVerdict,
    Board,
    Data,
    HostAndDevice,
    Paired,
    Side,
    Structure,
    Untried,
)
from sim.report.words import interval, percent
from sim.report.words import tpr as caught
from sim.results import Control
from sim.verdict import FEW_PEOPLE, below, control_below, control_holds, grade, leaks, learnt, singles_out

MOST_SAID = 3
SLIGHT = 0.55  # an AUC that says something of the crowd and hardly anything of one person
_NO_MORE = "That is no proof that nothing leaks"
NEGLIGIBLE = 0.005  # of an AUC: nobody acts on less


def auc(row: AuditAttack | Control) -> str:
    """An AUC with its interval, to two places."""
    return f"{row.auc:.2f} {interval(row.auc_ci)}"


def span(ends: tuple[float, float]) -> str:
    """An interval of times, to two figures."""
    low, high = (f"{end:.2g}" if end < 10 else f"{end:,.0f}" for end in ends)
    return f"{low} to {high}"


def difference(row: Paired) -> str:
    """A paired difference in AUC with its interval."""
    return f"{row.auc_difference:+z.3f} [{row.ci[0]:+z.3f}, {row.ci[1]:+z.3f}]"


def strongest(rows: Sequence[AuditAttack]) -> AuditAttack | None:
    """The largest AUC among the attacks above chance, all counted; where none is, the largest of all."""
    return max(rows, key=lambda row: (leaks(row), row.auc), default=None)


def on(row: AuditAttack) -> str:
    """An attack and what it attacks."""
    where = {"file": "the file", "float model": "the float model", "pair": "the file and the float model together"}
    return f"{row.attack} on {where[row.model]}{' (labels alone)' if row.output == 'label' else ''}"


def verdict(
    data: Data | None, sides: tuple[Side, Side] | None, attacks: Sequence[AuditAttack], blind: Control | None
) -> AuditVerdict:
    """The audit in a word."""
    if data is None:
        return "structure only"
    found = grade(attacks, [] if blind is None else [blind], learnt=not unlearnt(sides))
    return "files swapped?" if found == "none shown" and any(map(below, attacks)) else found


def unlearnt(sides: tuple[Side, Side] | None) -> bool:
    """Whether the model is no better on non-members than always naming their commonest class."""
    others = sides[1] if sides else None
    if others is None or others.accuracy is None or others.accuracy_ci is None or others.commonest_class is None:
        return False
    return not learnt(others.accuracy, others.accuracy_ci, others.commonest_class)


def summary(
    name: str,
    found: AuditVerdict,
    structure: Structure,
    boards: Sequence[Board],
    sides: tuple[Side, Side] | None,
    rows: Sequence[AuditAttack],
    blind: Control | None,
) -> str:
    """The verdict in a sentence or two: the first thing that anybody reads."""
    device = f"{_device(structure, boards)}."
    if found == "structure only":
        return f"{name}: {device} What it gives away was not measured: that takes --members and --nonmembers."
    if found == "controls failed":
        assert blind is not None
        return (
            "Do not trust these figures: the member and the non-member file differ by themselves. An attacker that "
            f"never asks the model tells them apart with AUC {auc(blind)}, where 0.5 is a coin toss. {name}: {device}"
        )
    if found == "not learnt":
        return f"{name}: {_not_learnt(sides)} {_leak('It', rows)} It is {device}"
    if found == "files swapped?":
        return f"{name}: are the two files swapped? {_swapped(rows)} It is {device}"
    return f"{_leak(name, rows)} It is {device}"


def _leak(name: str, rows: Sequence[AuditAttack]) -> str:
    """What the attacks are shown to do, all of them counted."""
    top = strongest(rows)
    if top is None:
        return f"{name}: no attack could be made, so nothing is known about what leaks."
    counting = f", {interval(top.auc_ci_adjusted)} with all {len(rows)} attacks counted" if len(rows) > 1 else ""
    if leaks(top):
        much = " slightly" if top.auc < SLIGHT else ""
        return (
            f"{name} leaks{much}: {top.attack} tells who was in the training data with AUC {auc(top)} (0.5 is a coin "
            f"toss{counting}), {_standing_out(rows)}."
        )
    if any(map(singles_out, rows)):
        return f"{name} leaks: no attack tells the crowd apart (largest AUC {auc(top)}), {_standing_out(rows)}."
    if grade(rows, (), learnt=True) == "not measurable":
        return f"{name}: not measurable. Too few people, or records, decide about any figure. {_NO_MORE}."
    return (
        f"{name}: no leak shown. The strongest of {len(rows)} attacks, {top.attack}, has AUC {auc(top)} (0.5 is a coin "
        f"toss), {_standing_out(rows)}. {_NO_MORE}."
    )


def _not_learnt(sides: tuple[Side, Side] | None) -> str:
    assert sides is not None
    others = sides[1]
    assert others.accuracy is not None
    assert others.accuracy_ci is not None
    assert others.commonest_class is not None
    return (
        f"the model has not learnt. It is right on {percent(others.accuracy)} of non-members "
        f"{_percents(others.accuracy_ci)}, and always naming their commonest class would be on "
        f"{percent(others.commonest_class)}. Check that inputs are scaled, and classes numbered, as in training."
    )


def _swapped(rows: Sequence[AuditAttack]) -> str:
    lowest = min(rows, key=lambda row: row.auc)
    count = sum(map(below, rows))
    return (
        f"{count} of {len(rows)} attacks {'lies' if count == 1 else 'lie'} below a coin toss, {lowest.attack} with AUC "
        f"{auc(lowest)}: they take --nonmembers for the members. Check which file holds the training data."
    )


def _device(structure: Structure, boards: Sequence[Board]) -> str:
    if not structure.device_model:
        return f"{structure.kind}; not a model for a microcontroller"
    known = [board for board in boards if board.fits is not None]
    if not known:
        return structure.kind
    if len(known) == 1:
        return f"{structure.kind}; it {'fits' if known[0].fits else 'does not fit'} {known[0].device}"
    return f"{structure.kind}; it fits {sum(bool(board.fits) for board in known)} of {len(known)} boards"


def _standing_out(rows: Sequence[AuditAttack]) -> str:
    if not any(row.tpr_at_fpr.get("0.01") for row in rows):
        return "and whether anybody is singled out at 1 % false alarms is not measurable"
    if any(map(singles_out, rows)):
        return "and some records stand out even at 1 % false alarms"
    return "and nobody is singled out at 1 % false alarms"


def findings(
    structure: Structure,
    boards: Sequence[Board],
    host: HostAndDevice | None,
    data: Data | None,
    sides: tuple[Side, Side] | None,
    rows: Sequence[AuditAttack],
    untried: Sequence[Untried],
    blind: Control | None,
    paired: Sequence[Paired],
) -> list[str]:
    """What to take away, the most important first."""
    said = [*_first(data, sides, rows, blind), *_blind(blind, paired), *_utility(sides)]
    said += [*_strongest(rows), *_labels(rows), *_means(data, untried)]
    said += [*_compared(paired), *structure.words, *_boards(boards), *_host(host)]
    return [*said, *(data.notes if data else ())]


def _first(
    data: Data | None, sides: tuple[Side, Side] | None, rows: Sequence[AuditAttack], blind: Control | None
) -> Iterator[str]:
    """What makes every other figure worthless, if it does."""
    if unlearnt(sides):
        said = _not_learnt(sides)
        yield f"{said[0].upper()}{said[1:]}"
    if verdict(data, sides, rows, blind) == "files swapped?":
        yield f"Are the two files swapped? {_swapped(rows)}"


def _blind(blind: Control | None, paired: Sequence[Paired]) -> Iterator[str]:
    if blind is not None and control_below(blind):
        yield (
            f"The blind control lies below 0.5 (AUC {auc(blind)}). It was wrong more often than right, which tells "
            "nobody who was a member, so it casts no doubt on the figures."
        )
    if blind is None or control_holds(blind):
        return
    yield (
        "The two files can be told apart without the model, so attacks on it may only show that difference (another "
        "time, device, person or selection). Deal records to both by a coin toss before training, then audit again."
    )
    for row in (row for row in paired if row.before == "blind control"):
        yield f"Beyond that control, {row.attack} adds {difference(row)} in AUC, on the same records."


def _utility(sides: tuple[Side, Side] | None) -> Iterator[str]:
    if sides is None:
        return
    members, others = sides
    if members.accuracy is not None and others.accuracy is not None:
        assert members.accuracy_ci is not None
        assert others.accuracy_ci is not None
        yield (
            f"The model is right on {percent(members.accuracy)} of members {_percents(members.accuracy_ci)} and "
            f"{percent(others.accuracy)} of non-members {_percents(others.accuracy_ci)}."
        )
    elif members.median_error is not None and others.median_error is not None:
        yield (
            f"The model's median error (root mean square) is {members.median_error:.4g} on members and "
            f"{others.median_error:.4g} on non-members."
        )


def _percents(ci: tuple[float, float]) -> str:
    return f"[{ci[0] * 100:.1f}, {ci[1] * 100:.1f}]"


def _strongest(rows: Sequence[AuditAttack]) -> Iterator[str]:
    top = strongest(rows)
    if top is None:
        return
    yield (
        f"The strongest attack is {on(top)}: AUC {auc(top)}, or {interval(top.auc_ci_adjusted)} when all {len(rows)} "
        f"attacks are counted. {_at_one_percent(top)}"
    )
    if own := top.own_threshold:
        yield (
            f"With a threshold that it sets on its own records, aiming at {percent(own.target_fpr)} false alarms, it "
            f"catches {percent(own.tpr)} of members at {percent(own.realised_fpr)} real false alarms."
        )


def _at_one_percent(row: AuditAttack) -> str:
    cell = row.tpr_at_fpr.get("0.01")
    if cell is None:
        return "What it catches at 1 % false alarms is not measurable with fewer than 1,000 non-members."
    return f"At 1 % false alarms it catches {caught(cell)}."


def _labels(rows: Sequence[AuditAttack]) -> Iterator[str]:
    top = strongest([row for row in rows if row.output == "label"])
    if top is not None and leaks(top):
        yield f"To answer with the label alone does not stop it: {top.attack} has AUC {auc(top)}."


def _means(data: Data | None, untried: Sequence[Untried]) -> Iterator[str]:
    if data is not None and not data.references:
        yield (
            "No reference models were given. Attackers who train their own are usually stronger, above all at few "
            "false alarms: give --recipe or --reference-model."
        )
    if data is not None and not data.people:
        yield "The files name nobody, so intervals take records as independent; save a `person` array to draw people."
    elif data is not None and data.people < FEW_PEOPLE:
        yield (
            f"{data.people} people are too few to say how others would fare: the intervals cover which of their "
            "records were measured."
        )
    if data is not None and data.people and not data.people_on_both_sides:
        yield "Nobody has records in both files: what tells members from others may only tell people apart."
    refused = [each for each in untried if not each.reason.startswith(("need", "each", "would"))]
    yield from (f"Not tried: {each.reason}." for each in refused[:MOST_SAID])


def _compared(paired: Sequence[Paired]) -> Iterator[str]:
    for row in (row for row in paired if row.before == "float model"):
        settled = "leaks more" if row.ci[0] > 0 else "leaks less" if row.ci[1] < 0 else "no difference is settled"
        yield f"From the float model to the file the AUC of {row.attack} changes by {difference(row)}: {settled}."


def _boards(boards: Sequence[Board]) -> Iterator[str]:
    for board in [board for board in boards if board.fits is False][:MOST_SAID]:
        lacking = " and ".join(
            f"{(board.flash_needed if part == 'flash' else board.ram_needed) or 0:,} bytes of "
            f"{'flash' if part == 'flash' else 'RAM'} of {board.flash if part == 'flash' else board.ram:,}"
            for part in board.exceeded
        )
        yield f"It does not fit {board.title}: it needs {lacking}."


def _host(host: HostAndDevice | None) -> Iterator[str]:
    if host is None:
        return
    labels = "" if host.labels_differing is None else f", in {host.labels_differing:,} of them with another label"
    largest = f"; the largest difference is {host.largest_difference:.3g}" if host.rows_differing else ""
    yield (
        f"LiteRT on the host answers otherwise than the device does for {host.rows_differing:,} of {host.records:,} "
        f"records{labels if host.rows_differing else ''} ({host.inputs}){largest}."
    )
    if host.attack and host.auc_difference is not None and host.auc_difference_ci is not None and host.rows_differing:
        low, high = host.auc_difference_ci
        settled = "no difference is settled" if low <= 0 <= high else "what leaks depends on the runtime"
        settled = "too little to matter" if max(-low, high) < NEGLIGIBLE else settled
        yield (
            f"Asked on the host instead, the AUC of {host.attack} changes by {host.auc_difference:+z.3f} "
            f"[{low:+z.3f}, {high:+z.3f}]: {settled}."
        )
