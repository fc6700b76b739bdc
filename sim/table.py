"""The results in a terminal: who could see what, what they learnt, and whether to believe it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from sim import structure
from sim.budgets import Plan
from sim.report import arms, beyond, calibrated, recovered, tampered, words
from sim.results import AttackResult, Budget, Control, EdgeResult, Results, TamperingResult, TprAtFpr
from sim.verdict import control_holds, leaks, singles_out

MAX_WIDTH = 100
_LOW, _LOWER = "0.01", "0.001"
_WORDS = 2  # the first columns of the attacks hold words, the others figures


def render(results: Results, console: Console, report: Path | None = None) -> None:
    """Print the results, then the findings, then where the report is, at most 100 columns wide."""
    width = min(MAX_WIDTH, console.width)
    heading = f"{results.title}: {words.crowd(results.data)}, seed {results.seed}"
    console.print(Text(printable(heading, console), style="bold"), width=width)
    if results.data.synthetic:
        console.print(Text("SYNTHETIC DATA: these figures say nothing about any real person.", "bold"), width=width)
    console.print(Text(printable(results.summary, console), style="bold"), width=width)
    console.print()
    protected = [_promises(results.budgets, console), _cost(results)] if results.protection else []
    newcomers = [_newcomers(results)] if arms.rows(results) else []
    masks = [_masks(results)] if results.recoveries else []
    more = [_beyond(results)] if beyond.lines(results) else []
    tampering = [_tampering(results.tampering)] if results.tampering else []
    calibration = [_calibration(results)] if results.calibration_leak else []
    for section in (
        _attacks(results, width),
        *newcomers,
        *masks,
        *more,
        *calibration,
        *tampering,
        *protected,
        _controls(results),
        _accuracy(results),
        _edge(results),
    ):
        console.print(section, width=width)
        console.print()
    console.print(Text("Findings", style="bold"))
    for sentence in results.findings:
        bullet(sentence, console, width)
    if report is not None:
        console.print()
        # A path that is wrapped can be neither clicked nor copied.
        console.print(Text(f"Report: {report}"), soft_wrap=True)


def bullet(sentence: str, console: Console, width: int) -> None:
    """Print one sentence of a list."""
    row = Table.grid(padding=(0, 1))
    row.add_column(width=1)
    row.add_column(max_width=width - 4)
    row.add_row("-", Text(printable(sentence, console)))
    console.print(Padding(row, (0, 0, 0, 1)), width=width)


def printable(text: str, console: Console) -> str:
    """What this terminal's encoding can show of text that holds names from users' data, or an infinite epsilon."""
    try:
        "∞".encode(console.encoding)
    except UnicodeEncodeError:
        text = text.replace("∞", "infinite")
    return text.encode(console.encoding, "replace").decode(console.encoding)


def grid(title: str, columns: Sequence[str], left: int) -> Table:
    """A table whose first `left` columns are words and whose others are figures."""
    table = Table(box=box.SIMPLE_HEAD, title=Text(title, "bold"), title_justify="left", pad_edge=False, padding=(0, 1))
    for number, name in enumerate(columns):
        if number < left:
            table.add_column(name, overflow="fold", min_width=8, no_wrap=number == 0)
        else:
            table.add_column(name, justify="right", overflow="fold")
    return table


def _attacks(results: Results, width: int) -> Group:
    """One block per vantage under a line of plain words, all with the same columns."""
    head = ["  attack", "model", "AUC", f"caught at {words.false_alarms(_LOW)} false alarms"]
    name = max(len(head[0]), *(len(row.attack) + 2 for row in results.attacks))
    wide = width >= MAX_WIDTH
    lower = any(row.tpr_at_fpr.get(_LOWER) for row in results.attacks)
    usual = _usual_rate(results.attacks)
    widths = [min(name, 22 if wide else 18), 16, 17, 30 if wide else 19, *([10] if lower else [])]
    head += [f"at {words.false_alarms(_LOWER)}"] if lower else []
    title = Text("Who learns what (AUC 0.5 is a coin toss)", "bold")
    parts: list[RenderableType] = [title, Text(), _block([[Text(cell, "dim") for cell in head]], widths)]
    for vantage in words.VANTAGES.values():
        rows = [_attack(row, usual, lower=lower) for row in results.attacks if row.vantage == vantage.name]
        if rows:
            heading = Text.assemble((vantage.name, "bold cyan"), (f": {vantage.may}", "cyan"))
            parts += [Text(), heading, _block(rows, widths)]
    if usual:
        parts += [Text(), Text(f"  Really reached: {usual} false alarms, or what stands as (at x)", "dim")]
    if len(results.attacks) > 1:
        parts += [Text(f"  Bold: above a coin toss even when all {len(results.attacks)} attacks are counted", "dim")]
    if not lower:
        parts += [Text(f"  Caught at {words.false_alarms(_LOWER)} false alarms: {words.NOT_MEASURABLE}", "dim")]
    return Group(*parts)


def _block(rows: list[list[Text]], widths: Sequence[int]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    for number, width in enumerate(widths):
        table.add_column(width=width, justify="left" if number < _WORDS else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def _usual_rate(rows: Sequence[AttackResult]) -> str | None:
    """The false-alarm rate that most rows reached: said once below the table, not in every row."""
    cells = [cell for row in rows if (cell := row.tpr_at_fpr.get(_LOW))]
    return Counter(words.percent(cell.realised_fpr) for cell in cells).most_common(1)[0][0] if cells else None


def _attack(row: AttackResult, usual: str | None, *, lower: bool) -> list[Text]:
    low, lowest = row.tpr_at_fpr.get(_LOW), row.tpr_at_fpr.get(_LOWER)
    area, caught = Text(words.auc(row), "bold" if leaks(row) else ""), _caught(low, usual)
    if singles_out(row):
        caught.stylize("bold")
    cells = [Text(f"  {row.attack}"), Text(words.model_of(row)), area, caught]
    return [*cells, _caught(lowest, None, brief=True)] if lower else cells


def _caught(cell: TprAtFpr | None, usual: str | None, *, brief: bool = False) -> Text:
    if cell is None:
        return Text(words.NOT_MEASURABLE, "dim")
    if brief:
        return Text(words.percent(cell.tpr))
    return Text(words.tpr(cell).removesuffix(f" (at {usual})"))


def _newcomers(results: Results) -> Table:
    columns = ("attack", "model", "AUC, helped to train", "AUC, only fine-tuned")
    table = grid("Personal models of people who helped to train, and of newcomers", columns, 2)
    for row in arms.rows(results):
        table.add_row(*map(Text, (row.attack, words.target_of(row), *arms.cells(row))))
    return table


def _masks(results: Results) -> Table:
    columns = ("victim", "colluding", "seeds tried", "core seconds", "full search", "update")
    table = grid("What the masks hide from the server and the clients in league with it", columns, 2)
    for row in results.recoveries:
        cells = (f"client {row.victim}", recovered.who(row), f"{row.searched:,}")
        found = Text("recovered", "bold red") if row.recovered else Text("not found")
        table.add_row(*map(Text, (*cells, f"{row.cpu_seconds:.1f}", recovered.full_search(row))), found)
    return table


def _calibration(results: Results) -> Table:
    columns = ("files", "AUC", "surely in", "surely out", "control AUC")
    table = grid("Who was in the calibration set, from the ranges in the file", columns, 1)
    for row in results.calibration_leak:
        cells = (calibrated.auc(row), calibrated.right(row.found), calibrated.right(row.excluded))
        table.add_row(*map(Text, (calibrated.model(row), *cells, calibrated.public_auc(row))))
    return table


def _tampering(found: TamperingResult) -> Table:
    if found.amplification:
        columns = ("attack", "model", "AUC, targeted", "AUC, others", "difference")
        table = grid("Truth serum: is the membership of targeted records easier to tell?", columns, 2)
        for row in found.amplification:
            which = tampered.attack_row(row)
            auc = f"{row.auc:.2f} {words.interval(row.auc_ci)}"
            others = f"{row.others_auc:.2f} {words.interval(row.others_auc_ci)}"
            table.add_row(*map(Text, (row.attack, words.model_of(which), auc, others, tampered.apart(row))))
        return table
    columns = ("model", "success", "without tampering", "accuracy", "difference")
    table = grid(f"Tampering: {tampered.HOW[found.how]} against {found.combine}", columns, 1)
    for outcome in found.outcomes:
        before, accuracy = tampered.without(outcome.success_change), words.rate(outcome.accuracy)
        cells = (tampered.model(outcome), tampered.share(outcome), before, accuracy)
        table.add_row(*map(Text, (*cells, tampered.change(outcome.accuracy_change))))
    return table


def _beyond(results: Results) -> Table:
    table = grid("More than membership: what came out of updates and models", ("attack", "worked from", "got"), 3)
    for line in beyond.lines(results):
        table.add_row(Text(line.attack), Text(line.seen), Text(line.result, "bold red" if line.bad else ""))
    return table


def _controls(results: Results) -> Table:
    table = grid("Controls (must not lie above 0.5)", ("control", "sees", "AUC", "as it must"), 2)
    for name, sees, control in (
        ("blind", "the data, no model", results.controls.blind),
        ("stranger", "a model that never saw the client", results.controls.stranger),
    ):
        auc = f"{words.rate(control.auc)} {words.interval(control.auc_ci)}"
        table.add_row(Text(name), Text(sees), Text(auc), _held(control))
    return table


def render_plan(plan: Plan, console: Console) -> None:
    """Print what a plan would promise, with how much noise, and why."""
    width = min(MAX_WIDTH, console.width)
    console.print(_promises(plan.budgets, console), width=width)
    for unit, noise in (("record", plan.record_noise_multiplier), ("client", plan.client_noise_multiplier)):
        if noise is not None:
            bullet(f"noise multiplier for a {unit}: {noise:.4g}", console, width)
    for why in (*dict.fromkeys(map(words.promise, plan.budgets)), *plan.caveats):
        bullet(why, console, width)
    console.print()
    console.print(Text("What weight updates tell by their shape, whatever is promised", style="bold"))
    for sentence in structure.sentences(plan.structure):
        bullet(sentence, console, width)


def _promises(budgets: Sequence[Budget], console: Console) -> Table:
    table = grid("What is promised (smaller is safer)", ("to one", "against", "epsilon", "delta"), 2)
    for budget in budgets:
        epsilon = printable(words.epsilon(budget), console)
        delta = "-" if budget.delta is None else f"{budget.delta:g}"
        table.add_row(*map(Text, (budget.unit, words.AGAINST[budget.vantage], epsilon, delta)))
    if any(budget.noise == "seed" for budget in budgets):
        table.caption = "noise from the printed seed: whoever has it can take the noise off"
    return table


def _cost(results: Results) -> Table:
    table = grid("Accuracy: what protection costs", ("model", "without it", "difference"), 1)
    assert results.protection is not None
    for row in results.protection.cost:
        table.add_row(*map(Text, (row.model, words.rate(row.unprotected), words.cost(row))))
    return table


def _held(control: Control) -> Text:
    return Text("yes", "green") if control_holds(control) else Text("NO", "bold red")


def _accuracy(results: Results) -> Table:
    table = grid("Accuracy on held-out records", ("model", "all clients", "worst client", "on members"), 1)
    for target, precision, utility in words.utilities(results):
        name = f"{target} {precision}{'' if precision == 'float32' else ', on the device'}"
        pooled = f"{words.rate(utility.accuracy)} {words.interval(utility.accuracy_ci)}"
        cells = (
            name,
            pooled,
            words.rate(utility.worst_client),
            words.rate(utility.member_accuracy, missing="no members"),
        )
        table.add_row(*map(Text, cells))
    return table


def _edge(results: Results) -> Table:
    groups = words.by_device(results)
    devices = list(dict.fromkeys(device for device, _ in groups))
    title = f"On the device: {devices[0]}" if len(devices) == 1 else "On the devices"
    table = grid(
        title,
        ("model", "count", "bytes", "arena", "fit", "same label as float", "mean error (largest)", "LiteRT differs"),
        1,
    )
    for (device, target), rows in groups.items():
        name = target if len(devices) == 1 else f"{device}, {target}"
        # As Text, since rich reads square brackets in a plain string as markup.
        table.add_row(*map(Text, (name, *_edge_cells(rows))))
    return table


def _edge_cells(rows: list[EdgeResult]) -> tuple[str, ...]:
    return (
        str(len(rows)),
        words.span([row.bytes for row in rows]),
        words.span([row.arena_bytes for row in rows]),
        f"{sum(row.fits for row in rows)}/{len(rows)}",
        words.percent_span([row.top1_agreement for row in rows]),
        words.export_errors(rows, brief=True),
        words.litert_rows(rows),
    )
