"""What would make a model fit a board that it does not fit: measured alternatives, the smallest change first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from edge.devices import CODE, DEVICES, Device, Fit, Kernels, fits

Change = Literal["runtime", "variant", "model", "board"]
ORDER: Final[tuple[Change, ...]] = ("runtime", "variant", "model", "board")
"""From the smallest change: the same file with other code, the same weights in other numbers, other weights, another
board."""
_LEANER: Final[tuple[Kernels, ...]] = ("ahead-of-time", "reference")  # the slower kernels last


@dataclass(frozen=True)
class Measured:
    """A model file as it was measured: `name` is what it is called to people, such as "int4" or "width 32".

    `agreement` is the share of records that it labels as the model in use does, if that was measured: what the change
    costs. `operators` is how many kinds of operators it has.
    """

    name: str
    model_bytes: int
    arena_bytes: int
    operators: int = 10
    agreement: float | None = None


@dataclass(frozen=True)
class Remedy:
    """One change after which the model fits, and how: `fit` is on the board that it then runs on."""

    change: Change
    name: str
    fit: Fit
    words: str


def remedies(
    device: Device,
    current: Measured,
    variants: Sequence[Measured] = (),
    models: Sequence[Measured] = (),
    boards: Mapping[str, Device] = DEVICES,
) -> list[Remedy]:
    """Every single change that makes `current` fit, the smallest first; empty where it fits as it is, or none does.

    `variants` are files of the same weights in other numbers, `models` those of other weights (a smaller width), each
    measured. Among variants those that keep most labels come first, then those handed in first; among models the
    largest; among boards the one with the least flash and RAM. Nothing is estimated: what was not measured is not
    proposed.
    """
    if fits(device, current.model_bytes, current.arena_bytes, operators=current.operators).fits:
        return []
    by_labels = sorted(variants, key=lambda each: -1.0 if each.agreement is None else -each.agreement)
    by_size = sorted(models, key=lambda each: -(each.model_bytes + each.arena_bytes))
    others = sorted(
        (board for board in boards.values() if board.name != device.name),
        key=lambda board: (board.flash_bytes + board.usable_sram_bytes, board.name),
    )
    found = [
        *_runtimes(device, current),
        *_files("variant", device, current, by_labels),
        *_files("model", device, current, by_size),
        *_boards(current, others),
    ]
    return [remedy for remedy in found if remedy.fit.fits]


def _runtimes(device: Device, current: Measured) -> Iterable[Remedy]:
    if not device.architecture.startswith("cortex"):
        return
    for kernels in _LEANER:
        code = CODE[kernels]
        fit = fits(device, current.model_bytes, current.arena_bytes, kernels=kernels, operators=current.operators)
        words = f"the same file with {code.title}: {code.code_bytes:,} bytes of runtime code, {_needs(fit)}"
        yield Remedy("runtime", kernels, fit, words)


def _files(change: Change, device: Device, current: Measured, others: Iterable[Measured]) -> Iterable[Remedy]:
    for other in others:
        fit = fits(device, other.model_bytes, other.arena_bytes, operators=other.operators)
        words = (
            f"{other.name}: {_by(current.model_bytes, other.model_bytes)} of model and "
            f"{_by(current.arena_bytes, other.arena_bytes)} of arena, {_needs(fit)}"
        )
        if other.agreement is not None:
            words += f"; it gives the same label for {other.agreement:.1%} of the records"
        yield Remedy(change, other.name, fit, words)


def _boards(current: Measured, boards: Iterable[Device]) -> Iterable[Remedy]:
    for board in boards:
        fit = fits(board, current.model_bytes, current.arena_bytes, operators=current.operators)
        yield Remedy("board", board.name, fit, f"the same file on {board.title}: {_needs(fit)}")


def _by(before: int, after: int) -> str:
    return f"{after:,} instead of {before:,} bytes"


def _needs(fit: Fit) -> str:
    return (
        f"flash {fit.flash.needed:,} of {fit.flash.available:,} bytes, "
        f"RAM {fit.ram.needed:,} of {fit.ram.available:,} bytes"
    )
