"""Whether a person took part at all, told from records of theirs that nobody trained on."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from attacks import signals
from attacks.observation import Observation
from attacks.references import answered, left_out, mean_left_out


def participation(observation: Observation) -> tuple[Int[np.ndarray, " people"], Float[np.ndarray, " people"]]:
    """Each person among `observation.client` once, and their score: larger for likelier participants.

    Score: mean over the person's candidates of log p(y | x) at the model less its mean over the references, so that
    people whose records are easy for every model gain nothing. The candidates are fresh: not one was trained on, and
    what is left is how well the model knows such a person (Kandpal et al. 2023, arXiv 2310.09266: user inference).
    Unit: person. Vantage: whoever may query the model and holds some records of each person in question.
    """
    assert observation.client is not None
    target, others = answered(observation, signals.loss)
    usual, _ = mean_left_out(others, left_out(observation))
    gain = (usual - target)[: len(observation.candidates)]
    people = np.unique(observation.client)
    return people, np.array([gain[observation.client == person].mean() for person in people])
