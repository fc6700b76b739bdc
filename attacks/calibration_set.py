"""Who was in the calibration set: the ranges in an int8 file tell which records reached that far, and which went past.

Post-training quantisation runs the float model over calibration records and keeps each activation tensor's smallest
and largest value, as a scale and a zero point. A record that goes past a recorded end was not among them; one that
ends exactly there probably set it. This holds whether or not the model was trained on the record.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr
from scipy.stats import norm

from attacks.attack import Attack
from attacks.observation import Ends, Guess, Observation, Opened

SURE = math.log(1000)  # a log-likelihood ratio to call a record by: a thousand times likelier one way than the other
EXACT = 2e-7  # of a range's width: what float32 leaves of a number that no weight touches
_TAIL = 0.9  # quantile of the population from which on a tail is taken to be exponential
_DRAWS = 4  # how often weights are moved to see what rounding does
_MOVED = 100  # population records to see it on
_PRESENT = 0.5  # prior probability that the record at a range's other end is a candidate too
_FAR = 100.0  # mean excesses from an end beyond which nothing changes
_MISFIT = 1e-4  # share of figures that the model of the noise does not cover

Values = Float[np.ndarray, " records"]


@dataclass(frozen=True, slots=True)
class Side:
    """One end of one tensor's range, turned so that larger is further out: records' own ends against the recorded one.

    `other` are the candidates' own opposite ends plus the width of the range: where this end would be, had that
    candidate set the opposite one. Empty where only one end is in use.
    """

    recorded: float
    half_step: float  # the recorded end is off by as much, at most
    noise: float  # standard deviation of the attacker's figures, by the weights' rounding
    tail: float  # mean excess of the attacker's own records' ends over their 90 % quantile
    own: Values  # the attacker's own records' ends
    other: Values


def run(observation: Observation, rng: np.random.Generator) -> Guess:
    """Score: log-likelihood ratio of a candidate's activations, in the calibration set against outside of it.

    Summed over both ends of all tensors as if they were independent. They are not: a loud record is loud in every
    layer, so the sum overstates what is known.
    The attacker's own records are taken to be outside. Unit: record of the calibration set, whether or not the model
    was trained on it. Vantage: whoever holds the file.
    """
    file = observation.file
    assert file is not None
    both = observation.candidates.joined(observation.population)
    ends = file.extremes(both.x, None)
    count = len(observation.candidates)
    scores = np.zeros(len(both))
    for tensor, outward, side in sides(file, ends, count, _noise(observation, rng)):
        scores += ratio(outward * ends[int(outward > 0)][:, tensor], side, file.calibration_records)
    return Guess(scores[:count], scores[count:])


def sides(file: Opened, ends: Ends, candidates: int, noise: Ends) -> Iterator[tuple[int, float, Side]]:
    """Every end that calibration records set: its tensor, +1 for the upper or -1 for the lower, and what is known."""
    for tensor, (low, high) in enumerate(zip(file.low, file.high, strict=True)):
        own = [end[candidates:, tensor] for end in ends]
        # A rectified tensor starts at zero exactly; any other's zero point is rounded, though it may say zero.
        half_step = 0.0 if own[0].min() >= 0 else (high - low) / 510
        for outward, recorded in ((1.0, high), (-1.0, -low)):
            this, opposite = (1, 0) if outward > 0 else (0, 1)
            if recorded <= 0:
                continue
            others = outward * ends[opposite][:candidates, tensor] + (high - low)
            moved = recorded * (1 - 1 / file.grid) / 2  # a true end is anywhere down to the grid's next point
            yield (
                tensor,
                outward,
                Side(
                    recorded=recorded - moved,
                    half_step=half_step + moved,
                    noise=max(float(noise[this][0, tensor]), EXACT * (high - low)),
                    tail=_mean_excess(outward * own[this], EXACT * (high - low)),
                    own=outward * own[this],
                    other=others if half_step and file.grid == 1 else others[:0],
                ),
            )


def ratio(values: Values, side: Side, count: int) -> Values:
    """Log-likelihood ratio of records' own ends: among the `count` calibration records, against not among them.

    Inside: with probability 1 / count the record set the end, so its value is the recorded one, blurred by the zero
    point's rounding and the noise; else it comes from below. Outside: the tail of everybody's values, of which
    1 / (count + 1) is expected beyond the end, and whatever value the attacker's own records share exactly.
    """
    beyond = values - side.recorded
    away = beyond - np.clip(beyond, -side.half_step, side.half_step)  # from the nearest place where the end may be
    tails = np.clip(np.maximum(away, -3 * side.noise) / side.tail, -_FAR, _FAR)
    outside = np.exp(-tails) / (side.tail * (count + 1)) + _shared(values, side)
    set_it = _density(values, side) / count
    below = (1 - 1 / count) * (1 + 1 / count) * _not_past(beyond, side) * outside
    misfit = _MISFIT * outside
    return np.asarray(np.log((1 - _MISFIT) * (set_it + below) + misfit) - np.log(outside))


def _density(values: Values, side: Side) -> Values:
    """Of the true end: anywhere within half a step, or rather where a candidate at the opposite end would put it."""
    beyond = values - side.recorded
    if not side.half_step:
        return np.asarray(norm.pdf(beyond, scale=side.noise))
    anywhere = (ndtr((beyond + side.half_step) / side.noise) - ndtr((beyond - side.half_step) / side.noise)) / (
        2 * side.half_step
    )
    near = side.other[np.abs(side.other - side.recorded) <= side.half_step + 3 * side.noise]
    if not len(near):
        return np.asarray(anywhere)
    blurred = norm.pdf(values[:, None], loc=near, scale=side.noise * math.sqrt(2)).mean(axis=1)
    return np.asarray((1 - _PRESENT) * anywhere + _PRESENT * blurred)


def _not_past(beyond: Values, side: Side) -> Values:
    """Probability that a value is not beyond the true end, which is anywhere within half a step, given the noise."""
    if not side.half_step:
        return np.asarray(ndtr(-beyond / side.noise))
    upper, lower = (side.half_step - beyond) / side.noise, (-side.half_step - beyond) / side.noise
    area = upper * ndtr(upper) + norm.pdf(upper) - lower * ndtr(lower) - norm.pdf(lower)  # integral of the normal's
    return np.asarray(np.clip(area * side.noise / (2 * side.half_step), 0, 1))


def _shared(values: Values, side: Side) -> Values:
    """Density that is due to values which records share exactly, such as a sensor's limit or an image's white."""
    width = EXACT * max(abs(side.recorded), float(np.abs(side.own).max()))
    ordered = np.sort(side.own)
    shared = np.searchsorted(ordered, values + width, "right") - np.searchsorted(ordered, values - width, "left")
    return np.asarray(np.where(shared > 1, shared, 0) / (len(ordered) * 2 * side.noise))


def _mean_excess(own: Values, least: float) -> float:
    start = np.quantile(own, _TAIL)
    return max(float((own[own >= start] - start).mean()), least)


def _noise(observation: Observation, rng: np.random.Generator) -> Ends:
    """Standard deviation that rounding the weights gives each tensor's ends, on records of the population."""
    assert observation.file is not None
    x = observation.population.x[:_MOVED]
    still = observation.file.extremes(x, None)
    moved = [observation.file.extremes(x, rng) for _ in range(_DRAWS)]
    low, high = (
        np.sqrt(np.mean([(each[end] - still[end]) ** 2 for each in moved], axis=(0, 1)))[None] for end in (0, 1)
    )
    return low, high


CALIBRATION_RANGES = Attack(
    "calibration-ranges",
    "Own activations against the ranges that the calibration set left in the file",
    run,
    ("file of the model",),
    "this project, docs/decisions/calibration-is-part-of-what-leaks.md",
)
