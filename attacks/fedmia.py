"""FedMIA: the other clients of a round say what a model looks like that was not trained on a record."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool
from scipy.special import ndtr

from attacks.broadcast import MAX_ROUNDS
from attacks.cosine import cosines
from attacks.held import Column, Scores, Signal, mean_over_rounds, own
from attacks.observation import Guess, Observation
from attacks.update_loss import minus_losses

_OUTLIER = 3.0  # standard deviations above the mean: another client that holds the record too, or one much like it


def by_loss(observation: Observation, rng: np.random.Generator, max_rounds: int = MAX_ROUNDS) -> Guess:
    """FedMIA I (Zhu et al. 2024, arXiv 2402.06289): `above_others` of minus the loss at the clients' models.

    Unit: record. Vantage: a server that sees single updates, three or more in a round. Rounds, clients without any, and
    errors as for `held.mean_over_rounds`.
    """
    return mean_over_rounds(
        "fedmia-loss", observation, rng, minus_losses, above_others, others=2, neutral=-0.5, max_rounds=max_rounds
    )


def by_cosine(observation: Observation, rng: np.random.Generator, max_rounds: int = MAX_ROUNDS) -> Guess:
    """FedMIA II: `above_others` of the cosine of gradient and update. Otherwise as `by_loss`."""
    return mean_over_rounds(
        "fedmia-cosine", observation, rng, cosines, above_others, others=2, neutral=-0.5, max_rounds=max_rounds
    )


def above_others(signal: Signal, column: Column) -> Scores:
    """Phi((m_c - mu) / sigma) - 1, with mean and deviation of the signal m over the clients other than c.

    Others more than three deviations above their mean are left out first. The 1 is taken off, which changes no order,
    because far above the mean Phi is a 1 to a computer; here it is a small number below 0, and no tie.
    """
    others = np.ones(signal.shape, dtype=bool)
    others[np.arange(len(signal)), column] = False
    mean, deviation = _moments(signal, others)
    others &= signal <= (mean + _OUTLIER * deviation)[:, None]
    mean, deviation = _moments(signal, others)
    return np.asarray(-ndtr(-(own(signal, column) - mean) / np.maximum(deviation, np.finfo(np.float64).eps)))


def _moments(signal: Signal, where: Bool[np.ndarray, "records clients"]) -> tuple[Scores, Scores]:
    return signal.mean(axis=1, where=where), signal.std(axis=1, where=where)
