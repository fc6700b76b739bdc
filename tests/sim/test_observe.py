"""What each vantage is handed: enough for its attacks, and nothing that tells who was a member."""

import dataclasses
import types
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from attacks.observation import Oracle
from clients.training import logits
from clients.weights import load_vector, to_vector
from edge.artifact import Artifact
from edge.runtimes import predict
from sim.federate import GLOBAL
from sim.folder import personal_name
from sim.given import federation_of, fresh_model, stored_model
from sim.judge import truth_of
from sim.observe import observe, stranger
from sim.prepare import prepare, stranger_side
from sim.scenario import Scenario
from sim.transcript import ServerRounds


@pytest.fixture(scope="module")
def federation(tiny):
    return federation_of(tiny)


@pytest.fixture(scope="module")
def prepared(tiny, finished, quiet):
    return prepare(tiny, finished[0], quiet)


@pytest.fixture(scope="module")
def targets(tiny, finished, prepared):
    return {(t.vantage, t.target, t.precision): t for t in observe(tiny, finished[0], prepared)}


def everything(root):
    """All objects that can be reached from `root`: fields, items, closures and bound arguments, each once."""
    seen, waiting = {}, [root]
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen or isinstance(thing, str | bytes | int | float | type | types.ModuleType | Path):
            continue
        seen[id(thing)] = thing
        waiting += parts(thing)
    return list(seen.values())


def parts(thing):
    if isinstance(thing, dict):
        return [*thing.keys(), *thing.values()]
    if isinstance(thing, nn.Module):
        return list(thing.state_dict().values())
    if isinstance(thing, list | tuple | set | frozenset | ServerRounds):
        return list(thing)
    if isinstance(thing, types.FunctionType):
        return [cell.cell_contents for cell in thing.__closure__ or ()] + list(thing.__defaults__ or ())
    if isinstance(thing, types.MethodType):
        return [thing.__self__, thing.__func__]
    if isinstance(thing, partial):
        return [thing.func, thing.args, thing.keywords]
    if isinstance(thing, np.ndarray | torch.Tensor):
        return []
    slots = [getattr(thing, f.name) for f in dataclasses.fields(thing)] if dataclasses.is_dataclass(thing) else []
    return slots + list(getattr(thing, "__dict__", {}).values())


def telling(root, federation):
    """What in reach of `root` tells members from non-members: a coin, a split of the records, or the seed itself."""
    coins = [client.member for client in federation.clients] + [truth_of(federation).member]
    coins += [~coin for coin in coins]
    splits = [half for client in federation.clients for half in (client.members[0], client.held_out[0])]
    found = []
    for thing in everything(root):
        if isinstance(thing, Scenario) or any(thing is whole for whole in (federation, *federation.clients)):
            found.append(thing)
        if isinstance(thing, np.ndarray | torch.Tensor):
            array = np.asarray(thing)
            found += [c for c in coins if array.shape == c.shape and np.array_equal(array.astype(float), c)]
            found += [np.flatnonzero(c) for c in coins if np.array_equal(array, np.flatnonzero(c))]
            found += [half for half in splits if np.array_equal(array, half)]
    return found


def test_no_observation_tells_who_was_a_member(targets, federation):
    for key, target in targets.items():
        for observation in target.observations:
            assert not telling(observation, federation), key


@pytest.mark.parametrize(
    "plant",
    [
        lambda federation, scenario: federation.clients[2].member,
        lambda federation, scenario: np.flatnonzero(federation.clients[1].member),
        lambda federation, scenario: federation.clients[0].held_out[0],
        lambda federation, scenario: scenario,
        lambda federation, scenario: federation.clients[3],
    ],
)
def test_the_search_would_find_it(plant, targets, federation, tiny):
    """The same search over an observation in which the answer is hidden, behind a closure in the oracle."""
    secret = plant(federation, tiny)
    observation = targets["query", "personal", "float32"].observations[0]
    leaky = dataclasses.replace(observation, oracle=Oracle(partial(lambda _, x: (x, secret), None)))
    assert telling(leaky, federation)


def test_candidates_are_all_records_in_client_order(targets, federation):
    x = np.concatenate([client.x for client in federation.clients])
    y = np.concatenate([client.y for client in federation.clients])
    for target in targets.values():
        assert np.array_equal(np.concatenate([o.candidates.x for o in target.observations]), x)
        assert np.array_equal(np.concatenate([o.candidates.y for o in target.observations]), y)
        assert all(np.array_equal(o.population.x, federation.population.x) for o in target.observations)


def test_one_observation_per_attacked_model(targets):
    assert {key: len(target.observations) for key, target in targets.items()} == {
        ("server", "global", "float32"): 1,
        ("global-user", "global", "float32"): 1,
        ("global-user", "global", "int8"): 1,
        ("query", "personal", "float32"): 4,
        ("query", "personal", "int8"): 4,
    }


def test_the_server_sees_the_training_and_whose_records_they_are(targets, federation, finished, tiny):
    (seen,) = targets["server", "global", "float32"].observations
    assert seen.oracle is None and not seen.references
    assert [r.number for r in seen.rounds] == [1, 2, 3] and all(set(r.updates) == {0, 1, 2, 3} for r in seen.rounds)
    assert np.array_equal(seen.client, np.repeat(range(4), [len(c) for c in federation.clients]))
    assert np.array_equal(seen.rounds[0].weights, to_vector(fresh_model(tiny)))
    # What was broadcast in a round is what the last one's updates make.
    counts = [len(c.members[1]) for c in federation.clients]
    step = np.average([seen.rounds[0].updates[c] for c in range(4)], axis=0, weights=counts)
    np.testing.assert_allclose(seen.rounds[1].weights, seen.rounds[0].weights - step, atol=1e-6)


def test_who_asks_sees_answers_and_nothing_of_the_training(targets):
    for (vantage, *_), target in targets.items():
        if vantage != "server":
            assert all(not o.rounds and o.client is None for o in target.observations)


def test_oracles_answer_as_the_stored_models_do(targets, finished, tiny, federation):
    folder, _ = finished
    x = federation.population.x[:20]
    (asked,) = targets["global-user", "global", "float32"].observations
    assert np.array_equal(asked.oracle(x), logits(stored_model(tiny, folder.models / GLOBAL), x))
    (asked,) = targets["global-user", "global", "int8"].observations
    blob = folder.artifact("global").read_bytes()
    assert np.array_equal(asked.oracle(x), predict(Artifact.from_bytes(blob, "logits"), x, "tflm"))
    for client in range(4):
        asked = targets["query", "personal", "float32"].observations[client]
        assert np.array_equal(asked.oracle(x), logits(stored_model(tiny, folder.personal_model(client)), x))
        asked = targets["query", "personal", "int8"].observations[client]
        blob = folder.artifact(personal_name(client)).read_bytes()
        assert np.array_equal(asked.oracle(x), predict(Artifact.from_bytes(blob, "logits"), x, "tflm"))


def test_references_answer_as_the_attacker_s_models_do(targets, prepared, tiny, federation):
    x = federation.population.x[:20]
    for key, vectors in (("global-user", "global"), prepared.global_), (("query", "personal"), prepared.personal):
        for precision in ("float32", "int8"):
            references = targets[*key, precision].observations[0].references
            for reference, weights, half in zip(references, vectors, prepared.trained_on, strict=True):
                assert np.array_equal(reference.predict(x), logits(load_vector(fresh_model(tiny), weights), x))
                assert np.array_equal(reference.trained_on, half)


def test_strangers_never_saw_the_client_they_are_asked_about(tiny, prepared, federation):
    x = federation.population.x[:20]
    side = stranger_side(tiny, federation.clients)
    for observation, first in zip(stranger(tiny, prepared), side, strict=True):
        weights = prepared.strangers[0 if first else 1]
        assert np.array_equal(observation.oracle(x), logits(load_vector(fresh_model(tiny), weights), x))
        assert not telling(observation, federation)
