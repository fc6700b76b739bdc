"""Row spans against spans that were worked out by hand, and against what the product's own clients send."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from attacks.layer_inputs import layer_inputs, layers
from attacks.observation import Observation, Opened, Recipe, Records, ServerRound, VantageLacksError
from attacks.registry import launch
from attacks.row_span import count_members
from attacks.span import Span, noise_edge, span, span_of_rounds, without_decay
from clients.training import TrainingConfig, train
from clients.weights import load_vector, to_vector
from sim.score import auc, tpr_at_fpr

FEATURES, UNITS, CLASSES, HELD = 60, 16, 4, 40


def test_a_model_may_be_a_single_layer():
    assert [each.inputs for each in layers(nn.Linear(3, 2), np.zeros((1, 3), dtype=np.float32))] == [4]


def test_share_of_records_against_a_span_of_one_direction():
    """Rows along (3, 4, 0) of length 10, noise 1: a = 100/101 of the energy along it is taken off, nothing across."""
    one = Span(values=np.array([10.0]), vectors=np.array([[0.6, 0.8, 0.0]]), noise=1.0, moved=3)
    x = np.array([[[3.0, 4.0, 0.0]], [[0.0, 0.0, 2.0]], [[4.0, -3.0, 0.0]], [[3.0, 4.0, 5.0]]])
    np.testing.assert_allclose(one.log_share(x), [np.log(101), 0, 0, -np.log((25 / 101 + 25) / 50)], atol=1e-12)


def test_a_record_of_zeros_says_nothing():
    one = Span(values=np.array([10.0]), vectors=np.array([[1.0, 0.0]]), noise=1.0, moved=2)
    assert one.log_share(np.zeros((1, 1, 2))) == 0


def test_noise_ends_where_marchenko_and_pastur_say():
    rng = np.random.default_rng(0)
    rows = 1e-3 * rng.normal(size=(300, 100)) + rng.normal(size=(300, 7)) @ rng.normal(size=(7, 100))
    values = np.linalg.svd(rows, compute_uv=False)
    assert noise_edge(values, 300, 100) == pytest.approx(1e-3 * (np.sqrt(293) + np.sqrt(93)) * 1.1, rel=0.05)
    assert span(rows, 1e-3).rank == 7


def test_a_full_span_is_not_called_complete():
    rng = np.random.default_rng(0)
    blocks = [rng.normal(size=(30, 80)) @ rng.normal(size=(80, 20)) for _ in range(4)]
    assert not span_of_rounds(blocks, 1e-9).complete


@pytest.mark.parametrize(("rounds", "complete"), [(3, False), (4, True)])
def test_a_span_is_complete_when_one_more_round_adds_nothing(rounds, complete):
    """Of 20 inputs each round shows at most 9: rounds of softmax units sum to zero, which alone proves nothing."""
    rng, inputs = np.random.default_rng(0), np.random.default_rng(1).normal(size=(20, 50))
    errors = [rng.normal(size=(10, 20)) for _ in range(rounds)]
    found = span_of_rounds([(e - e.mean(axis=0)) @ inputs for e in errors], 1e-12)
    assert found.complete is complete
    assert found.rank == (20 if complete else 9 * rounds if rounds < 3 else 20)


@pytest.mark.parametrize(
    ("factors", "error"), [((0.025,) * 3, 1e-12), ((0.02, 0.03, 0.025), 1e-5), ((0.0,) * 3, 1e-12)]
)
def test_weight_decay_is_taken_off(factors, error):
    """The same number in each round for one client, another in each for sums; none where nothing decays."""
    rng, inputs = np.random.default_rng(0), np.random.default_rng(1).normal(size=(10, 50))
    weights = [rng.normal(size=(16, 50)) for _ in range(3)]
    clean = [1e-2 * rng.normal(size=(16, 10)) @ inputs for _ in factors]
    found = without_decay([c + g * w for c, g, w in zip(clean, factors, weights, strict=True)], weights, 1e-12)
    np.testing.assert_allclose(np.concatenate(found), np.concatenate(clean), atol=error)


def test_inputs_of_a_convolution_are_its_patches():
    """A layer is its rows times its inputs: for a convolution, every output is a row times a patch."""
    model = nn.Sequential(nn.Conv1d(2, 3, 4, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2))
    rng = np.random.default_rng(0)
    weights = rng.normal(size=sum(p.numel() for p in model.parameters())).astype(np.float32)
    load_vector(model, weights)
    x = rng.normal(size=(5, 2, 8)).astype(np.float32)
    conv, linear = layers(model, x[:1])
    assert (conv.raw, conv.patches, conv.inputs, linear.raw, linear.inputs) == (True, True, 9, False, 13)
    (patches,) = layer_inputs(model, weights, conv, x)
    expected = model[0](torch.tensor(x)).detach().numpy().transpose(0, 2, 1)
    np.testing.assert_allclose(patches @ conv.rows(weights).T, expected, atol=1e-5)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(3)

    def some(count):
        return Records(rng.normal(size=(count, FEATURES)).astype(np.float32), rng.integers(CLASSES, size=count))

    return [some(HELD) for _ in range(3)], some(200)


def seen(data, config, clients=3, rounds=8, model=None, members=HELD // 2):
    """What a server sees of real local training; the first records of each client are members."""
    held, population = data
    rng, model = (
        np.random.default_rng(1),
        model or nn.Sequential(nn.Linear(FEATURES, UNITS), nn.ReLU(), nn.Linear(UNITS, CLASSES)),
    )
    weights = rng.normal(scale=0.2, size=sum(p.numel() for p in model.parameters())).astype(np.float32)
    seen_rounds = []
    for number in range(rounds):
        local = {}
        for client in range(clients):
            load_vector(model, weights)
            train(model, held[client].x[:members], held[client].y[:members], config, rng)
            local[client] = weights - to_vector(model)
        mean = np.mean(list(local.values()), axis=0)
        seen_rounds.append(ServerRound(number, weights, tuple(local), mean, local))
        weights = weights - mean
    candidates = Records(np.concatenate([h.x for h in held]), np.concatenate([h.y for h in held]))
    return Observation(
        vantage="server",
        candidates=candidates,
        population=population,
        rounds=seen_rounds,
        architecture=model,
        client=np.repeat(np.arange(len(held)), HELD),
        recipe=Recipe(config.optimizer, config.weight_decay),
    )


MEMBER = np.tile(np.arange(HELD) < HELD // 2, 3)
SGD = {"epochs": 2, "batch_size": 5, "learning_rate": 0.05}
RECIPES = {
    "sgd": SGD,
    "momentum": {**SGD, "momentum": 0.9, "learning_rate": 0.01},
    "decay": {**SGD, "momentum": 0.9, "learning_rate": 0.01, "weight_decay": 0.05},
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_members_of_few_are_told_without_an_error(data, recipe):
    """Twenty members, sixty features: also with the attacker's own threshold, set on records of nobody."""
    guess = launch("row-span", seen(data, TrainingConfig(**RECIPES[recipe])), np.random.default_rng(0))
    assert guess.scores[MEMBER].min() > guess.scores[~MEMBER].max()
    assert guess.scores[MEMBER].min() > guess.population_scores.max()


def over_patches(kernel, stride):
    positions = (FEATURES - kernel) // stride + 1
    conv = nn.Conv1d(1, UNITS, kernel, stride)
    return nn.Sequential(
        nn.Unflatten(1, (1, FEATURES)), conv, nn.ReLU(), nn.Flatten(), nn.Linear(UNITS * positions, CLASSES)
    )


@pytest.mark.parametrize(("kernel", "stride", "least"), [(30, 30, 1.0), (10, 5, 0.9)])
def test_patches_tell_members_exactly_where_they_are_fewer_than_their_values(data, kernel, stride, least):
    """Eight members: 16 patches of 31 dimensions, known exactly; 88 of 11, blurred, the later layer beside them."""
    observation = seen(data, TrainingConfig(**SGD), model=over_patches(kernel, stride), members=8)
    member = np.tile(np.arange(HELD) < 8, 3)
    assert auc(launch("row-span", observation, np.random.default_rng(0)).scores, member) >= least
    first = replace(observation, candidates=observation.candidates[:HELD], rounds=without(observation.rounds, 0))
    elsewhere = launch("row-span", replace(first, client=np.ones(HELD, dtype=int)), np.random.default_rng(0))
    assert auc(elsewhere.scores, member[:HELD]) == pytest.approx(0.5, abs=0.2)  # 8 of 40: a deviation is 0.11


def test_where_members_fill_the_span_other_clients_are_references():
    """150 members of 60 features, some records odder than others: an odd one stands out under every span."""
    rng, clients, held, members, rounds = np.random.default_rng(8), 6, 300, 150, 8
    sizes = np.linspace(1, 0.05, FEATURES)

    def some(count):
        odd = rng.lognormal(0, 0.7, size=(count, 1))
        x = rng.normal(size=(count, FEATURES)) * sizes ** (1 + odd)
        return Records(x.astype(np.float32), rng.integers(CLASSES, size=count))

    groups, population = [some(held) for _ in range(clients)], some(150)
    model, zero = nn.Linear(FEATURES, UNITS), np.zeros(UNITS * (FEATURES + 1), dtype=np.float32)

    def update(records):
        errors = rng.normal(size=(UNITS, members))
        return np.concatenate([(errors @ records.x[:members]).ravel(), errors.sum(axis=1)])

    seen_rounds = [
        ServerRound(n, zero, tuple(range(clients)), zero, {c: update(groups[c]) for c in range(clients)})
        for n in range(rounds)
    ]
    observation = Observation(
        vantage="server",
        candidates=Records(np.concatenate([g.x for g in groups]), np.concatenate([g.y for g in groups])),
        population=population,
        rounds=seen_rounds,
        architecture=model,
        client=np.repeat(np.arange(clients), held),
    )
    member = np.tile(np.arange(held) < members, clients)
    with_peers = launch("row-span", observation, np.random.default_rng(0)).scores
    views = (only(observation, client) for client in range(clients))
    alone = np.concatenate([launch("row-span", view, np.random.default_rng(0)).scores for view in views])
    caught, caught_alone = (tpr_at_fpr(scores, member, 0.01)[0] for scores in (with_peers, alone))
    assert caught > 0.3 > 0.1 > caught_alone


def only(observation, client):
    """The same with nobody but one client to be seen."""
    mine = observation.client == client
    rounds = [replace(seen, clients=(client,), updates={client: seen.updates[client]}) for seen in observation.rounds]
    return replace(observation, candidates=observation.candidates[mine], client=observation.client[mine], rounds=rounds)


def rounded(model, weights, bits):
    """A file's weights: per-unit scales, as the converter has them; biases are rounded too finely to see."""
    kept, steps = [], []
    load_vector(model, weights)
    for each in model.parameters():
        values = each.detach().numpy().astype(np.float64)
        step = np.full_like(values, 1e-7)
        if values.ndim > 1:
            step = np.broadcast_to(np.abs(values).max(axis=1, keepdims=True) / (2 ** (bits - 1) - 1), values.shape)
        kept.append((np.round(values / step) * step).ravel())
        steps.append(step.ravel())
    return Opened(
        weights=np.concatenate(kept),
        low=np.zeros(1),
        high=np.ones(1),
        extremes=lambda x, _: (x[:, :1], x[:, :1]),
        calibration_records=1,
        steps=np.concatenate(steps),
    )


def held_by(data, bits, owner, asked, stages=1):
    """A holder of client `owner`'s file asks about client `asked`; the file before is one stage of training older."""
    held, population = data
    rng = np.random.default_rng(owner)
    model = nn.Sequential(nn.Linear(FEATURES, UNITS), nn.ReLU(), nn.Linear(UNITS, CLASSES))
    weights = np.random.default_rng(1).normal(scale=0.2, size=sum(p.numel() for p in model.parameters()))
    files = [rounded(model, weights.astype(np.float32), bits)]
    load_vector(model, weights.astype(np.float32))
    for _ in range(stages):
        config = TrainingConfig(epochs=20, batch_size=5, learning_rate=0.05)
        train(model, held[owner].x[: HELD // 2], held[owner].y[: HELD // 2], config, rng)
        now = to_vector(model)
        files.append(rounded(model, now, bits))
        load_vector(model, now)
    return Observation(
        vantage="device",
        candidates=held[asked],
        population=population,
        architecture=model,
        file=files[-1],
        file_before=files[-2],
    )


@pytest.mark.parametrize(("bits", "stages"), [(8, 1), (4, 1), (8, 2)])
def test_two_files_show_their_owner_and_nobody_else(data, bits, stages):
    """Also of int4 weights (int16x8 has int8's), and where the earlier file was personal already."""

    def told(shift):
        seen = [held_by(data, bits, owner, (owner + shift) % 3, stages) for owner in range(3)]
        return auc(
            np.concatenate([launch("row-span-device", s, np.random.default_rng(0)).scores for s in seen]), MEMBER
        )

    assert told(0) > 0.9
    assert told(1) == pytest.approx(0.5, abs=0.1)  # a deviation is 0.05


def without(rounds, client):
    """Rounds of all others: as a peer's, a record's own client would speak against it."""
    return [replace(seen, updates={c: u for c, u in seen.updates.items() if c != client}) for seen in rounds]


def test_patches_alone_are_enough(data):
    """A fully convolutional model has no linear layer, and needs none."""
    whole, one = nn.Conv1d(1, UNITS, 30, 30), nn.Conv1d(UNITS, CLASSES, 2)
    model = nn.Sequential(nn.Unflatten(1, (1, FEATURES)), whole, nn.ReLU(), one, nn.Flatten())
    observation = seen(data, TrainingConfig(**SGD), model=model, members=8)
    member = np.tile(np.arange(HELD) < 8, 3)
    assert auc(launch("row-span", observation, np.random.default_rng(0)).scores, member) == 1


def test_another_clients_span_tells_nothing(data):
    observation = seen(data, TrainingConfig(**SGD))
    elsewhere = replace(observation, client=(observation.client + 1) % 3)
    assert auc(launch("row-span", elsewhere, np.random.default_rng(0)).scores, MEMBER) == pytest.approx(0.5, abs=0.05)


def test_adam_blurs_the_span_and_does_not_close_it(data):
    adam = TrainingConfig(epochs=2, batch_size=5, optimizer="adam", learning_rate=0.005)
    assert auc(launch("row-span", seen(data, adam), np.random.default_rng(0)).scores, MEMBER) > 0.8


def test_sums_of_few_records_are_as_exact(data):
    """Sixty members of three clients; sixty-one dimensions: everybody always takes part."""
    guess = launch("row-span-sums", seen(data, TrainingConfig(**SGD), rounds=12), np.random.default_rng(0))
    assert auc(guess.scores, MEMBER) > 0.9


def test_a_model_without_a_linear_first_layer_has_no_sums_to_look_at(data):
    observation = seen(data, TrainingConfig(**SGD))
    conv = nn.Sequential(nn.Conv1d(1, 2, 3), nn.Flatten(), nn.Linear(2 * (FEATURES - 2), CLASSES))
    x = observation.candidates.x[:, None]
    lacking = replace(observation, architecture=conv, candidates=Records(x, observation.candidates.y))
    with pytest.raises(VantageLacksError, match="'row-span-sums' needs a first layer that is linear"):
        launch("row-span-sums", lacking, np.random.default_rng(0))


def test_the_rank_of_updates_is_the_number_of_members(data):
    found = count_members(seen(data, TrainingConfig(**SGD)))
    assert [(each.members, each.complete) for each in found.values()] == [(HELD // 2, True)] * 3


def test_one_round_shows_no_more_members_than_units(data):
    found = count_members(seen(data, TrainingConfig(**SGD), rounds=1))
    assert all(each.members <= UNITS and not each.complete for each in found.values())


def test_adam_leaves_no_rank_to_count(data):
    observation = replace(seen(data, TrainingConfig(**SGD), rounds=1), recipe=Recipe("adam"))
    with pytest.raises(VantageLacksError, match="'members-counted' needs updates by SGD"):
        count_members(observation)
