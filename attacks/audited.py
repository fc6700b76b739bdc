"""Membership attacks that only an audit of a file can make: on errors, on a pair of files, with few queries at once.

They keep to the contract of `attacks.registry.ATTACKS`, from which an audit takes the others.
"""

from __future__ import annotations

from attacks import augmented, compressed, errors
from attacks.attack import Attack
from attacks.registry import LABELS, PAIR, QUERY, REFERENCES, WATSON, YEOM

COMPLEAK = "after CompLeak 2025, arXiv 2507.16872"

AUDITED: dict[str, Attack] = {
    attack.name: attack
    for attack in (
        Attack(
            "label-copies",
            "How many of a record's noisy copies keep its label, from hardly any noise to much",
            augmented.run,
            LABELS,
            "after Choquette-Choo et al. 2021, arXiv 2007.14321",
            labels_alone=True,
        ),
        Attack("pair-joint", "Loss of the model and of its compressed self, added", compressed.joint, PAIR, COMPLEAK),
        Attack(
            "pair-difference",
            "Loss of the compressed model less that of the original",
            compressed.difference,
            PAIR,
            COMPLEAK,
        ),
        Attack("pair-ratio", "Loss of the compressed model over the original's", compressed.ratio, PAIR, COMPLEAK),
        Attack("error", "Reconstruction or prediction error", errors.error, QUERY, YEOM),
        Attack("error-relative", "Error beside the variance of what is to be answered", errors.relative, QUERY, WATSON),
        Attack("error-calibrated", "Error below the references' error", errors.calibrated, REFERENCES, WATSON),
        Attack(
            "error-likelihood",
            "Likelihood ratio of the error (LiRA with Bayesian variance), offline, one-sided",
            errors.likelihood,
            REFERENCES,
            "after Carlini et al. 2022, arXiv 2112.03570",
        ),
        Attack(
            "pair-error-joint",
            "Error of the model and of its compressed self, added",
            compressed.error_joint,
            PAIR,
            COMPLEAK,
        ),
        Attack(
            "pair-error-ratio",
            "Error of the compressed model over the original's",
            compressed.error_ratio,
            PAIR,
            COMPLEAK,
        ),
    )
}
