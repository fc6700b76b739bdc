"""Shadow models: a classifier learns from the attacker's own models what members' answers look like."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from attacks import signals
from attacks.observation import Guess, Observation, Output, VantageLacksError

TOP = 3

Answers = Float[np.ndarray, "records classes"]
Features = Float[np.ndarray, "records features"]


def run(observation: Observation, rng: np.random.Generator) -> Guess:  # noqa: ARG001 (nothing is random here)
    """Score: log-odds of a logistic regression that was taught on the references' answers. Unit: record.

    Shokri et al. 2017 (arXiv 1610.05820), one classifier for all classes. The references are the shadow models, their
    halves of the attacker's population the known members and non-members; the truth about the target is nowhere in it.
    The classifier never saw an answer of the target, so the population's scores under the target are honest without
    cross-fitting. Vantage: whoever can query the model and train references with its recipe. Raises VantageLacksError
    where the references trained on all of the population, or none of it.
    """
    oracle, own = observation.oracle, observation.population
    assert oracle is not None
    taught = [
        features(reference.predict(own.x), own.y, oracle.output, oracle.resolution)
        for reference in observation.references
    ]
    member = np.concatenate([reference.trained_on for reference in observation.references])
    if member.all() or not member.any():
        raise VantageLacksError(
            "attack 'shadow' needs references that trained on a part of the population, and not all"
        )
    both = observation.candidates.joined(own)
    asked = features(oracle(both.x), both.y, oracle.output, oracle.resolution)
    scores = _taught(np.concatenate(taught), member, asked)
    candidates = len(observation.candidates)
    return Guess(scores[:candidates], scores[candidates:])


def features(
    answers: Answers, labels: Int[np.ndarray, " records"], output: Output = "logits", resolution: float = 0.0
) -> Features:
    """The three largest probabilities, that of the true label, its loss, whether it came first, and which it is."""
    p, _ = signals.shares(answers, output)
    largest = -np.sort(-p, axis=1)[:, :TOP]
    loss = signals.loss(answers, labels, output, resolution)
    true, first = p[np.arange(len(labels)), labels], signals.correctness(answers, labels)
    return np.column_stack([largest, true, loss, first, np.eye(p.shape[1])[labels]])


def _taught(taught: Features, member: np.ndarray, asked: Features) -> Float[np.ndarray, " records"]:
    # Imported here: scikit-learn takes a second, and no other attack needs it.
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1_000)).fit(taught, member)
    return np.asarray(model.decision_function(asked), dtype=np.float64)
