"""The attacks on something other than membership: what comes out is not a score per record."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Recovery:
    """An attack on something other than membership, so without a score per record: what it is, and what it needs."""

    name: str
    title: str
    needs: str
    source: str


RECOVERIES: dict[str, Recovery] = {
    recovery.name: recovery
    for recovery in (
        Recovery(
            "mask-recovery",
            "Search for the seed of one mask: a single client's update out of a masked sum",
            "masked updates and a colluding client",
            "flwr issue 7522",
        ),
        Recovery(
            "linear-recovery",
            "Records out of the first layer's part of an update, exact where a unit was moved by one alone",
            "training rounds, a first layer that is linear",
            "Phong et al. 2018, IEEE TIFS 13(5)",
        ),
        Recovery(
            "label-recovery",
            "Labels of a batch out of the last layer's bias",
            "training rounds",
            "Wainakh et al. 2022, arXiv 2105.09369",
        ),
        Recovery(
            "dlg",
            "Records whose gradient is the one that was seen (deep leakage from gradients)",
            "training rounds",
            "Zhu et al. 2019, arXiv 1906.08935",
        ),
        Recovery(
            "gradient-inversion",
            "Records whose gradient points where the one that was seen does",
            "training rounds",
            "Geiping et al. 2020, arXiv 2003.14053",
        ),
        Recovery(
            "class-inversion",
            "What the final model takes for a typical record of a class",
            "the final model",
            "Fredrikson et al. 2015, CCS",
        ),
        Recovery(
            "source-inference",
            "Which client a record was trained on by",
            "updates of single clients",
            "Hu et al. 2021, arXiv 2109.05659",
        ),
        Recovery(
            "members-counted",
            "How many records each client trained on: the rank of its updates",
            "updates of single clients, by SGD, a first layer that is linear",
            "our own; row spans as in ProjRes, arXiv 2604.21197",
        ),
        Recovery(
            "property-inference",
            "Which clients have a property that the task never asked for",
            "updates of single clients",
            "Melis et al. 2019, arXiv 1805.04049",
        ),
        Recovery(
            "participation",
            "Which people took part at all, told from records of theirs that nobody trained on",
            "newcomers beside the participants",
            "Kandpal et al. 2023, arXiv 2310.09266",
        ),
    )
}
