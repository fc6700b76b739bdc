"""What every attack in the registry keeps to."""

import copy
from dataclasses import fields, replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import vector_to_parameters

from attacks.attack import lacks
from attacks.malicious.config import ProbeConfig
from attacks.malicious.making import MAKERS, Means
from attacks.observation import (
    NotFiniteError,
    Observation,
    Opened,
    Oracle,
    Probe,
    Records,
    Reference,
    ServerRound,
    VantageLacksError,
)
from attacks.references import halves
from attacks.registry import ATTACKS, launch
from clients.training import logits
from clients.weights import to_vector
from sim.score import auc

CLASSES, FEATURES, SIDE, OWN = 6, 20, 200, 400
CLIENTS, PER_ROUND = 4, 3
WIDE, SPANS = 320, ("row-span", "row-span-sums", "row-span-device")  # attacks that live on few records


def records(rng, count, features=FEATURES):
    """A Gaussian mixture whose classes overlap, so that a model can only fit it by learning records by heart."""
    means = np.random.default_rng(99).normal(scale=0.5, size=(CLASSES, features))
    y = rng.integers(CLASSES, size=count)
    x = (means[y] + rng.normal(size=(count, features))) * np.sqrt(FEATURES / features)
    return Records(x.astype(np.float32), y)


def network(rng, features=FEATURES):
    model = nn.Sequential(nn.Linear(features, 48), nn.ReLU(), nn.Dropout(0.1), nn.Linear(48, CLASSES))
    start = rng.normal(scale=0.15, size=sum(p.numel() for p in model.parameters()))
    vector_to_parameters(torch.tensor(start, dtype=torch.float32), model.parameters())
    return model.eval()


def trained(model, data, steps, rate):
    model = copy.deepcopy(model)
    optimiser = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    x, y = torch.tensor(data.x), torch.tensor(data.y)
    for _ in range(steps):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimiser.step()
    return model


def world(seed, leaks):
    """What each vantage holds, and the truth. Where nothing `leaks` no candidate was trained on."""
    rng = np.random.default_rng(seed)
    candidates, population = records(rng, 2 * SIDE), records(rng, OWN)
    elsewhere = [records(rng, SIDE // 4) for _ in range(CLIENTS - 1)]
    member = rng.permutation(2 * SIDE) < SIDE
    data = candidates[member] if leaks else records(rng, SIDE)
    start = network(rng)
    user = Observation(
        vantage="global-user",
        candidates=candidates,
        population=population,
        oracle=Oracle(partial(logits, trained(start, data, 120, 0.2))),
        references=tuple(
            Reference(partial(logits, trained(network(rng), population[half], 120, 0.2)), half)
            for half in halves(4, OWN, rng)
        ),
        architecture=start,
    )
    server = Observation(
        vantage="server",
        candidates=candidates,
        population=population,
        rounds=federation(start, data, *elsewhere),
        architecture=start,
        client=np.ones(len(candidates), dtype=np.int64),
    )
    person = personal(user, start, data, elsewhere)
    others = [server, malicious(server, start, data, elsewhere), held(user, start), held(person, start)]
    return [user, person, *others, *wide(rng, member, leaks)], member


def wide(rng, member, leaks):
    """A server's and a device holder's views of records with more features than all clients together have members."""
    candidates, population = (records(rng, count, WIDE) for count in (2 * SIDE, OWN))
    data, start = candidates[member] if leaks else records(rng, SIDE, WIDE), network(rng, WIDE)
    elsewhere = [records(rng, SIDE // 20, WIDE) for _ in range(CLIENTS - 1)]
    server = Observation(
        vantage="server",
        candidates=candidates,
        population=population,
        rounds=federation(start, data, *elsewhere),
        architecture=start,
        client=np.ones(len(candidates), dtype=np.int64),
    )
    files = [
        Opened(to_vector(each), np.zeros(1), np.ones(1), lambda x, rng: (x, x), 10)
        for each in (start, trained(start, data, 120, 0.2))
    ]
    return server, replace(server, vantage="device", rounds=(), client=None, file=files[1], file_before=files[0])


def personal(user, start, data, elsewhere):
    """The same user in front of a model that was fine-tuned on the data, from a global model of other people's."""
    shared = trained(start, Records(*joined(elsewhere)), 60, 0.1)
    return replace(
        user,
        vantage="query",
        oracle=Oracle(partial(logits, trained(shared, data, 120, 0.2))),
        references=(),
        before=Oracle(partial(logits, shared)),
        tuned=tuple(
            Reference(partial(logits, trained(shared, user.population[r.trained_on], 120, 0.2)), r.trained_on)
            for r in user.references
        ),
    )


def held(user, start):
    """The same model in the hands of somebody who has its file, beside the weights of its own references."""

    def weights(predict):
        return to_vector(predict.args[0])

    def with_weights(references):
        return tuple(replace(r, weights=weights(r.predict)) for r in references)

    file = Opened(weights(user.oracle.answer), np.zeros(1), np.ones(1), lambda x, rng: (x, x), 10)
    own, fine = with_weights(user.references), with_weights(user.tuned)
    return replace(user, vantage="device", architecture=start, file=file, references=own, tuned=fine)


def malicious(server, start, data, elsewhere):
    """A server that sends each client what it likes, once for each of its attacks, and sees each client's update."""
    clients = dict(enumerate([data, *elsewhere], start=1))
    shared = to_vector(trained(start, Records(*joined(elsewhere)), 60, 0.1))
    config = ProbeConfig(isolated=CLIENTS, detector_rounds=20, ascent=0.1)
    means = Means(observation=server, weights=shared, clients=tuple(clients), summed=False, config=config)
    probes = [probed(name, sending, start, shared, clients) for name in MAKERS for sending in MAKERS[name].make(means)]
    return replace(server, vantage="malicious-server", rounds=(), probes=tuple(probes))


def joined(parts):
    return np.concatenate([each.x for each in parts]), np.concatenate([each.y for each in parts])


def probed(name, sending, start, shared, clients):
    """What comes back: updates after local training, or models that were fine-tuned for longer."""
    tunes, model, local = sending.kind == "personalize", copy.deepcopy(start), {}
    for client, weights in sending.weights.items():
        vector_to_parameters(torch.tensor(weights), model.parameters())
        local[client] = trained(model, clients[client], 120 if tunes else 25, 0.2 if tunes else 0.3)
    updates = {client: sending.weights[client] - to_vector(each) for client, each in local.items()}
    return Probe(
        attack=name,
        part=sending.part,
        weights=shared,
        sent=sending.weights,
        clients=tuple(clients),
        mean=None if tunes else np.average(list(updates.values()), axis=0, weights=[len(d) for d in clients.values()]),
        updates={} if tunes else updates,
        personal={client: Oracle(partial(logits, each)) for client, each in local.items()} if tunes else {},
    )


def seen(name, world):
    """The first observation that lacks nothing the attack needs; of few wide records, where it lives on these."""
    wide_ones = [each for each in world[0] if (each.candidates.x.shape[1] == WIDE) == (name in SPANS)]
    return next(observation for observation in wide_ones if lacks(ATTACKS[name], observation) is None)


def federation(model, *clients):
    """Plain federated averaging over a sample of the clients; client 1 holds the first data set."""
    rng, rounds, weights = np.random.default_rng(7), [], to_vector(model)
    for number in range(20):
        local = {}
        for client in sorted(rng.choice(len(clients), PER_ROUND, replace=False).tolist()):
            vector_to_parameters(torch.tensor(weights), model.parameters())
            local[client + 1] = weights - to_vector(trained(model, clients[client], 25, 0.3))
        mean = np.mean(list(local.values()), axis=0)
        rounds.append(ServerRound(number, weights, tuple(local), mean, local))
        weights = weights - mean
    return rounds


@pytest.fixture(scope="module")
def leaking():
    return world(1, leaks=True)


@pytest.fixture(scope="module")
def silent():
    return world(2, leaks=False)


every_attack = pytest.mark.parametrize("name", ATTACKS)


def run(name, world, seed=0):
    return launch(name, seen(name, world), np.random.default_rng(seed))


@every_attack
def test_members_score_higher(name, leaking):
    """By three standard deviations of the area under chance, with 200 on each side."""
    assert auc(run(name, leaking).scores, leaking[1]) > 0.5 + 3 * 0.029


@every_attack
def test_at_chance_where_no_candidate_was_trained_on(name, silent):
    assert abs(auc(run(name, silent).scores, silent[1]) - 0.5) < 3 * 0.029


@every_attack
def test_own_records_score_like_nonmembers(name, leaking):
    guess = run(name, leaking)
    own = guess.population_scores[np.isfinite(guess.population_scores)]
    others = guess.scores[~leaking[1]]
    side = np.repeat([True, False], [len(own), len(others)])
    assert abs(auc(np.concatenate([own, others]), side) - 0.5) < 3 * 0.025


@every_attack
def test_scores_every_candidate_with_a_finite_number(name, leaking):
    guess = run(name, leaking)
    assert guess.scores.shape == (2 * SIDE,)
    assert guess.scores.dtype == np.float64
    assert np.isfinite(guess.scores).all()
    assert guess.population_scores.shape == (OWN,)
    assert np.isfinite(guess.population_scores).all()


@every_attack
def test_same_observation_and_generator_same_scores(name, leaking):
    first, second = run(name, leaking), run(name, leaking)
    np.testing.assert_array_equal(first.scores, second.scores)
    np.testing.assert_array_equal(first.population_scores, second.population_scores)


@every_attack
def test_the_order_of_the_candidates_does_not_matter(name, leaking):
    observation = seen(name, leaking)
    order = np.random.default_rng(5).permutation(2 * SIDE)
    shuffled = launch(name, replace(observation, candidates=observation.candidates[order]), np.random.default_rng(0))
    np.testing.assert_allclose(shuffled.scores, run(name, leaking).scores[order], rtol=1e-3, atol=1e-5)


@every_attack
def test_the_observation_stays_as_it_was(name, leaking):
    observation = seen(name, leaking)
    if observation.architecture is not None:
        observation = replace(observation, architecture=copy.deepcopy(observation.architecture).train())
    before = frozen(observation)
    launch(name, observation, np.random.default_rng(0))
    assert frozen(observation) == before


def frozen(observation):
    return [
        observation.candidates.x.tobytes() + observation.candidates.y.tobytes(),
        observation.population.x.tobytes() + observation.population.y.tobytes(),
        [r.trained_on.tobytes() for r in (*observation.references, *observation.tuned)],
        [
            (
                r.number,
                r.weights.tobytes(),
                r.clients,
                r.mean.tobytes(),
                [(c, u.tobytes()) for c, u in r.updates.items()],
            )
            for r in observation.rounds
        ],
        [
            (
                p.part,
                p.weights.tobytes(),
                [(c, s.tobytes()) for c, s in p.sent.items()],
                [o.queries for o in p.personal.values()],
            )
            for p in observation.probes
        ],
        observation.architecture and (observation.architecture.training, to_vector(observation.architecture).tobytes()),
    ]


# Queries of attacks that do not ask about each candidate and own record once, and references others can do without.
OF_ITS_OWN = {
    "label-noise": [51 * (2 * SIDE + OWN)] * 2,
    "label-boundary": (2 * SIDE + OWN, 120 * (2 * SIDE + OWN) + OWN),
    "stolen": [OWN] * 2,
}
HELPFUL = {"label-noise": 4, "label-boundary": 2, "stolen": 4}


@every_attack
def test_says_what_it_cost_whatever_ran_before(name, leaking):
    run("rmia", leaking)
    guess = run(name, leaking)
    needs = ATTACKS[name].needs
    models = ("model to query" in needs) + ("model before personalisation" in needs)
    models += any(probe.personal for probe in seen(name, leaking).probes if probe.attack == name)
    fewest, most = OF_ITS_OWN.get(name, [models * (2 * SIDE + OWN)] * 2)
    assert fewest <= guess.queries_per_record * 2 * SIDE <= most
    needed = 4 if any("references" in need or "reference models" in need for need in needs) else 0
    assert guess.references == HELPFUL.get(name, needed)
    assert guess.cpu_seconds > 0


WITHOUT = {
    "model to query": {"oracle": None},
    "confidences": {"oracle": Oracle(lambda x: np.eye(CLASSES, dtype=np.float32)[np.zeros(len(x), int)], "label")},
    "reference models": {"references": ()},
    "references tuned from the global model": {"tuned": ()},
    "model before personalisation": {"before": None},
    "training rounds": {"rounds": ()},
    "broadcasts of its own making": {"probes": ()},
    "model architecture": {"architecture": None},
    "file of the model": {"file": None},
    "file of the global model": {"file_before": None},
    "weights of reference models": {"references": ()},
    "client that the candidates belong to": {"client": None},
}


@every_attack
def test_says_what_the_vantage_lacks(name, leaking):
    observation = seen(name, leaking)
    for need in ATTACKS[name].needs:
        lacking = (
            aggregated(observation) if need == "updates of single clients" else replace(observation, **WITHOUT[need])
        )
        refused(name, lacking, need)
    refused(name, replace(observation, candidates=observation.candidates[:0]), "candidates")


def aggregated(observation):
    """What is left of a server's view under secure aggregation: the mean of each round, and who is in it."""
    rounds = [replace(each, updates={}) for each in observation.rounds]
    return replace(observation, vantage="aggregator", rounds=rounds)


def refused(name, observation, thing):
    message = f"attack '{name}' needs {thing}, vantage '{observation.vantage}' has no {thing}"
    with pytest.raises(VantageLacksError, match=message):
        launch(name, observation, np.random.default_rng(0))


@pytest.mark.parametrize(
    "name",
    [n for n, a in ATTACKS.items() if "training rounds" in a.needs and "updates of single clients" not in a.needs],
)
def test_works_as_well_without_single_updates(name, leaking):
    """Secure aggregation hides nothing that such an attack looks at."""
    same = launch(name, aggregated(seen(name, leaking)), np.random.default_rng(0))
    np.testing.assert_array_equal(same.scores, run(name, leaking).scores)


@pytest.mark.parametrize("name", [name for name, attack in ATTACKS.items() if "model to query" in attack.needs])
def test_works_on_probabilities_in_steps_of_1_256(name, leaking):
    """As a device answers: int8 probabilities, from the target and from the references alike."""
    observation = seen(name, leaking)

    def rounded(predict):
        return lambda x: np.round(torch.tensor(predict(x)).softmax(dim=1).numpy() * 256).clip(0, 255) / 256

    def stepped(oracle):
        return oracle and Oracle(rounded(oracle.answer), "probabilities", 1 / 256)

    device = replace(
        observation,
        oracle=stepped(observation.oracle),
        before=stepped(observation.before),
        references=tuple(replace(r, predict=rounded(r.predict)) for r in observation.references),
        tuned=tuple(replace(r, predict=rounded(r.predict)) for r in observation.tuned),
    )
    guess = launch(name, device, np.random.default_rng(0))
    assert auc(guess.scores, leaking[1]) > 0.6


def test_an_observation_has_no_place_for_the_truth():
    assert not {f.name for f in fields(Observation)} & {"member", "members", "membership", "truth"}


def test_an_unknown_attack_is_answered_with_the_known_ones(leaking):
    with pytest.raises(ValueError, match="no attack 'lirra'; there are: loss, lira, rmia, cosine, loss-series"):
        launch("lirra", leaking[0][0], np.random.default_rng(0))


def test_a_model_that_answers_nonsense_is_reported(leaking):
    broken = replace(leaking[0][0], oracle=Oracle(lambda x: np.full((len(x), CLASSES), np.nan)))
    for name in ("loss", "shadow"):
        with pytest.raises(NotFiniteError, match="a model answers 800 of 800 records with what is no finite"):
            launch(name, broken, np.random.default_rng(0))


def test_entries_are_complete():
    for name, attack in ATTACKS.items():
        assert attack.name == name
        assert attack.title
        assert "arXiv" in attack.source
