"""The attacks on membership there are."""

from __future__ import annotations

import numpy as np

from attacks import (
    aggregate,
    bavaria,
    boundary,
    cosine,
    device,
    difficulty,
    fedmia,
    gradient,
    label_only,
    lira,
    loss,
    loss_series,
    pair,
    quantile,
    rmia,
    row_span,
    shadow,
    source,
    stealing,
    thresholds,
    update_loss,
)
from attacks.attack import Attack, Watch, carry_out, tuned
from attacks.malicious import ascent, backdoor, detector, suppression
from attacks.observation import Guess, Observation

# What attacks of one kind need, of `attacks.attack.NEEDS`.
LABELS = ("model to query",)
QUERY = (*LABELS, "confidences")
REFERENCES = (*QUERY, "reference models")
TUNED = (*QUERY, "references tuned from the global model")
PAIR = (*QUERY, "model before personalisation")
ROUNDS = ("training rounds", "model architecture")
FILE = ("file of the model", "model architecture")
WHOSE = (*ROUNDS, "client that the candidates belong to")
UPDATES = (*WHOSE, "updates of single clients")
MALICIOUS = ("broadcasts of its own making", "model architecture", "client that the candidates belong to")

CARLINI = "Carlini et al. 2022, arXiv 2112.03570"
JAGIELSKI = "Jagielski et al. 2023, arXiv 2205.06369"
LI = "Li et al. 2023, arXiv 2202.12232"
NASR = "Nasr et al. 2019, arXiv 1812.00910"
SALEM = "Salem et al. 2019, arXiv 1806.01246"
SONG = "Song and Mittal 2021, arXiv 2003.10595"
WATSON = "Watson et al. 2022, arXiv 2111.08440"
YEOM = "Yeom et al. 2018, arXiv 1709.01604"
PROJRES = "ProjRes for hidden layers of language models: arXiv 2604.21197"
ZARI = "Zari et al. 2021, arXiv 2111.00430"
ZARIFZADEH = "Zarifzadeh et al. 2024, arXiv 2312.03262"
ZHU = "Zhu et al. 2024, arXiv 2402.06289"

ATTACKS: dict[str, Attack] = {
    attack.name: attack
    for attack in (
        # Query: what one model answers.
        Attack("loss", "Loss threshold", loss.run, QUERY, YEOM),
        Attack("lira", "Likelihood ratio (LiRA), offline, one-sided", lira.run, REFERENCES, CARLINI),
        Attack("rmia", "Robust inference (RMIA), offline", rmia.run, REFERENCES, ZARIFZADEH),
        Attack("cosine", "Cosine of gradient and update", cosine.run, UPDATES, LI),
        Attack("loss-series", "Mean loss over the rounds", loss_series.run, ROUNDS, ZARI),
        Attack("confidence", "Largest probability", thresholds.confidence, QUERY, SALEM),
        Attack("entropy", "Entropy of the answer", thresholds.entropy, QUERY, SALEM),
        Attack("modified-entropy", "Modified entropy of the answer", thresholds.modified_entropy, QUERY, SONG),
        Attack("gap", "Whether the answer is the label (gap attack)", thresholds.gap, LABELS, YEOM, labels_alone=True),
        Attack("loss-per-class", "Loss among the class's own records", thresholds.loss_per_class, QUERY, SONG),
        Attack(
            "quantile",
            "Confidence above that of records like it (quantile regression)",
            quantile.run,
            QUERY,
            "Bertran et al. 2023, arXiv 2307.03694",
        ),
        Attack(
            "calibration",
            "Loss below the references' (difficulty calibration)",
            difficulty.calibration,
            REFERENCES,
            WATSON,
        ),
        Attack(
            "attack-r",
            "Share of references with a higher loss (Attack R)",
            difficulty.attack_r,
            REFERENCES,
            "Ye et al. 2022, arXiv 2111.09679",
        ),
        Attack(
            "lira-per-record",
            "Likelihood ratio (LiRA), offline, a deviation per record",
            lira.run_per_record,
            REFERENCES,
            CARLINI,
        ),
        Attack(
            "bavaria",
            "Likelihood ratio with Bayesian variance (BaVarIA), offline, one-sided",
            bavaria.run,
            REFERENCES,
            "Brännvall 2026, arXiv 2603.11799",
        ),
        Attack(
            "shadow",
            "Classifier taught on shadow models",
            shadow.run,
            REFERENCES,
            "Shokri et al. 2017, arXiv 1610.05820",
        ),
        Attack(
            "label-noise",
            "How much noise a record bears before it is labelled otherwise",
            label_only.run,
            LABELS,
            "Choquette-Choo et al. 2021, arXiv 2007.14321",
            labels_alone=True,
        ),
        Attack(
            "label-boundary",
            "Distance to the decision boundary (HopSkipJump)",
            boundary.run,
            LABELS,
            "Li and Zhang 2021, arXiv 2007.15528",
            labels_alone=True,
        ),
        Attack(
            "stolen",
            "Loss of a surrogate that was taught by the model, without a query about a candidate",
            stealing.run,
            (*LABELS, "model architecture"),
            "Jagielski et al. 2023, arXiv 2303.03446",
        ),
        # Query, personal models: what personalising changed.
        Attack(
            "rmia-tuned", "RMIA, with references fine-tuned from the global model", tuned(rmia.run), TUNED, ZARIFZADEH
        ),
        Attack("lira-tuned", "LiRA, with references fine-tuned from the global model", tuned(lira.run), TUNED, CARLINI),
        Attack(
            "calibration-tuned",
            "Loss below that of references fine-tuned from the global model",
            tuned(difficulty.calibration),
            TUNED,
            WATSON,
        ),
        Attack(
            "personal-minus-global",
            "Fall of the loss from the global to the personal model",
            pair.difference,
            PAIR,
            WATSON,
        ),
        Attack(
            "personal-over-global",
            "Ratio of the global model's loss to the personal model's",
            pair.ratio,
            PAIR,
            JAGIELSKI,
        ),
        Attack(
            "back-front",
            "Hard for the global model and easy for the personal one (back-front)",
            pair.back_front,
            PAIR,
            JAGIELSKI,
        ),
        # A curious server, or whoever sees the secure sum.
        Attack("loss-slope", "Fall of the loss over the rounds", loss_series.slope, ROUNDS, ZARI),
        Attack(
            "gradient-norm",
            "Norm of the gradient over the rounds",
            gradient.norm,
            ROUNDS,
            NASR,
        ),
        Attack("aggregate-cosine", "Cosine of gradient and mean update", aggregate.cosine, ROUNDS, LI),
        Attack(
            "prolin",
            "Sums taken apart by who took part (PROLIN)",
            aggregate.prolin,
            WHOSE,
            "Kerkouche et al. 2023, arXiv 2303.03908",
        ),
        Attack(
            "gradient-difference",
            "Update along the gradient (gradient difference, rescaled)",
            gradient.difference,
            UPDATES,
            LI,
        ),
        Attack("cosine-calibrated", "Cosine above that of the round's other clients", cosine.calibrated, UPDATES, ZHU),
        Attack("fedmia-loss", "FedMIA I: loss against the round's other clients", fedmia.by_loss, UPDATES, ZHU),
        Attack("fedmia-cosine", "FedMIA II: cosine against the round's other clients", fedmia.by_cosine, UPDATES, ZHU),
        Attack("update-loss", "Fall of the loss in the client's own training", update_loss.run, UPDATES, WATSON),
        Attack(
            "source",
            "Source inference: loss at the client's model against the best other",
            source.run,
            UPDATES,
            "Hu et al. 2021, arXiv 2109.05659",
        ),
        Attack(
            "row-span", "Whether a record lies in the row span of its client's updates", row_span.run, UPDATES, PROJRES
        ),
        Attack(
            "row-span-sums",
            "Row span of the sums with a client, against that of the sums without it",
            row_span.sums,
            WHOSE,
            f"our own; {PROJRES}",
        ),
        # Device: the file itself, with its weights.
        Attack(
            "row-span-device",
            "Row span of the step from the global file to the personal one",
            row_span.device,
            (*FILE, "file of the global model"),
            f"our own; {PROJRES}",
        ),
        Attack("device-gradient", "Norm of the gradient at the file's weights", device.gradient, FILE, NASR),
        Attack(
            "device-gradient-calibrated",
            "Norm of the gradient below the references'",
            device.gradient_calibrated,
            (*FILE, "weights of reference models"),
            WATSON,
        ),
        Attack(
            "device-joined",
            "Answers, gradients and activations together",
            device.joined,
            (*QUERY, *FILE, "weights of reference models"),
            NASR,
        ),
        Attack(
            "device-joined-tuned",
            "Answers, gradients and activations together, references tuned from the global model",
            tuned(device.joined),
            (*TUNED, *FILE),
            NASR,
        ),
        # A server that deviates: what its own broadcasts bring back.
        Attack(ascent.NAME, "Gradient ascent: what clients remember", ascent.run, MALICIOUS, NASR),
        Attack(
            backdoor.NAME,
            "Privacy backdoor: a model poisoned before it is personalised",
            backdoor.run,
            MALICIOUS,
            "Wen et al. 2024, arXiv 2404.01231",
        ),
        Attack(
            suppression.NAME,
            "Gradient suppression: one client's update out of a sum",
            suppression.run,
            MALICIOUS,
            "Pasquini et al. 2022, arXiv 2111.07380",
        ),
        Attack(
            detector.NAME,
            "Detector neurons: a unit that fires for one record",
            detector.run,
            MALICIOUS,
            "Nguyen et al. 2023, arXiv 2302.12685",
        ),
    )
}


def launch(name: str, observation: Observation, rng: np.random.Generator, watch: Watch | None = None) -> Guess:
    """Carry out attack `name`; cost and errors as for `attacks.attack.carry_out`.

    Raises ValueError for a name that is not in `ATTACKS`.
    """
    if name not in ATTACKS:
        raise ValueError(f"there is no attack '{name}'; there are: {', '.join(ATTACKS)}")
    return carry_out(ATTACKS[name], observation, rng, watch)
