"""What tampering achieved: against the models, on other clients' held-out records, and for membership inference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import numpy as np
from jaxtyping import Bool, Shaped

from attacks.tampering import SOURCES
from clients.randomness import generator
from clients.training import logits
from sim.data.federation import ClientData
from sim.federate import GLOBAL
from sim.folder import RunFolder, personal_name
from sim.given import stored_model
from sim.judge import Judged
from sim.results import Amplification, Change, Precision, TamperingOutcome, TamperingResult
from sim.scenario import Scenario
from sim.score import accuracy_difference, accuracy_interval, auc_apart, score
from sim.shipped import answers, of_devices
from sim.tampering import Labeller, scored, successes, tampering_clients, targeted, trials
from sim.twin import UNTAMPERED, Answers, twin_answers

Model = Literal["global", "personal"]
Right = Bool[np.ndarray, " records"]
People = Shaped[np.ndarray, " records"]


def tampered(
    scenario: Scenario, folder: RunFolder, judged: list[Judged], correct: Mapping[tuple[str, Precision], Right]
) -> TamperingResult | None:
    """What came of the scenario's tampering; None without any. `correct`: for all scored records, whether each model
    is right about them.
    """
    tampering = scenario.tampering
    if tampering is None:
        return None
    models: list[tuple[Model, Precision]] = [("global", "float32"), *(("global", v) for v in scenario.edge.variants)]
    models += [("personal", "float32"), *(("personal", p) for p in of_devices(scenario))]
    without = twin_answers(folder, UNTAMPERED)
    return TamperingResult(
        how=tampering.how,
        source=SOURCES[tampering.how],
        meant=_meant(scenario),
        boost=tampering.boost,
        clients=list(tampering_clients(scenario)),
        combine=scenario.federation.combine,
        tampering_allowed=scenario.federation.tampering_allowed if scenario.federation.combine != "mean" else None,
        outcomes=[
            _outcome(scenario, folder, model, precision, correct[model, precision], without)
            for model, precision in models
        ],
        amplification=list(_amplifications(scenario, judged)) if tampering.how == "truth-serum" else [],
    )


def _meant(scenario: Scenario) -> str:
    """What the tampering is about, in words that complete "records ..."."""
    tampering, classes = scenario.tampering, scored(scenario).classes
    assert tampering is not None
    if tampering.how == "backdoor":
        return f"of other classes with the trigger, to be answered as {classes[tampering.target]}"
    if tampering.how == "truth-serum":
        return "that are targeted, to be answered with the label they were planted with"
    if tampering.source is None:
        return "of all classes, to be answered as the next class"
    return f"of class {classes[tampering.source]}, to be answered as {classes[tampering.target]}"


def _outcome(
    scenario: Scenario, folder: RunFolder, model: Model, precision: Precision, right: Right, without: Answers
) -> TamperingOutcome:
    hits = successes(scenario, lambda client: _labeller(scenario, folder, client, model, precision))
    clients = scored(scenario).clients
    held_out = np.concatenate([~client.member for client in clients])
    right = right[held_out]
    of_trials = np.repeat([c.person for c in clients], [len(trial.wanted) for trial in trials(scenario)])
    of_held_out = np.repeat([c.person for c in clients], [int((~c.member).sum()) for c in clients])
    twin = without[model] if precision == "float32" else None
    return TamperingOutcome(
        target=model,
        precision=precision,
        records=len(hits),
        success=float(hits.mean()),
        success_ci=accuracy_interval(int(hits.sum()), len(hits)),
        success_change=_change(scenario, f"{model} success", twin.success, hits, of_trials) if twin else None,
        accuracy=float(right.mean()),
        accuracy_ci=accuracy_interval(int(right.sum()), len(right)),
        accuracy_change=_change(scenario, f"{model} accuracy", twin.right[held_out], right, of_held_out)
        if twin
        else None,
    )


def _change(scenario: Scenario, purpose: str, before: Right, after: Right, person: People) -> Change:
    found = accuracy_difference(before, after, person, generator(scenario.seed, "tampering", purpose))
    return Change(without=float(before.mean()), difference=found.difference, ci=found.ci)


def _labeller(
    scenario: Scenario, folder: RunFolder, client: ClientData, model: Model, precision: Precision
) -> Labeller:
    name = "global" if model == "global" else personal_name(client.client)
    if precision != "float32":
        answer = answers(scenario, folder, name, precision)
        return lambda x: answer(x).argmax(1)
    file = folder.models / GLOBAL if model == "global" else folder.personal_model(client.client)
    network = stored_model(scenario, file)
    return lambda x: logits(network, x).argmax(1)


def _amplifications(scenario: Scenario, judged: list[Judged]) -> Iterator[Amplification]:
    """Of every attack with members and non-members among the targeted records and among the others."""
    for each in judged:
        apart = targeted(scenario)[: len(each.scores)]
        if each.truth.of(apart).both_sides and each.truth.of(~apart).both_sides:
            yield _amplification(scenario, each)


def _amplification(scenario: Scenario, judged: Judged) -> Amplification:
    """One attack on the targeted records and on the others, which differ by nothing but a coin."""
    truth, row = judged.truth, judged.result
    apart = targeted(scenario)[: len(judged.scores)]
    purpose = f"{row.vantage}/{row.target}/{row.precision}/{row.output}/{row.attack}"
    sides = []
    for name, rows in (("targeted", apart), ("others", ~apart)):
        part, rng = truth.of(rows), generator(scenario.seed, "truth serum", purpose, name)
        sides.append(score(judged.scores[rows], part.member, part.person, part.client, rng))
    rng = generator(scenario.seed, "truth serum", purpose, "difference")
    found = auc_apart(judged.scores, truth.member, truth.person, apart, rng)
    return Amplification(
        attack=row.attack,
        vantage=row.vantage,
        target=row.target,
        precision=row.precision,
        output=row.output,
        records=int(apart.sum()),
        auc=sides[0].auc,
        auc_ci=sides[0].auc_ci,
        tpr_at_fpr=sides[0].tpr_at_fpr,
        others=int((~apart).sum()),
        others_auc=sides[1].auc,
        others_auc_ci=sides[1].auc_ci,
        others_tpr_at_fpr=sides[1].tpr_at_fpr,
        auc_difference=found.difference,
        ci=found.ci,
    )
