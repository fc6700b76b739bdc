"""Row span of a layer's weight updates: its rank above rounding, and how much of an update one record can account for.

A linear layer's gradient is a sum of (error at the units) times (input) over the records, so every row of a weight
update by SGD lies in the span of the inputs. Momentum changes the coefficients and not the span; L2 weight decay adds
the weights themselves, times one number (`without_decay`); Adam rescales each entry and keeps the span only roughly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

Rows = Float[np.ndarray, "rows inputs"]
Inputs = Float[np.ndarray, "records positions inputs"]
Values = Float[np.ndarray, " records"]

HALF_STEP = 2.0**-24  # largest relative error of rounding to float32
MARGIN = 4.0  # times the noise, from which on a direction is taken for one of the inputs'
MOST_ROUNDING = 64.0  # times rounding once a round: what thousands of local steps may leave of it
_ROOM = 1.1  # over the limit for large matrices, where the noise's largest singular value ends
_DECAY_FITS, _PENCIL = 6, 400
_LEAST = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True, slots=True)
class Span:
    """Singular values and right singular vectors of stacked updates, and about the largest that noise alone gives."""

    values: Float[np.ndarray, " directions"]
    vectors: Float[np.ndarray, "directions inputs"]
    noise: float
    moved: int  # input dimensions in which any weight moved at all
    complete: bool = False  # the noise is rounding, and further updates have nothing outside of these directions

    @property
    def rank(self) -> int:
        """Directions that stand out of the noise."""
        return int((self.values > MARGIN * self.noise).sum())

    @property
    def inside(self) -> float:
        """The least `log_share` of whatever lies in the span, where the span is known; else minus infinity.

        With s_k the smallest singular value that stands out of the noise s, what lies in the true span keeps at most
        (s / s_k)^2 of its length after shrinking, and as much for the tilt that noise gives the span (Wedin 1972).
        """
        if not self.complete or not self.rank:
            return -np.inf
        return float(2 * np.log(self.values[self.rank - 1] / self.noise) - np.log(2))

    def log_share(self, x: Inputs) -> Values:
        """Log of the largest share of the updates' energy, noise as the unit, that each record can account for.

        With M the stacked rows and s the noise: -log(x'(I + M'M / s^2)^-1 x / x'x), summed over a record's positions.
        The inverse is the largest v with M'M + s^2 I - v x x' positive semidefinite (Capon's beamformer, 1969): large
        in the span, near zero outside of it, and graded where the span is full or noisy. A plain projection residual
        (ProjRes, arXiv 2604.21197) is its limit for no noise. A record of zeros scores 0.
        """
        along = x @ self.vectors.T
        outside = ((x - along @ self.vectors) ** 2).sum(axis=(1, 2))
        shrunk = self.noise**2 / (self.values**2 + self.noise**2)
        left, whole = outside + (along**2 @ shrunk).sum(axis=1), (x**2).sum(axis=(1, 2))
        return np.asarray(-np.log(np.maximum(np.divide(left, whole, out=np.ones(len(x)), where=whole > 0), _LEAST)))


def span(rows: Rows, rounding: float) -> Span:
    """The span of `rows`, whose entries each have at least the error `rounding`, a standard deviation.

    Noise: its largest singular value is estimated from the smallest ones (`noise_edge`), and is never below that of
    `rounding` and of gradients computed in float32. Raises ValueError for rows that are not finite.
    """
    return _span(rows, rounding)[0]


def span_of_rounds(blocks: Sequence[Rows], rounding: float) -> Span:
    """The span of updates of several rounds; whether it is complete is seen by the last round, held out.

    Rounds hold one direction per unit at most, and fewer where units answer alike. That there are fewer directions
    than rows is no proof that all inputs are in; that one more round has nothing new is.
    """
    if len(blocks) > 1:
        found, floor = _span(np.concatenate(blocks[:-1]), rounding)
        signal = found.vectors[: found.rank]
        outside = blocks[-1] - (blocks[-1] @ signal.T) @ signal
        alone = found.rank < min(found.moved, sum(map(len, blocks[:-1])))
        clean = found.noise <= MOST_ROUNDING * floor and np.linalg.norm(outside, 2) <= MARGIN * found.noise
        if alone and clean:
            return replace(found, complete=True)
    return span(np.concatenate(blocks), rounding)


def _span(rows: Rows, rounding: float) -> tuple[Span, float]:
    if not np.isfinite(rows).all():
        raise ValueError("an update holds a number that is not finite: it has no span")
    moved, values, vectors = int(np.abs(rows).any(axis=0).sum()), *_principal(rows)
    floor = float(np.hypot(edge(rounding, len(rows), moved), HALF_STEP * np.linalg.norm(values) / np.sqrt(3)))
    noise = max(noise_edge(values, len(rows), moved), floor, _LEAST)
    return Span(values, vectors, noise, moved), max(floor, _LEAST)


def edge(deviation: float, rows: int, inputs: int) -> float:
    """Where the singular values of a matrix of independent errors end (Marchenko and Pastur 1967)."""
    return float(deviation * (np.sqrt(max(rows, 0)) + np.sqrt(max(inputs, 0))))


def noise_edge(values: Float[np.ndarray, " directions"], rows: int, inputs: int) -> float:
    """The largest singular value of the noise, from the ones that look like noise among themselves; 0 if none do.

    The fewest directions are taken for signal with which the rest ends where noise of its own energy would (Kritchman
    and Nadler 2009, IEEE TSP 57(10)). A spectrum that just falls has no such place before its last values.
    """
    squares = np.cumsum(values[::-1] ** 2)[::-1]
    for signal in range(min(rows, inputs, len(values))):
        left = (rows - signal) * (inputs - signal)
        end = _ROOM * edge(float(np.sqrt(squares[signal] / left)), rows - signal, inputs - signal)
        if values[signal] <= end:
            return float(end)
    return 0.0


def without_decay(updates: Sequence[Rows], weights: Sequence[Rows], rounding: float) -> list[Rows]:
    """Updates less what L2 weight decay took: in each round the broadcast weights times one number.

    A step of SGD with decay is linear in the weights, with momentum too, so an update is g W plus rows in the inputs'
    span, with one g for all entries of a round. The first guess is `_decay` of all rounds; then g is fitted outside of
    the directions that stand out, until it moves entries by less than `rounding`. It takes fewer records than half the
    rows or features.
    """
    guess, size = _decay(np.concatenate(updates), np.concatenate(weights)), max(np.abs(w).max() for w in weights)
    factors = np.full(len(updates), guess)
    for _ in range(_DECAY_FITS):
        left = [u - factor * w for u, factor, w in zip(updates, factors, weights, strict=True)]
        found = span(np.concatenate(left), rounding)
        signal = found.vectors[: found.rank]
        change = np.array([_slope(_across(u, signal), _across(w, signal)) for u, w in zip(left, weights, strict=True)])
        factors = factors + change
        if np.abs(change).max() * size < rounding:
            break
    return [u - factor * w for u, factor, w in zip(updates, factors, weights, strict=True)]


def _decay(updates: Rows, weights: Rows) -> float:
    """The number g at which updates - g weights loses rank: an eigenvalue as often as there are directions to spare.

    Of a square part of the pencil, evenly spaced rows and columns; the middle of the eigenvalues, of which it is more
    than half where there are few records.
    """
    size = min(*updates.shape, _PENCIL)
    rows, columns = (np.linspace(0, length - 1, size).round().astype(int) for length in updates.shape)
    part = np.ix_(rows, columns)
    ratio = np.linalg.lstsq(weights[part], updates[part], rcond=None)[0]
    return float(np.median(np.linalg.eigvals(ratio).real))


def _across(rows: Rows, directions: Float[np.ndarray, "directions inputs"]) -> Rows:
    return np.asarray(rows - (rows @ directions.T) @ directions)


def _slope(y: Rows, x: Rows) -> float:
    return float((y * x).sum() / max((x**2).sum(), _LEAST))


def _principal(rows: Rows) -> tuple[Float[np.ndarray, " directions"], Float[np.ndarray, "directions inputs"]]:
    """Singular values and right singular vectors, largest first."""
    compact = np.linalg.qr(rows, mode="r") if len(rows) > rows.shape[1] else rows
    _, values, vectors = np.linalg.svd(compact, full_matrices=False)
    return values, vectors


def rounding_of(weights: Rows) -> float:
    """Standard deviation of what rounding these weights to float32 once leaves."""
    steps = np.spacing(np.abs(weights).astype(np.float32)).astype(np.float64)
    return float(np.sqrt((steps**2).mean() / 12))
