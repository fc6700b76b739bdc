"""The results document, put together from what the stages left: accuracy, exposure, and everything a reader needs."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int

from attacks.observation import Records
from clients.models import parameter_count
from clients.randomness import generator
from sim import manifest, transcript
from sim.beyond import Beyond
from sim.budgets import budgets, caveats
from sim.calibration import calibration_leak
from sim.data.federation import ClientData, Federation, noted
from sim.export import calibration_card, checks
from sim.findings import findings
from sim.folder import RunFolder, read_stages
from sim.given import federation_of, fresh_model
from sim.judge import Judged, Truth
from sim.litert import litert_verdict
from sim.manifest import made_of
from sim.misfit import what_would_fit
from sim.noise import Participation, strengths
from sim.observe import Target, candidates
from sim.paired import comparisons
from sim.report import words
from sim.results import (
    AttackRow,
    ClientResult,
    Controls,
    Cost,
    DataCard,
    PersonResult,
    PopulationCard,
    Precision,
    Protection,
    RecoveryResult,
    Refusal,
    Results,
    Scaling,
    Utilities,
    Utility,
)
from sim.scenario import Scenario
from sim.score import Score, accuracy_difference, accuracy_interval, score
from sim.shipped import of_devices
from sim.tampered import tampered
from sim.twin import UNPROTECTED, twin_answers
from sim.vigil import watch

Correct = Bool[np.ndarray, " records"]
PACKAGES = ("seepage", "flwr", "torch", "numpy", "tensorflow-cpu", "tflite-micro", "ai-edge-litert", "scikit-learn")


def summarise(
    scenario: Scenario,
    folder: RunFolder,
    federation: Federation,
    targets: list[Target],
    judged: list[Judged],
    refused: list[Refusal],
    recoveries: list[RecoveryResult],
    beyond: Beyond,
    controls: Controls,
    truth: Truth,
) -> Results:
    """All of `results.json`."""
    correct: Mapping[tuple[str, Precision], Correct] = {
        (t.target, t.precision): _correct(t, candidates(federation.clients)) for t in targets if t.output is not None
    }
    took_part = transcript.trained(folder.transcript)
    of_global = truth.of_model(took_part)
    honest = [each for each in judged if each.result.vantage != "malicious-server"] or judged
    strongest = max(honest, key=lambda each: (len(each.scores), each.result.auc))  # rather one that reaches everybody
    results = Results(
        scenario=scenario.name,
        title=scenario.title or scenario.name,
        seed=scenario.seed,
        verdict="none shown",
        summary="",
        versions=_versions(),
        made_of=made_of(manifest.read(folder.path)),
        timing=read_stages(folder),
        data=_data_card(scenario, federation_of(scenario), _never_trained(federation, took_part)),
        population=_population_card(scenario, federation),
        model=_model_card(scenario),
        rounds=transcript.summaries(folder.transcript),
        utility=Utilities(
            global_=_utility(correct["global", "float32"], truth, of_global),
            personal=_utility(correct["personal", "float32"], truth, truth),
            device=_utility(correct["personal", scenario.edge.variants[0]], truth, truth),
            commonest_class=_commonest(truth.label[~truth.member]),
            beside={p: _utility(correct["personal", p], truth, truth) for p in of_devices(scenario)[1:]},
        ),
        budgets=budgets(scenario, _participation(folder)),
        protection=_protection(scenario, folder, correct, truth),
        attacks=[each.result for each in judged],
        refused=refused,
        comparisons=comparisons(scenario, judged),
        recoveries=recoveries,
        probes=watch(scenario, folder, judged),
        reconstructions=beyond.reconstructions,
        labels=beyond.labels,
        sources=beyond.sources,
        counts=beyond.counts,
        participations=beyond.participations,
        properties=beyond.properties,
        calibration_leak=calibration_leak(scenario, folder),
        tampering=tampered(scenario, folder, judged, correct),
        controls=controls,
        exposure_attack=_row(strongest),
        clients=_clients(scenario, federation, strongest, correct, truth),
        people=_people(scenario, strongest),
        calibration=calibration_card(scenario),
        edge=checks(folder),
        remedies=what_would_fit(scenario, folder, checks(folder)),
        litert=litert_verdict(scenario, folder, targets, judged),
        findings=[],
    )
    return results.model_copy(
        update={
            "verdict": words.verdict(results),
            "summary": words.summary(results),
            "findings": findings(results),
        }
    )


def _participation(folder: RunFolder) -> Participation:
    """Who really took part: rounds that released something, and what the clients say that they trained in."""
    rounds = transcript.summaries(folder.transcript)
    released = [len(summary.clients) for summary in rounds if not summary.refused]
    ledger = transcript.ledger(folder.transcript)
    return Participation(
        arrived=tuple(released),
        trained=tuple(ledger.rounds[client] for client in sorted(ledger.rounds)),
        probed=ledger.probed,
        personal=ledger.personal,
        refused=len(rounds) - len(released),
    )


def _protection(
    scenario: Scenario, folder: RunFolder, correct: Mapping[tuple[str, Precision], Correct], truth: Truth
) -> Protection | None:
    if not scenario.protected:
        return None
    noise, client = strengths(scenario), scenario.privacy.client
    return Protection(
        aggregation=scenario.aggregation.protocol,
        record_noise_multiplier=noise.record,
        client_noise_multiplier=noise.client,
        client_noise=client.where if client else None,
        stopped=transcript.ledger(folder.transcript).stopped,
        caveats=caveats(scenario),
        cost=[_cost(scenario, "global", folder, correct, truth), _cost(scenario, "personal", folder, correct, truth)],
    )


def _cost(
    scenario: Scenario,
    model: Literal["global", "personal"],
    folder: RunFolder,
    correct: Mapping[tuple[str, Precision], Correct],
    truth: Truth,
) -> Cost:
    held_out = ~truth.member
    before, after = twin_answers(folder, UNPROTECTED)[model].right[held_out], correct[model, "float32"][held_out]
    rng = generator(scenario.seed, "cost", model)
    found = accuracy_difference(before, after, truth.person[held_out], rng)
    return Cost(model=model, unprotected=float(before.mean()), difference=found.difference, ci=found.ci)


def _row(judged: Judged) -> AttackRow:
    result = judged.result
    return AttackRow(
        attack=result.attack,
        vantage=result.vantage,
        target=result.target,
        precision=result.precision,
        output=result.output,
    )


def _correct(target: Target, everybody: Records) -> Correct:
    """For all clients' records, whether the attacked models are right about them."""
    oracle = target.observations[0].oracle
    if target.target == "global" and oracle is not None:
        return np.asarray(oracle(everybody.x).argmax(1) == everybody.y)
    hits = []
    for observation in target.observations:
        assert observation.oracle is not None
        hits.append(observation.oracle(observation.candidates.x).argmax(1) == observation.candidates.y)
    return np.concatenate(hits)


def _utility(correct: Correct, coins: Truth, truth: Truth) -> Utility:
    """Accuracy on what every coin held out, so that models are compared on the same records; on the model's members as
    `truth` has them.
    """
    held_out = ~coins.member
    hits, records = int(correct[held_out].sum()), int(held_out.sum())
    return Utility(
        accuracy=hits / records,
        accuracy_ci=accuracy_interval(hits, records),
        worst_client=min(_accuracy(correct, held_out & (coins.client == c)) for c in np.unique(coins.client)),
        member_accuracy=_accuracy(correct, truth.member) if truth.member.any() else None,
    )


def _commonest(label: Int[np.ndarray, " records"]) -> float:
    return float(np.bincount(label).max() / len(label))


def _accuracy(correct: Correct, rows: Correct) -> float:
    return float(correct[rows].mean())


def _clients(
    scenario: Scenario,
    federation: Federation,
    strongest: Judged,
    correct: Mapping[tuple[str, Precision], Correct],
    truth: Truth,
) -> list[ClientResult]:
    results = []
    for client in federation.clients:
        rows = truth.client == client.client
        held_out = rows & ~truth.member
        exposure = _exposure(scenario, strongest, rows, f"client {client.client}")
        results.append(
            ClientResult(
                client=client.client,
                name=client.name,
                person=client.person,
                participates=client.client < federation.participants,
                members=int(client.member.sum()),
                nonmembers=int((~client.member).sum()),
                accuracy_global=_accuracy(correct["global", "float32"], held_out),
                accuracy_personal=_accuracy(correct["personal", "float32"], held_out),
                accuracy_device=_accuracy(correct["personal", scenario.edge.variants[0]], held_out),
                exposure=exposure.auc if exposure else None,
                exposure_ci=exposure.auc_ci if exposure else None,
            )
        )
    return results


def _people(scenario: Scenario, strongest: Judged) -> list[PersonResult]:
    results, truth = [], strongest.truth
    for person in dict.fromkeys(truth.person.tolist()):
        rows = truth.person == person
        exposure = _exposure(scenario, strongest, rows, f"person {person}")
        if exposure is None:
            continue
        results.append(
            PersonResult(
                person=person,
                clients=len(np.unique(truth.client[rows])),
                members=int(truth.member[rows].sum()),
                nonmembers=int((~truth.member[rows]).sum()),
                exposure=exposure.auc,
                exposure_ci=exposure.auc_ci,
            )
        )
    return results


def _exposure(scenario: Scenario, strongest: Judged, rows: Correct, purpose: str) -> Score | None:
    """Of these of all clients' records; None where the attack does not reach them, or none is in what it attacks."""
    rows = rows[: len(strongest.scores)]
    part, rng = strongest.truth.of(rows), generator(scenario.seed, "exposure", purpose)
    if not part.both_sides:
        return None
    return score(strongest.scores[rows], part.member, part.person, part.client, rng)


def _never_trained(federation: Federation, took_part: tuple[int, ...]) -> list[ClientData]:
    """The clients that were to help train the global model, and of which nothing went into it."""
    return [c for c in federation.clients if c.client < federation.participants and c.client not in took_part]


def _data_card(scenario: Scenario, federation: Federation, never_trained: list[ClientData]) -> DataCard:
    return DataCard(
        source=federation.source,
        title=federation.title,
        licence=federation.licence,
        synthetic=federation.synthetic,
        records=sum(len(client.y) for client in federation.clients),
        classes=list(federation.classes),
        clients=len(federation.clients),
        people=len(federation.people),
        names_people=federation.names_people,
        scaling=_scaling(federation),
        natural=scenario.data.partition == "natural",
        notes=noted(federation),
        never_trained=[client.client for client in never_trained],
        never_trained_records=sum(map(len, never_trained)),
    )


def _population_card(scenario: Scenario, federation: Federation) -> PopulationCard:
    own = federation.population
    return PopulationCard(who=scenario.population.who, people=own.people, records=len(own.y), assumption=own.assumption)


def _scaling(federation: Federation) -> Scaling | None:
    if federation.scaling is None:
        return None
    mean, deviation = federation.scaling
    return Scaling(mean=list(mean), deviation=list(deviation), records=len(federation.population))


def _model_card(scenario: Scenario) -> dict[str, str | int]:
    model = scenario.model
    return {"name": model.name, "norm": model.norm, "parameters": parameter_count(fresh_model(scenario))}


def _versions() -> dict[str, str]:
    return {package: version(package) for package in PACKAGES}
