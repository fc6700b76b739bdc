"""Labels out of the bias gradient of the last layer."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

Bias = Float[np.ndarray, " classes"]


def one_label(bias: Bias) -> int:
    """The label of the one record behind a gradient: the class whose entry is negative.

    With cross-entropy the gradient by the last bias is p - e_y, negative at y alone; iDLG (Zhao et al. 2020, arXiv
    2001.02610, equation 3). Exact for one record and one step; an update (broadcast minus returned weights) does as
    well, for its scale is positive. Raises ValueError where not exactly one entry is negative: more than one record.
    """
    negative = np.flatnonzero(bias < 0)
    if len(negative) != 1:
        raise ValueError(
            f"{len(negative)} classes have a negative gradient, one record gives exactly 1; for a batch use "
            "`label_counts`"
        )
    return int(negative[0])


def label_counts(bias: Bias, records: int, mean_probability: Bias) -> Int[np.ndarray, " classes"]:
    """How many of the batch's `records` have each label: n_k = records * (mean p_k - dL/db_k), rounded to that sum.

    `bias` is the gradient of the batch's mean loss (an update of one step, over the learning rate). `mean_probability`
    is what the broadcast model gives each class on the batch; the attacker takes its mean over its own people instead:
    close for a model that is not trained yet, and the error is of that size otherwise. After Wainakh et al. 2022
    (arXiv 2105.09369) and Geng et al. 2021 (arXiv 2110.09074). Raises ValueError for less than one record, or where
    nothing is left to share out.
    """
    if records < 1:
        raise ValueError(f"labels of {records} records asked for: at least 1")
    share = np.clip(records * (mean_probability.astype(np.float64) - bias), 0, None)
    if not share.any():
        raise ValueError("the gradient and the probabilities leave no label: is the gradient that of a mean loss?")
    share *= records / share.sum()
    counts: Int[np.ndarray, " classes"] = np.floor(share).astype(np.int64)
    largest = np.argsort(counts - share, kind="stable")[: records - counts.sum()]
    counts[largest] += 1
    return counts
