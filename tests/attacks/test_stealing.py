"""A surrogate learns what the target answers, and no candidate is asked about."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import vector_to_parameters

from attacks import stealing
from attacks.attack import Attack, carry_out
from attacks.broadcast import answers
from attacks.observation import NotFiniteError, Observation, Oracle, Records

FEATURES, CLASSES = 6, 3


def network(seed):
    model = nn.Sequential(nn.Linear(FEATURES, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, CLASSES)).eval()
    start = np.random.default_rng(seed).normal(scale=0.4, size=sum(p.numel() for p in model.parameters()))
    vector_to_parameters(torch.tensor(start, dtype=torch.float32), model.parameters())
    return model


TARGET = network(1)


def logits(x, model=TARGET):
    return 8 * answers(model, dict(model.named_parameters()), x)


def probabilities(x):
    return torch.tensor(logits(x)).softmax(dim=1).numpy()


def records(count, seed):
    x = np.random.default_rng(seed).normal(size=(count, FEATURES)).astype(np.float32)
    return Records(x, logits(x).argmax(axis=1))


def test_a_surrogate_answers_as_the_target_does():
    taught, held_back = records(400, 0).x, records(400, 2)
    surrogate = stealing.distilled(network(2), taught, probabilities(taught), np.random.default_rng(0))
    assert (
        answers(surrogate, dict(surrogate.named_parameters()), held_back.x).argmax(axis=1) == held_back.y
    ).mean() > 0.9


def test_a_surrogate_that_diverges_is_told_and_no_attack():
    model, own = network(2), records(40, 0).x
    vector_to_parameters(torch.full((sum(p.numel() for p in model.parameters()),), 1e30), model.parameters())
    with pytest.raises(NotFiniteError, match="the attacker's surrogate left the finite numbers"):
        stealing.distilled(model, own, probabilities(own), np.random.default_rng(0), epochs=1)


def test_loss_by_hand():
    surrogate = nn.Linear(1, 2)
    with torch.no_grad():
        surrogate.weight[:], surrogate.bias[:] = torch.tensor([[1.0], [0.0]]), 0.0
    found = stealing.loss(surrogate, Records(np.log([[3.0], [3.0]], dtype=np.float32), np.array([0, 1])))
    np.testing.assert_allclose(found, [np.log(4 / 3), np.log(4)], rtol=1e-6)


@pytest.mark.parametrize(("output", "answer"), [("logits", logits), ("probabilities", probabilities)])
def test_no_candidate_is_asked_about(output, answer):
    asked, own = [], records(60, 3)

    def seen(x):
        asked.append(x)
        return answer(x)

    observation = Observation(
        vantage="query", candidates=records(40, 4), population=own, oracle=Oracle(seen, output), architecture=network(5)
    )
    attack = Attack("stolen", "", stealing.run, (), "")
    guess = carry_out(attack, observation, np.random.default_rng(0))
    np.testing.assert_array_equal(np.concatenate(asked), own.x)
    assert guess.queries_per_record == 60 / 40
    assert np.isfinite(guess.scores).all() and np.isfinite(guess.population_scores).all()


def test_learning_leaves_the_architecture_and_torch_as_they_were():
    architecture = network(7).train()
    before, state = copy.deepcopy(architecture.state_dict()), torch.get_rng_state()
    stealing.distilled(architecture, records(50, 8).x, probabilities(records(50, 8).x), np.random.default_rng(0), 2)
    assert architecture.training
    assert all(torch.equal(before[name], value) for name, value in architecture.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())
