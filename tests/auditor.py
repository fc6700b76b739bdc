"""Lower bounds on epsilon from trials with and without one unit's contribution: what the audits of mechanisms share.

Any threshold on a statistic is a test of (epsilon, delta)-DP: its rates must satisfy TPR <= e^epsilon FPR + delta, and
the same with the two exchanged. Clopper-Pearson bounds on both rates turn that into a *lower* bound on epsilon.
"""

import numpy as np
from scipy.stats import beta

DELTA = 0.05  # no protection at all, but what some thousands of trials measure best: a test needs rates above delta
CONFIDENCE = 0.999  # per audit; at the usual 95 % a correct mechanism with a tight audit fails once in 20


def rate_above(count, trials, error):
    """Clopper-Pearson: the rate is below this, but for a probability of `error`."""
    return 1.0 if count == trials else beta.ppf(1 - error, count + 1, trials - count)


def bound_at(threshold, with_record, without, confidence, delta=DELTA):
    """Lower bound on epsilon from one threshold, in either direction."""
    error = (1 - confidence) / 2  # for each of the two rates
    missed = rate_above(np.count_nonzero(with_record < threshold), len(with_record), error)
    alarms = rate_above(np.count_nonzero(without >= threshold), len(without), error)
    odds = [(1 - missed - delta) / alarms, (1 - alarms - delta) / missed]
    return float(np.log(max(1.0, *odds)))


def epsilon_below(with_record, without, confidence=CONFIDENCE):
    """Lower bound on epsilon. The threshold is chosen on one half of the trials and judged on the other."""
    half_with, half_without = len(with_record) // 2, len(without) // 2
    tuning = with_record[:half_with], without[:half_without]
    candidates = np.quantile(np.concatenate(tuning), np.linspace(0, 1, 201))
    threshold = max(candidates, key=lambda t: bound_at(t, *tuning, confidence))
    return bound_at(threshold, with_record[half_with:], without[half_without:], confidence)
