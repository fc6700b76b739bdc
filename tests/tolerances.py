"""Tolerances with a reason that holds on every processor: the rounding of float32, and the luck of a null target."""

FLOAT32 = 2.0**-24  # unit round-off: the relative error of one rounded operation
DEVIATIONS = 4.0  # standard errors: a null target is farther off in one test of 16,000, whatever the processor
ROOM = 8.0  # times the error that one summation is expected to have: training repeats it over layers and steps


def roundoff(terms: int, size: float = 1.0) -> float:
    """How far two float32 sums of `terms` numbers of about `size` lie apart when they are added in different orders.

    The expected error grows with the root of the number of terms (Higham, Accuracy and Stability of Numerical
    Algorithms, 2nd edition, section 4.2); which order is taken depends on the processor's vector width.
    """
    return ROOM * FLOAT32 * terms**0.5 * size


def near_chance(auc: float, interval: tuple[float, float]) -> bool:
    """Whether an AUC is that of a coin, within four of its own standard errors: a 95 % interval misses too often."""
    deviation = (interval[1] - interval[0]) / (2 * 1.96)
    return abs(auc - 0.5) <= DEVIATIONS * deviation
