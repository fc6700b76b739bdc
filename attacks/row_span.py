"""Membership from row spans: a member lies in the span of its client's weight updates, a non-member does not.

For the first linear layer the inputs are the records, so updates of many steps and rounds add up to one span. It is
exact where a client has fewer members than features, and the rounds together at least as many rows (units) as members;
with more members, and with noise, it becomes a matter of degree (`Span.log_share`). Later layers' inputs change with
the weights: there each round is judged by itself, at the broadcast weights.

Unit: record. Scores are in standard deviations of the attacker's own records under the same span, so that those of
different clients compare; where a client has no update they are 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int
from torch import nn

from attacks.broadcast import MAX_ROUNDS, evenly_spaced, resting
from attacks.held import took_part
from attacks.layer_inputs import Layer, layer_inputs, layers
from attacks.observation import Guess, Observation, Records, ServerRound, VantageLacksError
from attacks.span import Rows, Span, rounding_of, span, span_of_rounds, without_decay

PEERS = 8  # other clients' spans that a record is held against as well
ROWS_PER_INPUT = 2  # rows of updates that are looked at, for each dimension of the inputs
_MOST_VALUES = 1 << 26  # of a stack of updates: 512 MiB
_SMALLEST = 0.05  # of the mean size of an input
_FARTHEST = 5.0  # deviations that a reference may say: another client may hold the very same record

Vector = Float[np.ndarray, " params"]
Values = Float[np.ndarray, " records"]
Table = Float[np.ndarray, "records clients"]  # a record's deviations under each client's span; NaN where not asked


def run(observation: Observation, rng: np.random.Generator) -> Guess:
    """Score: how much of its client's updates the record can account for, against what the attacker's own can.

    The first layer if it is linear, over all rounds (evenly spaced ones, where they have more than twice as many rows
    as there are features). A convolution's inputs are all patches of all members: exact where these are fewer than a
    patch has values, blurred where they fill them, so its score is added to that of the later linear layers, which is
    the mean over 12 rounds. L2 weight decay of SGD is taken off. Under Adam, whose steps are scaled by feature, inputs
    are scaled alike (by the population's root mean square). Where a client's span is not complete, the mean over up to
    8 other clients' spans is taken off, over their deviation.

    Vantage: a server that sees single updates. Each population record is held against one client drawn by `rng`.
    Raises VantageLacksError where no client asked about has a round, or the model neither a linear layer nor patches.
    """
    joined, first = took_part("row-span", observation), _first(observation)
    later = [layer for layer in _layers(observation) if not layer.patches]
    if first is None:
        return _later(observation, joined, _linear("row-span", observation), rng)
    spans = {client: _first_span(observation, first, client, joined[client]) for client in joined}
    look = _Look(first, observation.rounds[0].weights, spans)
    guess = _judged(observation, [look], rng, calibrate=not all(each.complete for each in spans.values()))
    if not first.patches or not later:
        return guess
    return _added(guess, _later(observation, joined, later, rng))


def sums(observation: Observation, rng: np.random.Generator) -> Guess:
    """Score: what a record can account for of the sums of all rounds, above that of the rounds without its client.

    A member of client c shows where c took part and not elsewhere. Rows of sums lie in the span of all participants'
    records: fewer than features, in a few rounds at least, is what this lives on. Where c took part in every round the
    first term stands alone, and says that somebody trained on the record.

    Vantage: whoever sees the secure sum and who is in it. First layer only, which must be linear. Raises
    VantageLacksError where it is not, or no client asked about ever took part.
    """
    assert observation.client is not None
    first = _first_or_refuse("row-span-sums", observation)
    picked = _picked([seen for seen in observation.rounds if seen.clients], first)
    clients = {client for seen in picked for client in seen.clients}
    asked = sorted(clients & set(observation.client.tolist()))
    if not asked:
        raise VantageLacksError("attack 'row-span-sums' needs a round with a client of the candidates: none took part")
    blocks, rounding = _blocks(observation, first, picked, [seen.mean for seen in picked])
    took = np.array([[client in seen.clients for client in asked] for seen in picked])
    whole = span(np.concatenate(blocks), rounding)
    without = {
        client: span(np.concatenate([b for b, there in zip(blocks, took[:, i], strict=True) if not there]), rounding)
        for i, client in enumerate(asked)
        if not took[:, i].all()
    }
    return _judged(
        observation, [_Look(first, observation.rounds[0].weights, dict.fromkeys(asked, whole), without)], rng
    )


def device(observation: Observation, rng: np.random.Generator) -> Guess:
    """Score: how much of the step from the global to the personal file the record can account for.

    Rows are the units' weights in both files, dequantised, their difference over its noise: uniform rounding in steps
    s and s' leaves a variance of (s^2 + s'^2) / 12. First layer if it is linear, else the mean over later linear
    layers at the global file's weights. Adam as in `run`.

    Vantage: whoever holds a personal model's file, and the global one that every device had before. Raises
    VantageLacksError where the model has no linear layer.
    """
    file, before = observation.file, observation.file_before
    assert file is not None and before is not None
    found = _linear("row-span-device", observation)
    chosen = [found[0]] if found[0].raw else found
    owner = replace(observation, client=np.zeros(len(observation.candidates), dtype=np.int64))
    looks = []
    for layer in chosen:
        moved = layer.rows(before.weights.astype(np.float64) - file.weights)
        noise = np.hypot(*(_row_noise(layer, each.weights, each.steps) for each in (file, before)))
        looks.append(_Look(layer, before.weights, {0: span(moved / noise[:, None], 1.0)}))
    return _judged(owner, looks, rng)


def count_members(observation: Observation) -> dict[int, Counted]:
    """How many records each client trained on: the rank of its first layer's updates, rounding left out.

    Unit: client. Vantage: a server that sees single updates. The rank is no more than the number of members, inputs or
    rows; where one more round adds nothing to it, it is the number of members whose inputs are independent. It needs
    SGD. Raises VantageLacksError where the first layer is not linear, steps are Adam's, or no client has a round.
    """
    first = _first_or_refuse("members-counted", observation)
    if observation.recipe.optimizer != "sgd":
        need = "updates by SGD"
        raise VantageLacksError(f"attack 'members-counted' needs {need}: Adam's steps have no rank to count", need)
    clients = {client for seen in observation.rounds for client in seen.updates}
    owned = replace(observation, client=np.array(sorted(clients), dtype=np.int64))
    joined = took_part("members-counted", owned)
    spans = {client: _first_span(observation, first, client, joined[client]) for client in sorted(joined)}
    return {client: Counted(each.rank, each.complete and each.rank < each.moved) for client, each in spans.items()}


def _first_span(observation: Observation, first: Layer, client: int, positions: Sequence[int]) -> Span:
    """The span of a client's updates of the first layer, in all the rounds in which it took part."""
    picked = _picked([observation.rounds[position] for position in positions], first)
    blocks, rounding = _blocks(observation, first, picked, [seen.updates[client] for seen in picked])
    exact = observation.recipe.optimizer == "sgd"
    return span_of_rounds(blocks, rounding) if exact else span(np.concatenate(blocks), rounding)


@dataclass(frozen=True, slots=True)
class Counted:
    """How many members a client's updates show; `complete`: and no more, as far as one more round can tell."""

    members: int
    complete: bool


@dataclass(frozen=True, slots=True)
class _Look:
    """One layer in one or all rounds: the clients' spans, and those of the rounds without each, where they count."""

    layer: Layer
    weights: Vector  # the broadcast ones; for a first layer it does not matter which
    spans: dict[int, Span]
    without: dict[int, Span] | None = None


def _later(
    observation: Observation, joined: dict[int, list[int]], found: Sequence[Layer], rng: np.random.Generator
) -> Guess:
    positions = evenly_spaced(sorted({position for each in joined.values() for position in each}), MAX_ROUNDS)
    looks = []
    for position in positions:
        seen = observation.rounds[position]
        for layer in found:
            rounding = rounding_of(layer.rows(seen.weights))
            there = sorted(client for client in joined if client in seen.updates)
            spans = {client: span(layer.rows(seen.updates[client]), rounding) for client in there}
            looks.append(_Look(layer, seen.weights, spans))
    return _judged(observation, looks, rng, calibrate=True)


def _added(one: Guess, other: Guess) -> Guess:
    assert one.population_scores is not None and other.population_scores is not None
    return Guess(one.scores + other.scores, one.population_scores + other.population_scores)


def _judged(
    observation: Observation, looks: Iterable[_Look], rng: np.random.Generator, *, calibrate: bool = False
) -> Guess:
    """The mean over looks of each record's deviations under its client's span."""
    assert observation.client is not None and observation.architecture is not None
    looks = list(looks)
    clients = np.array(sorted({client for look in looks for client in look.spans}))
    owners = np.concatenate([observation.client, rng.choice(clients, len(observation.population))])
    model, both = resting(observation.architecture), observation.candidates.joined(observation.population)
    total, count = np.zeros(len(both)), np.zeros(len(both))
    for look in looks:
        table = _deviations(observation, model, look, owners, both, calibrate=calibrate)
        found = sorted(look.spans)
        scores = _own(table, np.array(found), owners, calibrate=calibrate)
        exact = [client for client in found if look.spans[client].complete]
        if calibrate and exact:
            scores = np.where(np.isin(owners, exact), _own(table, np.array(found), owners, calibrate=False), scores)
        known = np.isfinite(scores)
        total[known] += scores[known]
        count[known] += 1
    scores = np.divide(total, count, out=np.zeros(len(both)), where=count > 0)
    return Guess(scores[: len(observation.candidates)], scores[len(observation.candidates) :])


def _deviations(
    observation: Observation,
    model: nn.Module,
    look: _Look,
    owners: Int[np.ndarray, " records"],
    both: Records,
    *,
    calibrate: bool,
) -> Table:
    """Each record's log share under its client's span (and its peers'), in deviations of the population's."""
    clients, candidates = sorted(look.spans), len(observation.candidates)
    own = np.arange(len(both)) >= candidates
    shares, start = np.full((len(both), len(clients)), np.nan), 0
    scale = _scale(observation, model, look) if observation.recipe.optimizer == "adam" else 1.0
    for x in layer_inputs(model, look.weights, look.layer, both.x):
        rows = slice(start, start + len(x))
        start += len(x)
        for column, client in enumerate(clients):
            asked = own[rows] | np.isin(owners[rows], _users(clients, column, calibrate=calibrate))
            found = look.spans[client].log_share(x[asked] * scale)
            if look.without and client in look.without:
                found -= look.without[client].log_share(x[asked] * scale)
            shares[rows, column][asked] = found
    middle, spread = shares[own].mean(axis=0), shares[own].std(axis=0)
    table = (shares - middle) / np.where(spread > 0, spread, 1.0)
    inside = (np.array([look.spans[client].inside for client in clients]) - middle) / np.where(spread > 0, spread, 1.0)
    # What lies outside a complete span is no member: all of it alike, so that a threshold set by records that are
    # further off than the client's own calls none of it one.
    table = np.where(table < inside, np.minimum(inside, 0.0), table) if look.without is None else table
    return np.asarray(table)


def _users(clients: list[int], column: int, *, calibrate: bool) -> list[int]:
    """The clients whose records are held against this one's span: its own, and those whose peer it is."""
    back = min(PEERS, len(clients) - 1) if calibrate else 0
    return [clients[column - step] for step in range(back + 1)]


def _own(
    table: Table, clients: Int[np.ndarray, " clients"], owners: Int[np.ndarray, " records"], *, calibrate: bool
) -> Values:
    """The deviation under the own client's span; with `calibrate` above the peers', over how these spread.

    NaN for records of a client that is not there. The peers' variance is drawn towards that of the attacker's own
    records, one, as if that had been seen once more.
    """
    place = np.searchsorted(clients, owners).clip(max=len(clients) - 1)
    there, rows = clients[place] == owners, np.arange(len(owners))
    mine = np.where(there, table[rows, place], np.nan)
    peers = min(PEERS, len(clients) - 1)
    if not calibrate or not peers:
        return mine
    columns = (place[:, None] + 1 + np.arange(peers)) % len(clients)
    others = table[rows[:, None], columns]
    middle = np.median(others, axis=1, keepdims=True)
    reach = _FARTHEST * np.maximum(np.median(np.abs(others - middle), axis=1, keepdims=True), 1.0)
    others = np.clip(others, middle - reach, middle + reach)
    spread = np.sqrt((peers * others.var(axis=1) + 1) / (peers + 1))
    return np.asarray((mine - others.mean(axis=1)) / spread)


def _scale(observation: Observation, model: nn.Module, look: _Look) -> Float[np.ndarray, " inputs"]:
    """What Adam's steps divide each input by, up to a factor: its root mean square, over the attacker's own records.

    Adam divides the gradient of each weight by its own root mean square, about that of the unit's error times that of
    the input. An input that hardly ever moves counts as a twentieth of the others'.
    """
    squares, count = np.zeros(look.layer.inputs), 0
    for seen in layer_inputs(model, look.weights, look.layer, observation.population.x):
        squares += (seen**2).sum(axis=(0, 1))
        count += seen.shape[0] * seen.shape[1]
    size = np.sqrt(squares / count)
    return np.asarray(1 / np.maximum(size, _SMALLEST * max(size.mean(), np.finfo(np.float32).tiny)))


def _blocks(
    observation: Observation, layer: Layer, picked: Sequence[ServerRound], vectors: Sequence[Vector]
) -> tuple[list[Rows], float]:
    """The layer's rows of each update, without weight decay, and scaled as inputs are; and what rounding leaves."""
    weights = [layer.rows(seen.weights) for seen in picked]
    rows = [layer.rows(vector) for vector in vectors]
    rounding = float(np.sqrt(np.mean([rounding_of(each) ** 2 for each in weights])))
    if observation.recipe.optimizer == "sgd" and observation.recipe.weight_decay:
        rows = without_decay(rows, weights, rounding)
    return rows, rounding


def _picked(rounds: Sequence[ServerRound], layer: Layer) -> list[ServerRound]:
    """As many of the rounds as have rows enough, evenly spaced."""
    inputs = layer.inputs
    most = min(-(-ROWS_PER_INPUT * inputs // layer.units), _MOST_VALUES // (layer.units * inputs))
    return evenly_spaced(rounds, max(most, 1)) if rounds else []


def _row_noise(layer: Layer, weights: Vector, steps: Vector | None) -> Values:
    """For each unit the standard deviation of its weights' rounding, uniform within a step."""
    fine = np.spacing(np.abs(weights).astype(np.float32))
    size = layer.rows(fine if steps is None else np.maximum(steps, fine))[:, : layer.inputs - (layer.bias is not None)]
    return np.asarray(np.sqrt((size**2).mean(axis=1) / 12))


def _first(observation: Observation) -> Layer | None:
    found = _layers(observation)
    return found[0] if found and found[0].raw else None


def _first_or_refuse(attack: str, observation: Observation) -> Layer:
    found = _first(observation)
    if found is None or found.patches:
        need = "first layer that is linear"
        has = f"patches of {found.inputs - (found.bias is not None)} values" if found else "no records"
        raise VantageLacksError(f"attack '{attack}' needs a {need}: the inputs of this model's are {has}", need)
    return found


def _linear(attack: str, observation: Observation) -> list[Layer]:
    found = [layer for layer in _layers(observation) if not layer.patches]
    if not found:
        need = "linear layer"
        raise VantageLacksError(f"attack '{attack}' needs a {need}, this model has none", need)
    return found


def _layers(observation: Observation) -> list[Layer]:
    assert observation.architecture is not None
    return layers(resting(observation.architecture), observation.candidates.x[:1])
