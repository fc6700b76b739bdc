"""Every finite row of a budget is put to the test through the real apps: no lower bound lies above what it prints.

Tiny federations run again and again, with fresh noise from the operating system. Each victim's contribution lies on
coordinates of its own, which nobody else moves, so that the victims of one run are independent trials; half of them, by
a coin, are neighbours. Whoever audits knows everything but that coin, and uses the best statistic there is for what its
vantage sees. Bounds as in tests/clients/test_dp_audit.py: Clopper-Pearson at 99.9 %, with the threshold chosen on one
half of the trials. That a bound lies below epsilon proves nothing, so the scores must carry a signal as well.
"""

from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import pytest
from flwr.app import Message, MetricRecord, RecordDict
from torch import nn

from clients.aggregation.secagg import SecAggMod
from clients.app import client_app
from clients.randomness import generator, noise_generator
from clients.weights import flatten, load_vector, to_arrays, to_vector, unflatten
from server.app import ServerRecipe, server_app
from sim.budgets import budgets
from sim.engines import ENGINES
from sim.federate import client_recipe
from sim.folder import RunFolder
from sim.given import federation_of
from sim.noise import hidden_coins, planned, skellam
from sim.protect import protect
from sim.scenario import load_scenario
from tests.auditor import DELTA, epsilon_below

pytestmark = pytest.mark.slow
NORM, NOISE = 0.5, 0.8
CANARIES, LARGE, STEP = 60, 1e4, 1e-6  # gradients of norm 7,000, and steps that do not make them any smaller


@dataclass
class Seen:
    """What one federation showed: each round as the server holds it, the last global model, personal models."""

    rounds: list = field(default_factory=list)
    first: np.ndarray | None = None
    last: np.ndarray | None = None
    personal: dict = field(default_factory=dict)

    def steps(self):
        """Of each round, what was taken off the global weights."""
        weights = [*(each.weights for each in self.rounds), self.last]
        return [before.astype(float) - after for before, after in pairwise(weights)]


def federate(scenario, protections, recipe):
    """One federation of the scenario, through its apps and its strategy."""
    seen, clients = Seen(first=to_arrays(recipe.build())), len(federation_of(scenario).clients)

    def finish(arrays, _):
        seen.last = flatten(arrays)

    server = ServerRecipe(
        seed=None if hidden_coins(scenario) else scenario.seed,
        clients=clients,
        participants=clients,
        plan=scenario.federation,
        initial=seen.first,
        observe=seen.rounds.append,
        finish=finish,
        stopped=pytest.fail,
        release=protections.release,
        exchange=protections.exchange,
        settings=protections.settings,
    )
    own = replace(recipe, keep=lambda client, _, model: seen.personal.update({client: to_vector(model)}))
    ENGINES["inprocess"](server_app(server), client_app(own), clients)
    return seen


@dataclass(frozen=True)
class Canary:
    """The innermost mod: in the place of what training gave, an update along the client's own coordinate."""

    lengths: dict

    def __call__(self, message, context, call_next):
        reply = call_next(message, context)
        if message.metadata.message_type != "train":
            return reply
        client, arrays = int(context.node_config["partition-id"]), message.content["arrays"]
        update = np.zeros(len(flatten(arrays)))
        update[client] = self.lengths[client]
        moved = unflatten(flatten(arrays) - update, arrays)
        return Message(RecordDict({"arrays": moved, "metrics": MetricRecord({"num-examples": 1})}), reply_to=message)


@pytest.fixture
def prepared(tiny_file, tmp_path):
    """A scenario with settings changed, its printed epsilons, and what its apps are handed: a record per client."""

    def make(table, *sets):
        small = ["model.width=4", "personalization.epochs=1", "privacy.noise=system", f"privacy.{table}.delta={DELTA}"]
        scenario = load_scenario(tiny_file, [*small, *sets])
        rows = {(row.unit, row.vantage): row.epsilon for row in budgets(scenario, planned(scenario))}
        protections = protect(scenario)
        recipe = client_recipe(scenario, RunFolder(tmp_path), protections)
        x, y = federation_of(scenario).clients[0].members
        return scenario, rows, protections, replace(recipe, load=lambda _: (x[:1], y[:1]))

    return make


def holds(row, scores, present):
    """No lower bound above the row; and the scores carry what is looked for, or the audit could have found nothing."""
    there, absent = scores[present], scores[~present]
    error = np.sqrt(there.var() / len(there) + absent.var() / len(absent))
    assert there.mean() - absent.mean() > 4 * error
    bound = epsilon_below(there, absent)
    assert bound < row, f"lower bound {bound:.3g}, printed {row:.3g}"


def canary_trials(setting, runs, lengths, statistic):
    """Scores, and the sides of the trials. Each client's update is as long as a coin says: `lengths` has both."""
    scenario, _, protections, recipe = setting
    clients, scores, sides = range(len(federation_of(scenario).clients)), [], []
    for run in range(runs):
        side = generator(0, "sides", run).random(len(clients)) < 0.5
        canary = Canary({client: lengths[int(side[client])] for client in clients})
        seen = federate(scenario, protections, replace(recipe, mods=(*recipe.mods, canary)))
        scores += [statistic(seen, client) for client in clients]
        sides += side.tolist()
    return np.array(scores), np.array(sides)


def test_local_noise(prepared):
    """One client's updates replaced: what the server holds, and what is left of it in the global model."""
    sets = ["federation.rounds=1", "data.clients=12", f"privacy.client.clipping_norm={NORM}"]
    setting = prepared("client", "privacy.client.where=local", "privacy.client.noise_multiplier=1", *sets)

    def seen_by(seen, client):
        return float(seen.rounds[0].updates[client][client]), float(seen.steps()[0][client])

    scores, sides = canary_trials(setting, 20, (-2 * NORM, 2 * NORM), seen_by)
    for unit in ("record", "client"):
        holds(setting[1][unit, "server"], scores[:, 0], sides)
        for vantage in ("peer", "global-user"):
            assert setting[1][unit, vantage] == setting[1][unit, "server"]
            assert epsilon_below(scores[sides, 1], scores[~sides, 1]) < setting[1][unit, vantage]


@pytest.mark.parametrize("unit", ["client", "record"])
@pytest.mark.parametrize("share", [1, 0.5])
def test_central_noise(prepared, unit, share):
    """A client that is drawn by a coin that nobody outside sees: its update is there or zero, or there or the opposite.

    The statistic is the log-likelihood ratio of the rounds' released sums.
    """
    sampling = ["federation.sampling=poisson", f"federation.participation={share}", "federation.rounds=2"]
    sets = ["data.clients=12", "privacy.client.where=central", f"privacy.client.clipping_norm={NORM}"]
    setting = prepared("client", *sets, *sampling, f"privacy.client.noise_multiplier={NOISE}")
    expected, other = share * 12, 0.0 if unit == "client" else -1.0

    def ratio(seen, client):
        x = np.array([step[client] for step in seen.steps()]) * expected / NORM
        parts = [share * np.exp(-((x - at) ** 2 - x**2) / (2 * NOISE**2)) + 1 - share for at in (1.0, other)]
        return np.log(parts[0] / parts[1]).sum()

    scores, sides = canary_trials(setting, 15, (2 * NORM * other, 2 * NORM), ratio)
    for vantage in ("peer", "global-user"):
        holds(setting[1][unit, vantage], scores, sides)


def test_distributed_noise(prepared):
    """Four clients, one of them the peer, which takes its own whole numbers off the sum."""
    sets = ["federation.rounds=1", "aggregation.protocol=secagg", f"privacy.client.clipping_norm={NORM}"]
    noise = ["privacy.client.where=distributed", "privacy.client.noise_multiplier=0.6", "data.clients=4"]
    scenario, rows, protections, recipe = prepared("client", *sets, *noise)
    encoding, trials = skellam(scenario), {"aggregator": [], "peer": []}
    sides = []
    for run in range(60):
        side = generator(0, "sides", run).random(3) < 0.5
        canary = Canary({**{client: 2 * NORM * side[client] for client in range(3)}, 3: 0.0})
        mods = [replace(mod, seed=run) if isinstance(mod, SecAggMod) else mod for mod in protections.mods]
        seen = federate(scenario, protections, replace(recipe, mods=(*mods, canary)))
        total = 4 * seen.rounds[0].mean
        zero = np.append(np.zeros(encoding.dimension), 1.0)
        own = encoding.decode(encoding.encode(zero, noise_generator(run, "encoding", 1, 3)))[:-1]
        trials["aggregator"] += total[:3].tolist()
        trials["peer"] += (total - own)[:3].tolist()
        sides += side.tolist()
    assert np.std(trials["peer"]) < np.std(trials["aggregator"])  # so it was its own noise that it took off
    for vantage, scores in trials.items():
        holds(rows["client", vantage], np.array(scores), np.array(sides))
    assert (
        epsilon_below(*(np.array(trials["aggregator"])[np.array(sides) == side] for side in (True, False)))
        < (rows["client", "global-user"])
    )


@pytest.mark.parametrize("share", [1, 0.5])
def test_records(prepared, share):
    """Records with features of their own, in one of two clients; its coins, where there are some, are the schedule's.

    Server: the updates of the rounds it took part in. Others: the global model. Holder: the personal model as well.
    """
    sampling = ["federation.sampling=poisson", f"federation.participation={share}", "federation.rounds=2"]
    sets = ["privacy.record.noise_multiplier=1.5", "privacy.record.sampling_rate=1", "data.clients=2"]
    steps = [f"training.learning_rate={STEP}", f"personalization.learning_rate={STEP}", "training.batch_size=1"]
    setting = prepared("record", *sets, *sampling, *steps, "personalization.batch_size=1")
    scenario, rows, protections, recipe = setting
    x, scores, sides = LARGE * np.eye(CANARIES, dtype=np.float32), {}, []
    victim = int(np.argmax(planned(scenario).trained))
    for run in range(12):
        inside = generator(0, "coins", run).random(CANARIES) < 0.5
        own = {victim: (x[inside], np.zeros(inside.sum(), np.int64)), 1 - victim: (x[:1] * 0, np.zeros(1, np.int64))}
        seen = federate(scenario, protections, replace(recipe, load=own.__getitem__, build=_zeros))
        updates = [each.updates[victim] for each in seen.rounds if victim in each.clients]
        shown = {"server": -np.sum(updates, axis=0), "global-user": seen.last, "query": seen.personal[victim]}
        shown["query"] = shown["query"] - seen.last + shown["server"]
        for vantage, weights in shown.items():
            first, second = np.asarray(weights).reshape(2, CANARIES)
            scores.setdefault(vantage, []).append(first - second)
        sides.append(inside)
    for vantage, found in scores.items():
        holds(rows["record", vantage], np.concatenate(found), np.concatenate(sides))
    assert rows["record", "peer"] == rows["record", "global-user"]
    assert rows["record", "device"] == rows["record", "query"]


def _zeros():
    return load_vector(nn.Linear(CANARIES, 2, bias=False), np.zeros(2 * CANARIES, np.float32))
