"""What the figures say, in plain sentences for somebody who is not a privacy researcher.

Every sentence is computed from the results document; none is written by hand. Each carries the interval that its
number comes with, and says so where the intervals do not settle the matter.
"""

from __future__ import annotations

from collections.abc import Iterator

from sim.report import arms, beyond, calibrated, deviating, recovered, tampered, words
from sim.results import AttackResult, Budget, Comparison, Interval, OwnThreshold, Results, Utility
from sim.verdict import CHANCE, FEW_PEOPLE, LUCK_TAIL, control_below, control_holds, counted, singles_out


def findings(results: Results) -> list[str]:
    """Sentences about one run, the most important first. `results.findings` is not read, so it may be empty."""
    parts = (
        _not_learnt,
        _data,
        _reading,
        _never_trained,
        _controls,
        recovered.sentences,
        beyond.sentences,
        tampered.sentences,
        _gain,
        _cost,
        arms.sentences,
        _singled_out,
        _own_threshold,
        _server,
        deviating.sentences,
        _onto_devices,
        calibrated.sentences,
        _exposed,
        _edge,
        _unmeasurable,
        _protection,
        _protection_s_cost,
        _rounds_lost,
        _cannot,
        _population,
        _training_luck,
    )
    return [sentence for part in parts for sentence in part(results)]


def _not_learnt(results: Results) -> Iterator[str]:
    if words.unlearnt(results):
        scale = "" if results.data.scaling else ", or bring the features to one scale (data.standardise)"
        either = " or" if results.data.scaling else ","
        yield f"{words.not_learnt(results)} Train longer{either} change the learning rate{scale}."


def _data(results: Results) -> Iterator[str]:
    if results.data.synthetic:
        yield ("The data is synthetic: these figures show that the tool works, and say nothing about any real person.")


def _reading(results: Results) -> Iterator[str]:
    yield from (f"About the data: {note}." for note in results.data.notes)


def _never_trained(results: Results) -> Iterator[str]:
    if results.data.never_trained:
        yield (
            f"Not in the global model: {words.never_trained(results.data)}. Against it and the updates they are"
            " non-members. Where clients' data differ, telling those clients from the others is a part of such an AUC."
        )


def _controls(results: Results) -> Iterator[str]:
    controls = {
        "blind (it sees the data and no model)": results.controls.blind,
        "stranger (its model never saw the client)": results.controls.stranger,
    }
    failed = [f"{name} reaches AUC {words.auc(c)}" for name, c in controls.items() if not control_holds(c)]
    if failed:
        yield (
            f"Do not trust the rows above until this is explained: the control {' and the control '.join(failed)},"
            " and a control should not be able to beat a coin toss."
        )
        return
    blind, stranger = words.auc(results.controls.blind), words.auc(results.controls.stranger)
    yield f"Both controls do no better than a coin toss, as they should: blind AUC {blind}, stranger AUC {stranger}."
    low = [name for name, c in controls.items() if control_below(c)]
    if low:
        yield (
            f"The control {' and the control '.join(low)} lies below 0.5. It was wrong more often than right, which"
            " tells nobody who was a member, so it casts no doubt on the figures: records much alike, some members and"
            " some not, mislead a control that learns from one about the other."
        )


def _gain(results: Results) -> Iterator[str]:
    shared, own = results.utility.global_, results.utility.personal
    verb = _change(shared.accuracy, own.accuracy, shared.accuracy_ci, own.accuracy_ci, "raises", "lowers")
    yield (
        f"Personalising {verb} accuracy on held-out records: {_accuracy(shared)} with the global model,"
        f" {_accuracy(own)} with each client's own. The worst-off client goes from {shared.worst_client:.2f}"
        f" to {own.worst_client:.2f}."
    )


def _accuracy(utility: Utility) -> str:
    return f"{utility.accuracy:.2f} {words.interval(utility.accuracy_ci)}"


def _change(before: float, after: float, before_ci: Interval, after_ci: Interval, up: str, down: str) -> str:
    """A verb for a change, hedged where the two intervals overlap."""
    apart = before_ci[1] < after_ci[0] or after_ci[1] < before_ci[0]
    verb = up if after >= before else down
    if after == before:
        return "does not change"
    return verb if apart else f"may or may not {verb.removesuffix('s')}"


def _cost(results: Results) -> Iterator[str]:
    row = words.personalising(results)
    if row is None:
        return
    says = {
        "leaks more": "Personalising costs privacy",
        "leaks less": "Personalising costs no privacy that we can see",
        "not settled": "Whether personalising costs privacy is not settled",
    }[words.reading(row)]
    rows = words.compared(results, "personalising")
    chosen = f"Of {len(rows)} attacks compared it has the largest AUC on personal models,"
    its = chosen if len(rows) > 1 else "Its AUC on personal models is"
    above = f" The interval lies above 0 for {sum(map(words.rises, rows))} of the {len(rows)}." if len(rows) > 1 else ""
    yield (
        f"{says}: with the {row.attack} attack AUC {'rises' if words.rises(row) else 'changes'} by"
        f" {words.difference(row)} from global to personal models, on the same records. {its}"
        f" {_auc_after(results, row)}, where 0.5 is a coin toss.{above}"
    )


def _auc_after(results: Results, row: Comparison) -> str:
    """The AUC that the attack of a comparison has after the change."""
    after = (a for a in results.attacks if not words.aggregates(a) and a.attack == row.attack)
    return next(words.auc(a) for a in after if words.target_of(a) == row.after)


def _singled_out(results: Results) -> Iterator[str]:
    measured = [(row, cell) for row in results.attacks if (cell := row.tpr_at_fpr.get("0.01")) is not None]
    if not measured:
        yield "Whether anybody is singled out at 1 % false alarms is not measurable with so few non-members."
        return
    above = [row for row, _ in measured if singles_out(row)]
    best, cell = max(measured, key=lambda pair: (singles_out(pair[0]), pair[1].tpr))
    counted = f", all {len(measured)} attacks counted" if len(measured) > 1 else ""
    most = (
        f"the most is {words.percent(cell.tpr)} of members {words.percent_interval(cell.ci)},"
        f" by {words.named(best)}, and guessing catches 1 %"
    )
    if not above:
        yield f"Nobody is singled out: at 1 % false alarms no attack does better than chance{counted} ({most})."
        return
    yield (
        f"Some records are singled out: at 1 % false alarms {len(above)} of {len(measured)} attacks"
        f" {'catches' if len(above) == 1 else 'catch'} more members than guessing would{counted} ({most})."
    )


def _own_threshold(results: Results) -> Iterator[str]:
    rows = [(row, row.own_threshold) for row in _honest(results) if row.own_threshold is not None]
    if not rows:
        return
    row, own = max(rows, key=lambda pair: pair[0].auc)
    yield (
        "A real attacker cannot read its threshold off the answers; it must set it on people of its own."
        f" Doing so, the strongest ({words.named(row)}) aims at {words.false_alarms(own.target_fpr)} false alarms and"
        f" gets {words.percent(own.realised_fpr)} {words.percent_interval(own.realised_fpr_ci)}{_off_target(own)},"
        f" while it catches {words.percent(own.tpr)} {words.percent_interval(own.tpr_ci)} of members."
    )


def _honest(results: Results) -> list[AttackResult]:
    """What can be had without deviating from the protocol."""
    return [row for row in results.attacks if row.vantage != "malicious-server"]


def _off_target(own: OwnThreshold) -> str:
    low, high = own.realised_fpr_ci
    if low > own.target_fpr:
        return ", more than it believes"
    return ", fewer than it allows itself" if high < own.target_fpr else ""


def _server(results: Results) -> Iterator[str]:
    for row in (row for row in results.comparisons if row.question == "server"):
        server = (each for each in _honest(results) if words.aggregates(each))
        inside = next((each for each in server if each.attack == row.attack), None)
        users = words.on_model(results, "global", "float32")
        outside = next((each for each in users if each.attack == (row.attack_before or row.attack)), None)
        if inside is None or outside is None:
            continue
        what = "every update" if inside.vantage == "server" else "the sum of the updates"
        figures = (
            f"{inside.attack} has AUC {words.auc(inside)}, against {words.auc(outside)} for somebody who may only query"
            f" the global model ({outside.attack}); the difference is {words.difference(row)}, on the same records."
        )
        if words.rises(row):
            hedge = _leads_by_luck(results, row)
            yield f"The server, which sees {what}, learns more than its users do: {figures}{hedge}"
        elif words.falls(row):
            yield f"Seeing {what} helps the server less than querying the global model does: {figures}"
        else:
            yield f"Whether seeing {what} gives the server a lead is not settled: {figures}"


def _leads_by_luck(results: Results, row: Comparison) -> str:
    """A hedge where the lead does not outlast that the server's attack is the best of several."""
    looks = sum(words.aggregates(each) for each in _honest(results))
    low, _ = counted(row.auc_difference, row.ci, looks)
    return f" The best of {looks} attacks can lead that much by luck." if low <= 0 else ""


def _onto_devices(results: Results) -> Iterator[str]:
    accuracy = {precision: utility for target, precision, utility in words.utilities(results) if target == "personal"}
    for precision in words.on_devices(results):
        rows = words.onto(results, precision)
        if (largest := words.largest(rows)) is not None:
            yield _onto(results, largest, rows)
            before = _accuracy(accuracy["float32"])
            device = _accuracy(accuracy[precision])
            which = "With a last layer trained there" if precision == "head" else f"As {precision}"
            yield f"{which}, accuracy on the device is {device}, against {before} of the float model."


def _onto(results: Results, row: Comparison, rows: list[Comparison]) -> str:
    says = "protects to some extent" if words.falls(row) else "is no protection that we can see"
    which = f"the largest of {len(rows)} differences" if len(rows) > 1 else "the difference"
    left = f" AUC {_auc_after(results, row)} is left." if words.falls(row) else ""
    how = words.question(row)
    return (
        f"{how[0].upper()}{how[1:]} {says}: {which} in AUC is {words.difference(row)}, for {row.attack} from"
        f" {row.before} to {row.after}, on the same records.{left}{_hedge(row, rows)}"
    )


def _hedge(largest: Comparison, rows: list[Comparison]) -> str:
    """How many of several intervals lie below 0, where the largest difference alone would mislead."""
    below = sum(map(words.falls, rows))
    if words.falls(largest):
        return " One of several can lie below 0 by luck." if below == 1 < len(rows) else ""
    return f" Of the {len(rows)} intervals {below} {'lies' if below == 1 else 'lie'} below 0." if below else ""


def _exposed(results: Results) -> Iterator[str]:
    if not results.people:
        return
    most = max(results.people, key=lambda person: person.exposure)
    above = sum(person.exposure_ci[0] > CHANCE for person in results.people)
    count, many = len(results.people), words.units(results.data)[1]
    yield (
        f"Most exposed is {most.person}, with AUC {most.exposure:.2f} {words.interval(most.exposure_ci)}. The largest"
        f" of {count} is partly luck, so do not read much into who it is. The intervals of {above} of {count} {many}"
        f" lie above 0.5; luck alone would give about {_by_luck(count)}."
    )


def _by_luck(count: int) -> str:
    expected = count * LUCK_TAIL
    return f"{expected:.0f}" if expected >= 1 else f"{expected:.1f}"


def _edge(results: Results) -> Iterator[str]:
    if not results.edge:
        return
    tight = [row.artifact for row in results.edge if not row.fits]
    if tight:
        count = f"{len(tight)} of {len(results.edge)}"
        yield f"{count} exported models do not fit their device, the first being {tight[0]}."
        yield words.remedies(results)
    if (said := words.one_inference(results)) is not None:
        yield said
    labels = words.litert_labels(results.edge)
    rows = sum(row.rows_compared for row in results.edge)
    if labels:
        yield f"LiteRT and TFLite Micro give different labels for {labels:,} of {rows:,} records. Trust the device's."
    if results.litert is not None:
        yield words.litert_verdict(results.litert)


def _unmeasurable(results: Results) -> Iterator[str]:
    keys = sorted({key for row in results.attacks for key in row.tpr_at_fpr}, key=float, reverse=True)
    for key in keys:
        short = [row for row in results.attacks if key in row.tpr_at_fpr and row.tpr_at_fpr[key] is None]
        if not short:
            continue
        have, need = min(row.nonmembers for row in short), round(words.FALSE_ALARMS_NEEDED / float(key))
        expected = have * float(key)
        yield (
            f"What is caught at {words.false_alarms(key)} false alarms is not measurable: {have:,} non-members give"
            f" about {expected:.1f} false alarms at that rate, and a fair figure needs ten, so {need:,} non-members."
        )


def _protection(results: Results) -> Iterator[str]:
    if all(budget.epsilon == "inf" for budget in results.budgets):
        hidden = results.protection is not None
        yield (
            f"{'Single updates are hidden, but no' if hidden else 'Nothing in this run protects anybody: no'} noise is"
            " added, so epsilon is infinite and no limit on what can leak is promised. A small leak here means only"
            " that these attacks found little; a better one may find more."
        )
        return
    groups: dict[tuple[str, str, str], list[Budget]] = {}
    for budget in results.budgets:
        groups.setdefault((budget.unit, words.epsilon(budget), budget.why), []).append(budget)
    for (unit, epsilon, why), rows in groups.items():
        against = "; ".join(words.AGAINST[row.vantage] for row in rows)
        if epsilon == "∞":
            yield f"One {unit} is promised nothing (epsilon is infinite) against {against}: {why}."
        else:
            yield (
                f"One {unit} is promised epsilon {epsilon} at delta {rows[0].delta:g}, with {rows[0].adjacency},"
                f" against {against}: {why}."
            )
    if results.protection is not None:
        yield from results.protection.caveats


def _protection_s_cost(results: Results) -> Iterator[str]:
    if results.protection is None:
        return
    parts = [
        f"{words.cost(row)} for the {row.model} model{'s' if row.model == 'personal' else ''}"
        f" (without it {row.unprotected:.3f})"
        for row in results.protection.cost
    ]
    yield (
        f"What protection does to accuracy, against the same run without it: {' and '.join(parts)}. The intervals cover"
        " which people and records were in the study, not the luck of training."
    )


def _rounds_lost(results: Results) -> Iterator[str]:
    if results.protection and results.protection.stopped:
        yield f"Training stopped early, {results.protection.stopped}."
    refused = [each for each in results.rounds if each.refused]
    if refused:
        yield (
            f"{len(refused)} of {len(results.rounds)} rounds were refused and changed nothing; the first, round"
            f" {refused[0].round}: {refused[0].refused}."
        )
    lost = [(each.round, *pair) for each in results.rounds for pair in each.dropped.items()]
    if lost:
        number, client, why = lost[0]
        yield f"{len(lost)} updates are missing; the first is client {client}'s in round {number}: {why}."


def _cannot(results: Results) -> Iterator[str]:
    for reason in words.untried(results):
        yield f"Not tried: {reason}."


def _population(results: Results) -> Iterator[str]:
    assumption = results.population.assumption.strip().rstrip(".")
    yield (
        f"An assumption about the attacker: {assumption[:1].lower()}{assumption[1:]}. One that holds more data, or data"
        " more like the members', may do better."
    )


def _training_luck(results: Results) -> Iterator[str]:
    many = words.units(results.data)[1]
    if results.data.people < FEW_PEOPLE:
        yield (
            f"The intervals cover which records were measured. {results.data.people} {many} are too few to say how"
            f" others would fare: for that, have records of {FEW_PEOPLE} or more."
        )
    yield (
        f"The intervals cover the luck of who was measured, not the luck of training: this is one training run,"
        f" seed {results.seed}, and another seed would give somewhat different figures."
    )
