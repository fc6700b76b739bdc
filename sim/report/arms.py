"""The words for people who helped to train the global model, beside those who only fine-tuned it."""

from __future__ import annotations

from collections.abc import Iterator

from sim.report import words
from sim.results import Arm, AttackResult, Results


def rows(results: Results) -> list[AttackResult]:
    """The attacks on personal models that were scored for both."""
    return [row for row in results.attacks if row.arms]


def cells(row: AttackResult) -> tuple[str, str]:
    """AUC on participants and on newcomers."""
    first, second = (_arm(row, who) for who in ("participants", "newcomers"))
    return _area(first), _area(second)


def sentences(results: Results) -> Iterator[str]:
    """The strongest attack on both, in plain words."""
    top = words.strongest(row for row in rows(results) if row.output != "label")
    if top is None:
        return
    participants, newcomers = cells(top)
    first, second = _arm(top, "participants"), _arm(top, "newcomers")
    why = " The two intervals overlap, so that they differ is not shown."
    if second.auc_ci[0] > first.auc_ci[1]:
        why = " Fine-tuning changes less about a record that the global model already knew."
    elif second.auc_ci[1] < first.auc_ci[0]:
        why = " What the global model knew of participants' records stays in their personal models."
    yield (
        f"The {second.clients} clients that only fine-tuned the finished model are attacked ({words.named(top)}) with"
        f" AUC {newcomers}, those that also helped to train it with {participants}.{why}"
    )


def _arm(row: AttackResult, who: str) -> Arm:
    return next(arm for arm in row.arms if arm.who == who)


def _area(arm: Arm) -> str:
    return f"{arm.auc:.2f} {words.interval(arm.auc_ci)}"
