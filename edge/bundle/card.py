"""`README.md`: the model card, the manifest in words."""

from __future__ import annotations

from collections.abc import Iterator

from edge.bundle.c_array import symbol
from edge.bundle.facts import Attack, Board, Budget, Calibration, Cost, Data, Facts, Training, Tried
from edge.bundle.manifest import End, Graph
from edge.check import silent_words


def card(graph: Graph, facts: Facts, unknown: tuple[str, ...], size: int, digest: str) -> str:
    """In the order in which somebody who is handed the folder asks."""
    parts = [
        (f"{facts.name}: model card", _what(graph, facts, size, digest)),
        ("Where it runs", _runs(facts)),
        ("What it was made from", _made(facts)),
        ("What it gives away", _gives(facts)),
        ("What is not known", list(unknown) or ["Nothing that this card asks for."]),
        ("Files", _files(facts)),
    ]
    first, *others = ((title, "\n".join(f"- {line}" for line in lines)) for title, lines in parts)
    return "\n\n".join([f"# {first[0]}\n\n{first[1]}", *(f"## {title}\n\n{lines}" for title, lines in others)]) + "\n"


def _what(graph: Graph, facts: Facts, size: int, digest: str) -> Iterator[str]:
    yield f"A TensorFlow Lite model of {size:,} bytes, quantised as {facts.variant}, SHA-256 `{digest}`."
    yield f"Takes {_end(graph.input)}; gives {_end(graph.output)}, {graph.answers}."
    if facts.data is not None:
        yield from _ends_mean(graph, facts.data)
    yield f"Operators: {', '.join(f'{kind} x{times}' for kind, times in graph.operators.items())}."
    if facts.macs is not None:
        yield f"One inference is {facts.macs:,} multiply-accumulates."
    if facts.agreement is not None:
        yield (
            f"On {facts.agreement.records:,} records it gives the label of the float model that it was made from for "
            f"{facts.agreement.top1:.1%}; no output is further off than {facts.agreement.largest_error:.3g}"
            f"{_mean(facts)}."
        )


def _mean(facts: Facts) -> str:
    found = facts.agreement and facts.agreement.mean_error
    return "" if found is None else f", and the mean difference is {found:.2g}"


def _ends_mean(graph: Graph, data: Data) -> Iterator[str]:
    """What goes in and what comes out, for whoever writes the firmware."""
    shape = graph.input.shape
    if data.channels:
        yield f"A record's numbers: {_listed(data.channels)}."
    if len(shape) > 2:
        rows, columns, channels = shape[1:] if len(shape) == 4 else (1, *shape[1:])
        where = f"{columns} samples" if rows == 1 else f"{rows} rows of {columns} columns"
        rate = "" if data.hertz is None else f", {data.hertz:g} samples a second ({columns / data.hertz:g} s)"
        yield (
            f"In memory, one after the other: {where}{rate}, each with its {channels} "
            f"{'channel' if channels == 1 else 'channels'} side by side."
        )
    elif data.hertz is not None:
        yield f"Samples a second: {data.hertz:g}."
    if len(data.classes) == graph.output.shape[-1]:
        yield f"The outputs, in their order: {_listed(data.classes)}."


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(f"{number} {name}" for number, name in enumerate(names))


def _end(end: End) -> str:
    shape = "x".join(map(str, end.shape))
    if end.numbers == "float32":
        return f"{shape} float32 numbers"
    sign = "-" if end.zero_point >= 0 else "+"
    return f"{shape} {end.numbers} numbers, real = {end.scale!r} * (number {sign} {abs(end.zero_point)})"


def _runs(facts: Facts) -> Iterator[str]:
    if facts.tried:
        yield from map(_tried, facts.tried)
    else:
        yield f"Runtimes that take it: {', '.join(facts.runtimes) or 'none'}."
    if facts.arena_bytes is not None:
        yield (
            f"Working memory (tensor arena): {facts.arena_bytes:,} bytes, measured in TFLite Micro on the host; "
            "an upper bound for Cortex-M."
        )
    if facts.board is not None:
        yield _board(facts.board)
    yield from (_cost(name, cost) for name, cost in (("Latency", facts.latency), ("Energy", facts.energy)) if cost)


def _tried(tried: Tried) -> str:
    if tried.differing is None:
        return f"{tried.runtime} does not run it: {tried.why}."
    if tried.runtime == "tflm":
        return f"tflm (TFLite Micro, the reference) ran it on {tried.records:,} records."
    same = "all answers are" if not tried.differing else f"{tried.differing:,} of {tried.records:,} answers are not"
    return f"{tried.runtime} ran it on {tried.records:,} records: {same} TFLite Micro's, bit for bit."


def _board(board: Board) -> str:
    return f"{board.title}: {'fits' if board.fits else 'does not fit'}. {board.words}."


def _cost(name: str, cost: Cost) -> str:
    if cost.interval is None:
        return f"{name} of one inference: not known, because {cost.anchor}."
    low, high = cost.interval
    return f"{name} of one inference: {low:.3g} to {high:.3g} {cost.unit}. Rests on: {cost.anchor}."


def _made(facts: Facts) -> Iterator[str]:
    if facts.training is not None:
        yield _training(facts.training)
    if facts.data is not None:
        kind = {True: "synthetic", False: "real", None: "whether real people's is not stated"}[facts.data.synthetic]
        yield f"Training data: {facts.data.title} ({facts.data.source}; {kind}; licence: {facts.data.licence})."
    if facts.calibration is not None:
        yield _calibration(facts.calibration)
    if facts.training is None and facts.data is None and facts.calibration is None:
        yield "Nothing is recorded."


def _training(training: Training) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in sorted(training.versions.items()))
    return (
        f"Training run: scenario {training.scenario} ({training.scenario_hash}), seed {training.seed}, "
        f"model: {training.target}. {versions}."
    )


def _calibration(calibration: Calibration) -> str:
    rounded = calibration.rounded_ranges
    moved = "" if rounded is None else f" Ranges were moved outward to powers of {rounded:g}."
    silent = f" {silent_words(calibration.silent_layers)}." if calibration.silent_layers else ""
    return (
        f"Quantisation ranges were set by {calibration.records:,} records ({calibration.source}): "
        f"{calibration.description}. What those records reached can be read from the file.{moved}{silent}"
    )


def _gives(facts: Facts) -> Iterator[str]:
    if facts.budgets is not None:
        yield from map(_budget, facts.budgets)
        if not facts.budgets:
            yield "Differential privacy promises nothing here."
    yield from facts.caveats
    if facts.audit is not None:
        yield from map(_attack, facts.audit)
    for control in facts.controls:
        yield (
            f"Control, {control.name}: AUC {control.auc:.3f} (95 % interval {_interval(control.auc_ci)}); "
            "it should not lie above 0.5."
        )
    if facts.budgets is None and facts.audit is None:
        yield "Nothing is recorded."


def _budget(budget: Budget) -> str:
    why = f" {_sentence(budget.why)}" if budget.why else ""
    if budget.epsilon == "inf":
        return f"To one {budget.unit}, against {budget.vantage}: no promise.{why}"
    between = f", between data sets that differ by {budget.adjacency}" if budget.adjacency else ""
    return (
        f"To one {budget.unit}, against {budget.vantage}: epsilon {budget.epsilon:.3g} at delta {budget.delta or 0:g}"
        f"{between}.{why}"
    )


def _sentence(words: str) -> str:
    """Words from elsewhere, with a capital and a full stop."""
    return f"{words[0].upper()}{words[1:].rstrip('.')}."


def _attack(attack: Attack) -> str:
    said = (
        f"Strongest attack from {attack.vantage}: {attack.attack} on {attack.target}, AUC {attack.auc:.3f} "
        f"(95 % interval {_interval(attack.auc_ci)}) over {attack.members:,} members and "
        f"{attack.nonmembers:,} non-members"
    )
    if attack.tpr is None or attack.fpr is None:
        return f"{said}; too few to measure the share found at a low false-positive rate."
    within = f" (95 % interval {attack.tpr_ci[0]:.1%} to {attack.tpr_ci[1]:.1%})" if attack.tpr_ci else ""
    return f"{said}; finds {attack.tpr:.1%} of the members{within} at a false-positive rate of {attack.fpr:.1%}."


def _interval(ends: tuple[float, float]) -> str:
    return f"{ends[0]:.3f} to {ends[1]:.3f}"


def _files(facts: Facts) -> Iterator[str]:
    name = facts.name
    yield f"`{name}.tflite`: the model."
    yield (
        f"`{name}.cc`, `{name}.h`: the same bytes as `{symbol(name)}`, aligned to 16, with `{symbol(name)}_len`, "
        "for C11 and C++11."
    )
    yield "`manifest.json`: all of this for programs, with a SHA-256 of every other file."
