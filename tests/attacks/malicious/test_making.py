"""What a malicious server makes: detectors that fire for one record, models that cannot learn, and who gets what."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from attacks.malicious import ascent, backdoor, detector, suppression
from attacks.malicious.config import ProbeConfig
from attacks.malicious.layers import detecting, last_hidden
from attacks.malicious.making import MAKERS, Means, planned
from attacks.malicious.targets import in_order, owners
from attacks.observation import Observation, Probe, Records, VantageLacksError
from clients.models import MODELS
from clients.weights import load_vector, to_vector

FEATURES, CLASSES, UNITS = 30, 4, 16


def records(seed, count):
    rng = np.random.default_rng(seed)
    return Records(rng.normal(size=(count, FEATURES)).astype(np.float32), rng.integers(CLASSES, size=count))


def network(seed=0):
    model = nn.Sequential(nn.Flatten(), nn.Linear(FEATURES, UNITS), nn.ReLU(), nn.Linear(UNITS, CLASSES))
    start = np.random.default_rng(seed).normal(scale=0.2, size=sum(p.numel() for p in model.parameters()))
    return load_vector(model, start.astype(np.float32))


def update(weights, data, steps=1, rate=0.1):
    """Broadcast less returned weights, after so many steps on all records at once."""
    model = load_vector(network(), weights)
    optimiser = torch.optim.SGD(model.parameters(), lr=rate)
    for _ in range(steps):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(torch.tensor(data.x)), torch.tensor(data.y)).backward()
        optimiser.step()
    return weights - to_vector(model)


def loss(weights, data):
    with torch.no_grad():
        logits = load_vector(network(), weights)(torch.tensor(data.x))
        return float(nn.functional.cross_entropy(logits, torch.tensor(data.y)))


@pytest.fixture(scope="module")
def world():
    """Two clients with twelve records each, every other one a member, and the attacker's own."""
    candidates, population = records(1, 24), records(2, 100)
    observation = Observation(
        vantage="malicious-server",
        candidates=candidates,
        population=population,
        architecture=network(),
        client=np.repeat([3, 8], 12),
    )
    return observation, np.arange(24) % 2 == 0


def means(observation, summed=False, **config):
    weights = to_vector(network(5))
    return Means(observation=observation, weights=weights, clients=(3, 8), summed=summed, config=ProbeConfig(**config))


def watched(observation, member, summed):
    """Detector probes answered by clients that take one step on their members."""
    probes = []
    for sending in MAKERS["detector-neuron"].make(means(observation, summed, detector_rounds=40)):
        rows = {client: (observation.client == client) & member for client in (3, 8)}
        updates = {c: update(vector, observation.candidates[rows[c]]) for c, vector in sending.weights.items()}
        probes.append(
            Probe(
                attack="detector-neuron",
                part=sending.part,
                weights=to_vector(network(5)),
                sent=sending.weights,
                clients=(3, 8),
                mean=np.mean(list(updates.values()), axis=0),
                updates={} if summed else updates,
            )
        )
    return replace(observation, probes=tuple(probes))


@pytest.mark.parametrize("summed", [False, True])
def test_a_detector_fires_exactly_for_members_under_one_local_step(world, summed):
    observation, member = world
    guess = detector.run(watched(observation, member, summed), np.random.default_rng(0))
    assert (guess.scores[member] > 0.99).all()
    assert (np.abs(guess.scores[~member]) < 0.5).all()
    assert (guess.scores[~member] == 0).mean() > 0.9


def test_a_detector_lets_its_own_record_through_and_next_to_none_of_the_population():
    targets, population = records(3, UNITS), records(4, 2000)
    weights = detector.craft(network(), to_vector(network(5)), targets, population, 0, 4.0)
    model = load_vector(network(), weights)
    with torch.no_grad():
        mine = model[:2](torch.tensor(targets.x[in_order(targets)])).numpy()
        theirs = model[:2](torch.tensor(population.x)).numpy()
    assert (np.diag(mine) > 0).all()
    np.testing.assert_allclose(np.diag(mine), np.clip(np.diag(mine), 0.02, 0.1), atol=1e-5)
    assert (theirs > 0).mean() < 0.002


def test_units_without_a_target_stay_dead():
    weights = detector.craft(network(), to_vector(network(5)), records(3, UNITS + 3), records(4, 200), 1, 4.0)
    incoming, bias = load_vector(network(), weights)[1].parameters()
    assert (incoming[3:] == 0).all()
    assert (bias[3:] == -1).all()


def test_a_model_without_a_place_for_detectors_is_refused_with_what_it_has_instead():
    model = MODELS["cnn1d"].build((2, 16), CLASSES, 12, "none")
    with pytest.raises(VantageLacksError, match=r"this model has none: Conv1d - ReLU - .* - Flatten - Linear"):
        detector.craft(model, to_vector(model), records(3, 4), records(4, 9), 0, 4.0)
    assert detecting(MODELS["mlp"].build((9,), CLASSES, 12, "group")) is None  # units that are normalised together


@pytest.mark.parametrize(
    ("name", "shape"), [("mlp", (20,)), ("cnn", (1, 8, 8)), ("cnn1d", (2, 16)), ("ds-cnn", (1, 8, 8))]
)
@pytest.mark.parametrize("norm", ["none", "group"])
def test_a_suppressed_model_gives_no_gradient_but_to_the_biases_behind_it(name, shape, norm):
    model = MODELS[name].build(shape, CLASSES, 12, norm)
    dead = load_vector(copy.deepcopy(model), suppression.craft(model, to_vector(model)))
    x, y = torch.randn((7, *shape)), torch.randint(CLASSES, (7,))
    nn.functional.cross_entropy(dead(x), y).backward()
    moved = [n for n, p in dead.named_parameters() if p.grad is not None and p.grad.abs().max() > 0]
    assert moved == [list(dict(model.named_parameters()))[-1]]


def test_suppression_leaves_everything_but_the_last_hidden_layer_alone():
    model = network(5)
    before, after = (dict(m.named_parameters()) for m in (model, network()))
    after = dict(load_vector(network(), suppression.craft(model, to_vector(model))).named_parameters())
    assert last_hidden(model) == "1"
    assert [n for n in before if not torch.equal(before[n], after[n])] == ["1.weight", "1.bias"]


def test_a_step_up_raises_the_loss_of_the_targets_and_has_the_length_that_was_asked_for():
    targets, weights = records(3, 40), to_vector(network(5))
    made = ascent.craft(network(), weights, targets, 0.1)
    assert loss(made, targets) > loss(weights, targets)
    assert np.linalg.norm(made - weights) == pytest.approx(0.1 * np.linalg.norm(weights), rel=1e-4)


def test_a_backdoor_pushes_its_targets_up_to_the_ceiling_and_keeps_the_attackers_records_right():
    targets, own, weights = records(3, 10), records(4, 60), to_vector(network(5))
    made = backdoor.craft(network(), weights, targets, own, alpha=0.5, steps=400, rate=0.02)
    assert loss(made, targets) > 2 * loss(weights, targets)
    assert loss(made, targets) < 5 * backdoor.CEILING * np.log(CLASSES)  # Adam goes on for a while by its momentum
    assert loss(made, own) < loss(weights, own)


def test_each_client_gets_its_own_weights_and_all_the_same_where_only_a_sum_comes_back(world):
    for name in ("gradient-ascent", "detector-neuron"):
        apart, alike = (next(iter(MAKERS[name].make(means(world[0], summed)))) for summed in (False, True))
        assert not np.array_equal(apart.weights[3], apart.weights[8])
        assert np.array_equal(alike.weights[3], alike.weights[8])


def test_as_many_rounds_are_made_as_were_planned_at_most(world):
    for name, maker in MAKERS.items():
        config = ProbeConfig(isolated=5, detector_rounds=3)
        made = list(maker.make(replace(means(world[0], summed=True), config=config)))
        assert 1 <= len(made) <= planned(name, maker.kind, config, network(), 2)
    assert planned("loss", "train", ProbeConfig(), network(), 2) == 0


def test_the_attackers_own_records_are_dealt_out_evenly_whatever_their_order():
    own = records(4, 41)
    found = owners(np.array([3, 3, 8]), own, (3, 5, 8))[3:]
    assert sorted(np.bincount(found)[[3, 8]].tolist()) == [20, 21]
    order = np.random.default_rng(0).permutation(41)
    np.testing.assert_array_equal(owners(np.array([3, 8]), own[order], (3, 8))[2:], found[order])
