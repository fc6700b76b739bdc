"""The words that the terminal table, the findings and the report share, so that one thing has one name everywhere."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sim.results import (
    AttackResult,
    AttackRow,
    Budget,
    Comparison,
    Control,
    Cost,
    DataCard,
    EdgeResult,
    Estimated,
    Interval,
    LitertVerdict,
    OwnThreshold,
    Precision,
    Question,
    Results,
    TprAtFpr,
    Utility,
    Verdict,
)
from sim.verdict import CHANCE, control_holds, counted, grade, leaks, learnt, singles_out

NOT_MEASURABLE = "not measurable"
NONE_SET = "none set"
FALSE_ALARMS_NEEDED = 10  # fewer than ten expected false alarms cannot hold a rate
_MOST_PLACES = 3  # of a difference


@dataclass(frozen=True, slots=True)
class Vantage:
    """One place an attacker can stand: its name, what it may do, and what it holds and lacks."""

    name: str
    may: str
    sees: str
    lacks: str


VANTAGES = {
    v.name: v
    for v in (
        Vantage(
            "server",
            "sees every update",
            "The global model of every round and what each client sent back.",
            "The records, and the personal models, which never leave their devices.",
        ),
        Vantage(
            "aggregator",
            "sees only the sum of the updates",
            "The global model of every round, the sum of what the clients sent back, and who took part.",
            "Any single client's update, the records, and the personal models.",
        ),
        Vantage(
            "global-user",
            "may query the global model",
            "The finished global model's answers to any record it asks about.",
            "The updates, the personal models, and the inside of the model.",
        ),
        Vantage(
            "malicious-server",
            "also chooses what is sent to the clients",
            "What it sent to each client, and what came back: each update, or under secure aggregation their sum.",
            "The records. It breaks the protocol, so a client that looks can notice.",
        ),
        Vantage(
            "query",
            "may query one person's model",
            "One personal model's answers, in float or as the device gives them in int8, or only the label; and the"
            " global model, as every user does.",
            "The updates, other people's models, and the inside of the model.",
        ),
        Vantage(
            "device",
            "holds one person's device",
            "The file of one personal model: weights, scales, zero points, and its int8 answers.",
            "The updates and other people's models.",
        ),
    )
}

AGAINST = {
    "every vantage": "everybody",
    "server": "a server that sees every update",
    "aggregator": "a server that sees only sums of updates",
    "malicious-server": "a server that also sends what it likes",
    "peer": "other clients, which get every global model",
    "global-user": "users of the global model",
    "query": "whoever may query the personal model",
    "device": "whoever holds a personal device, and its file",
}

ONTO_DEVICE: dict[str, str] = {
    "int8": "rounding to int8",
    "int8-per-tensor": "rounding to int8, with one scale per tensor",
    "int16x8": "rounding weights to 8 bits and activations to 16",
    "int4": "rounding weights to 4 bits",
    "head": "training only the last layer on the device",
}


def on_devices(results: Results) -> list[Precision]:
    """In how many ways personal models run on devices; the one that ships comes first."""
    shipped: list[Precision] = [row.variant for row in results.edge][:1] or ["int8"]
    return [*shipped, *results.utility.beside]


def utilities(results: Results) -> list[tuple[str, Precision, Utility]]:
    """What each model is good for: which, in what number format, and its accuracy."""
    utility, (shipped, *_) = results.utility, on_devices(results)
    return [
        ("global", "float32", utility.global_),
        ("personal", "float32", utility.personal),
        ("personal", shipped, utility.device),
        *(("personal", precision, found) for precision, found in utility.beside.items()),
    ]


def target_of(row: AttackResult | AttackRow) -> str:
    """Which model is attacked, in what number format, and whether it only names labels, such as "personal int8"."""
    return f"{row.target} {row.precision}{' labels' if row.output == 'label' else ''}"


def model_of(row: AttackResult | AttackRow) -> str:
    """As `target_of`, but whoever aggregates attacks the training, of which no single model is the target."""
    return "the training" if aggregates(row) else target_of(row)


def aggregates(row: AttackResult | AttackRow) -> bool:
    """Whether the attacker is whoever adds the updates up."""
    return row.vantage in ("server", "aggregator", "malicious-server")


def named(row: AttackResult | AttackRow) -> str:
    """An attack and what it attacks, for sentences, such as "rmia on the personal int8 models"."""
    if aggregates(row):
        return f"{row.attack} on {model_of(row)}"
    return f"{row.attack} on the {model_of(row)} model{'s' if row.target == 'personal' else ''}"


def units(data: DataCard) -> tuple[str, str]:
    """One of those whose records these are, and several. Nobody stands behind a client that is simulated or unnamed."""
    return ("person", "people") if data.natural and data.names_people else ("client", "clients")


def crowd(data: DataCard) -> str:
    """How many took part, such as "8 people, 16 clients" or "10 simulated clients"."""
    if not data.natural:
        return f"{data.clients} simulated clients"
    return f"{data.people} people, {data.clients} clients" if data.names_people else f"{data.clients} clients"


def origin(data: DataCard) -> str:
    """Whether real people's records are known to stand behind the figures; for records that are not synthetic."""
    if data.synthetic is None:
        return "not stated (data.synthetic says it)"
    if not data.natural:
        return "no: real records, dealt out to simulated clients"
    return "no: real people's records" if data.names_people else "no: real records"


def population(results: Results) -> str:
    """Whose records the attacker holds, such as "2 other people"."""
    many = units(results.data)[1] if results.data.natural else "simulated clients"
    which = "other" if results.population.who == "other-people" else "of the same"
    return f"{results.population.people} {which} {many}"


def never_trained(data: DataCard) -> str:
    """Whose records no global model ever saw, though they were to help train it."""
    number = len(data.never_trained)
    return (
        f"{number} of {data.clients} clients took part in no round that released anything, and so none of their"
        f" {data.never_trained_records:,} records was trained on"
    )


def rate(value: float | None, missing: str = "not measured") -> str:
    """An accuracy or an AUC, to three places."""
    return missing if value is None else f"{value:.3f}"


def percent(value: float) -> str:
    """A rate as a percentage, to one place, or two below one per cent."""
    return f"{value:.2%}".replace("%", " %") if 0 < abs(value) < 0.00995 else f"{value:.1%}".replace("%", " %")


def false_alarms(target: str | float) -> str:
    """A false-alarm rate aimed at, such as a key of `tpr_at_fpr`, without needless zeros: "0.01" is "1 %"."""
    return f"{float(target) * 100:g} %"


def untried(results: Results) -> list[str]:
    """For each attack that could be tried nowhere, the first reason."""
    measured = {row.attack for row in results.attacks} | {row.attack for row in results.recoveries}
    reasons = {row.attack: row.reason for row in reversed(results.refused) if row.attack not in measured}
    return [reasons[attack] for attack in dict.fromkeys(row.attack for row in results.refused) if attack in reasons]


def interval(ci: Interval) -> str:
    """The 95 % interval of an AUC or an accuracy."""
    return f"[{ci[0]:.2f}, {ci[1]:.2f}]"


def auc(row: AttackResult | Control) -> str:
    """An AUC with its interval, to two places, for sentences."""
    return f"{row.auc:.2f} {interval(row.auc_ci)}"


def difference(row: Comparison) -> str:
    """A difference in AUC with its interval, to two places, or to three where two would show too little."""
    figures = (row.auc_difference, *row.ci)
    places = 2 if min(map(abs, figures)) >= 0.01 else _MOST_PLACES
    value, low, high = (f"{figure:z.{places}f}" for figure in figures)
    return f"{value} [{low}, {high}]"


def rises(row: Comparison) -> bool:
    """Whether the interval of a difference lies above 0, as far as it is shown."""
    return round(row.ci[0], _MOST_PLACES) > 0


def falls(row: Comparison) -> bool:
    """Whether the interval of a difference lies below 0, as far as it is shown."""
    return round(row.ci[1], _MOST_PLACES) < 0


def reading(row: Comparison) -> str:
    """What a difference says, in two words."""
    return "leaks more" if rises(row) else "leaks less" if falls(row) else "not settled"


def above_chance(value: float, ci: Interval, looks: int = 1) -> bool:
    """Whether an AUC that no deal of membership can judge is above chance, when all `looks` like it are counted."""
    return counted(value, ci, looks)[0] > CHANCE


def epsilon(budget: Budget) -> str:
    """An epsilon as a promise prints it: rounded up in its third place, so that it is never said to be smaller."""
    if budget.epsilon == "inf":
        return "∞"
    places = 2 - math.floor(math.log10(budget.epsilon)) if budget.epsilon > 0 else 2
    up = math.ceil(round(budget.epsilon * 10**places, 6)) / 10**places
    return f"{up:g}"


def promise(budget: Budget) -> str:
    """An epsilon with what it stands on, such as "epsilon 8, with one record of a client ...: DP-SGD on the client"."""
    between = f", with {budget.adjacency}" if budget.adjacency else f" for a {budget.unit}"
    return f"epsilon {epsilon(budget)}{between}: {budget.why}"


def cost(row: Cost) -> str:
    """What protection does to an accuracy, with its interval."""
    value, low, high = (f"{figure:+z.3f}" for figure in (row.difference, *row.ci))
    return f"{value} [{low}, {high}]"


def percent_interval(ci: Interval) -> str:
    """The 95 % interval of a rate."""
    return f"[{ci[0] * 100:.1f}, {ci[1] * 100:.1f}]"


def tpr(cell: TprAtFpr | None) -> str:
    """A true-positive rate, its interval and the false-positive rate it was read at."""
    if cell is None:
        return NOT_MEASURABLE
    return f"{percent(cell.tpr)} {percent_interval(cell.ci)} (at {percent(cell.realised_fpr)})"


def own_threshold(own: OwnThreshold | None) -> str:
    """What the attacker catches, and its true false-alarm rate, with a threshold it set by itself."""
    if own is None:
        return NONE_SET
    caught = f"{percent(own.tpr)} {percent_interval(own.tpr_ci)}"
    return f"{caught} (at {percent(own.realised_fpr)} {percent_interval(own.realised_fpr_ci)})"


def strongest(rows: Iterable[AttackResult]) -> AttackResult | None:
    """The largest AUC among the attacks above chance, all counted; where none is, the largest of all."""
    return max(rows, key=lambda row: (leaks(row), row.auc), default=None)


def on_model(results: Results, target: str, precision: str) -> list[AttackResult]:
    """The attacks that query this model. Whoever aggregates sees training, not a model, so it is not among them."""
    rows = (row for row in results.attacks if not aggregates(row) and row.output != "label")
    return [row for row in rows if (row.target, row.precision) == (target, precision)]


def precisions_of(results: Results) -> list[list[AttackResult]]:
    """The same attack on the same model, in float32 and then in every form that it has on devices."""
    found: dict[tuple[str, str, str], list[AttackResult]] = {}
    for row in results.attacks:
        if row.output not in (None, "label") and row.vantage != "malicious-server":
            found.setdefault((row.attack, row.vantage, row.target), []).append(row)
    return [rows for rows in found.values() if rows[0].precision == "float32" and len(rows) > 1]


def compared(results: Results, question: Question) -> list[Comparison]:
    """The paired differences that answer this question, of attacks whose rows are there."""
    attacks = {(row.attack, target_of(row)) for row in results.attacks}
    rows = (row for row in results.comparisons if row.question == question)
    return [row for row in rows if (row.attack, row.after) in attacks]


def personalising(results: Results) -> Comparison | None:
    """What personalising does to the attack that has the largest AUC on personal models."""
    rows = {row.attack: row for row in compared(results, "personalising")}
    top = strongest(row for row in on_model(results, "personal", "float32") if row.attack in rows)
    return None if top is None else rows[top.attack]


def onto(results: Results, precision: Precision) -> list[Comparison]:
    """What going onto the device in this form does to each attack, on the global and the personal models."""
    return [row for row in compared(results, "rounding") if row.after.partition(" ")[2] == precision]


def question(row: Comparison) -> str:
    """What a comparison asks, in words."""
    asked = {"personalising": "personalising", "server": "server against user"}
    return asked.get(row.question) or ONTO_DEVICE[row.after.partition(" ")[2]]


def largest(rows: Sequence[Comparison]) -> Comparison | None:
    """The largest difference, up or down."""
    return max(rows, key=lambda row: abs(row.auc_difference), default=None)


def verdict(results: Results) -> Verdict:
    """The whole run in a word."""
    return grade(results.attacks, controls(results), learnt=not unlearnt(results))


def controls(results: Results) -> tuple[Control, Control]:
    """Both attacks that cannot succeed."""
    return results.controls.blind, results.controls.stranger


def unlearnt(results: Results) -> list[str]:
    """Which models are no better than always naming the commonest class: "global", "personal"."""
    commonest = results.utility.commonest_class
    models = (("global", results.utility.global_), ("personal", results.utility.personal))
    return [name for name, found in models if not learnt(found.accuracy, found.accuracy_ci, commonest)]


def summary(results: Results) -> str:
    """The whole run in a sentence or two: the first thing that anybody reads."""
    found = leak(results.attacks)
    if unlearnt(results):
        return f"{not_learnt(results)} {found}"
    if not all(map(control_holds, controls(results))):
        return "A control that cannot succeed did, so do not trust these figures until that is explained."
    return found


def not_learnt(results: Results) -> str:
    """Which models have not learnt, and by what that is told."""
    lazy, utility = unlearnt(results), results.utility
    figures = {"global": utility.global_, "personal": utility.personal}
    said = " and ".join(f"{figures[name].accuracy:.2f} {interval(figures[name].accuracy_ci)}" for name in lazy)
    which = {
        ("global",): "The global model has not learnt",
        ("personal",): "The personal models have not learnt",
        ("global", "personal"): "The models have not learnt, neither the global one nor the personal ones",
    }[tuple(lazy)]
    alone = ", since all held-out records are of one class" if utility.commonest_class == 1 else ""
    return (
        f"{which}: accuracy on held-out records, {said}, is not above the"
        f" {utility.commonest_class:.2f} that always naming the commonest class gets{alone}. What follows says nothing"
        " about a model that works."
    )


def leak(rows: Sequence[AttackResult]) -> str:
    """What the attacks are shown to do, all of them counted."""
    if not rows:
        return "No attack was run, so nothing is known about what leaks."
    top, counting = strongest(rows), f", {interval_counted(rows)}" if len(rows) > 1 else ""
    assert top is not None
    if leaks(top):
        return (
            f"The models leak: the strongest attack tells who was in the training data with AUC {auc(top)}"
            f" (0.5 is a coin toss{counting}), and {_standing_out(rows)}."
        )
    if any(map(singles_out, rows)):
        return (
            f"The models leak: {_standing_out(rows)}, though no attack tells members from others on the whole"
            f" (largest AUC {auc(top)})."
        )
    if grade(rows, (), learnt=True) == "not measurable":
        return "Whether the models leak is not measurable: a coin decided about too few records."
    tried = f"none of {len(rows)} attacks, all counted, does" if len(rows) > 1 else "the attack tried does not do"
    return (
        f"No leak is shown: {tried} better than a coin toss (largest AUC {auc(top)}), and {_standing_out(rows)}."
        " Attacks that were not tried may find more."
    )


def interval_counted(rows: Sequence[AttackResult]) -> str:
    """The interval of the strongest attack's AUC when all attacks are counted."""
    top = strongest(rows)
    assert top is not None
    return f"{interval(top.auc_ci_adjusted)} when all {len(rows)} attacks are counted"


def _standing_out(rows: Sequence[AttackResult]) -> str:
    if not any(row.tpr_at_fpr.get("0.01") for row in rows):
        return "whether anybody is singled out at 1 % false alarms is not measurable"
    if any(map(singles_out, rows)):
        return "some records stand out even at 1 % false alarms"
    return "at 1 % false alarms no attack singles anybody out"


def by_device(results: Results) -> dict[tuple[str, str], list[EdgeResult]]:
    """The exported models, grouped by device and by which they are: global or personal, and how they are quantised."""
    groups: dict[tuple[str, str], list[EdgeResult]] = {}
    for row in results.edge:
        groups.setdefault((row.device, f"{row.target} {row.variant}"), []).append(row)
    return groups


def litert_rows(rows: Sequence[EdgeResult]) -> str:
    """Of how many records LiteRT's answers differ from the device's."""
    known = [row for row in rows if row.litert_rows_differing is not None]
    if not known:
        return "refuses it"
    return f"{sum(row.litert_rows_differing or 0 for row in known):,} of {sum(row.rows_compared for row in known):,}"


def export_errors(rows: Sequence[EdgeResult], *, brief: bool = False) -> str:
    """The mean and the largest difference of any answer from the float model's, over all records of some files."""
    most = f"{max(row.max_logit_error for row in rows):.3g}"
    known = [(row.mean_logit_error, row.rows_compared) for row in rows if row.mean_logit_error is not None]
    if not known:
        return f"({most})" if brief else f"{most} at most"
    mean = f"{sum(mean * count for mean, count in known) / sum(count for _, count in known):.2g}"
    return f"{mean} ({most})" if brief else f"{mean} on average, {most} at most"


def litert_labels(rows: Sequence[EdgeResult]) -> int:
    """Of how many records LiteRT's label differs from the device's."""
    return sum(row.litert_labels_differing or 0 for row in rows)


def remedies(results: Results) -> str:
    """What would make a misfit fit."""
    if not results.remedies:
        return "Nothing that was measured makes the global model fit: other numbers, fewer channels, other boards."
    first, more = results.remedies[0], len(results.remedies) - 1
    also = f" {more} more {'is' if more == 1 else 'are'} in the report." if more else ""
    return f"What would make it fit, the smallest change first: {first}.{also}"


def estimated(found: Estimated | None) -> str:
    """An interval with its unit, or that nothing is known."""
    if found is None or found.interval is None:
        return "not known"
    unit, scale = ("mJ", 1e-3) if found.unit == "uJ" else (found.unit, 1.0)
    low, high = (f"{end * scale:.3g}" if end * scale < 1000 else f"{end * scale:,.0f}" for end in found.interval)
    return f"{low} to {high} {unit}"


def one_inference(results: Results) -> str | None:
    """How long one inference of what ships takes, with what that rests on."""
    row = results.edge[0]
    if row.latency is None:
        return None
    if row.latency.interval is None:
        return f"How long one inference takes on {row.device} is not known: {row.latency.anchor}."
    energy = f" and {estimated(row.energy)}" if row.energy and row.energy.interval else ""
    return f"One inference on {row.device} takes {estimated(row.latency)}{energy}, estimated from {row.latency.anchor}."


def litert_verdict(found: LitertVerdict) -> str:
    """Whether an attack says otherwise on LiteRT's answers than on the device's."""
    change = f"{found.auc_difference:+z.3f} [{found.ci[0]:+z.3f}, {found.ci[1]:+z.3f}]"
    said = (
        f"Asking LiteRT instead of the device gives {found.attack} another score for {found.scores_differing:,} of"
        f" {found.records:,} records and changes its AUC by {change}"
    )
    if found.verdicts_changed is None:
        return f"{said}."
    changed = f"{found.verdicts_changed:,} record{'' if found.verdicts_changed == 1 else 's'}"
    return f"{said}; aiming at {false_alarms(found.aim)} false alarms, the attacker calls {changed} otherwise."


def span(values: Sequence[int]) -> str:
    """The smallest and the largest of whole numbers, or the one value that they share."""
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def percent_span(values: Sequence[float]) -> str:
    """The smallest and the largest of rates, as percentages."""
    low, high = min(values), max(values)
    return percent(low) if percent(low) == percent(high) else f"{low * 100:.1f} to {percent(high)}"
