"""The Flower ClientApp of one device: it trains on its members, and fine-tunes a personal model it keeps to itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from jaxtyping import Float, Int
from torch import nn

from clients.aggregation.payload import WEIGHT
from clients.messages import (
    PERSONALIZE,
    TRAINING,
    TrainingFailedError,
    answer_once,
    failing_quietly,
    is_training,
    server_round,
)
from clients.privacy import BudgetSpentError, RecordPrivacyConfig
from clients.randomness import noise_generator
from clients.training import TrainingConfig, train
from clients.update import Mod
from clients.weights import load_arrays, to_arrays

Split = tuple[Float[np.ndarray, "records ..."], Int[np.ndarray, " records"]]
ROUNDS = "rounds"  # in a client's state and its last report: rounds it trained in
_PERSONALISED = "personalised"  # in its state: personal models it made
_ONE = {ROUNDS: "round", _PERSONALISED: "personal model"}
_STATE = "privacy"


@dataclass(frozen=True, slots=True)
class RecordNoise:
    """DP-SGD as a client is to run it: the settings, with the noise multiplier solved for."""

    config: RecordPrivacyConfig
    noise_multiplier: float
    system: bool = False  # noise and batches from the operating system's randomness, not from the recipe's seed


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientRecipe:
    """What a client app is handed. All parts must be picklable: Ray ships them to its workers."""

    seed: int
    load: Callable[[int], Split]  # client number -> its members
    build: Callable[[], nn.Module]
    training: TrainingConfig
    personalization: TrainingConfig
    keep: Callable[[int, int, nn.Module], None]  # client number, round: stores the personal model on the device
    noise: RecordNoise | None = None
    rounds_allowed: int | None = None  # training rounds that the client's own budget has room for; None: no limit
    personalizations_allowed: int | None = None  # and personal models that it has room for
    tells_failures: bool = True  # false where there is privacy: that personalising failed would be a release
    mods: tuple[Mod, ...] = ()  # around everything, outermost first
    register: Callable[[ClientApp], None] | None = None  # adds the message types that the mods answer themselves


def client_app(recipe: ClientRecipe) -> ClientApp:
    """A ClientApp in Flower's Message API.

    It answers `query` with its client number (the node's partition id), `train` with new weights, and
    `train.personalize` with the number of rounds it trained in: the personal model stays with the client. To train or
    personalise in a round it agrees once, and in no older one, also where that fails.
    """
    app = ClientApp(mods=list(recipe.mods))
    if recipe.register:
        recipe.register(app)

    @app.query()
    def who(message: Message, context: Context) -> Message:
        return _reply(message, MetricRecord({"client": _client(context)}))

    @app.train()
    def fit(message: Message, context: Context) -> Message:
        answer_once(context, "training", server_round(message))
        _spend(context, ROUNDS, recipe.rounds_allowed)
        model, metrics = _trained(recipe, recipe.training, message, _client(context))
        return _reply(message, metrics, to_arrays(model))

    @app.train(PERSONALIZE)
    def personalize(message: Message, context: Context) -> Message:
        answer_once(context, "personalising", server_round(message))
        _spend(context, _PERSONALISED, recipe.personalizations_allowed)
        model = _personalised(recipe, message, _client(context))
        recipe.keep(_client(context), server_round(message), model)
        return _reply(message, MetricRecord({ROUNDS: _count(context, ROUNDS)}))

    return app


def _client(context: Context) -> int:
    return int(context.node_config["partition-id"])


def _count(context: Context, what: str) -> int:
    return int(context.state[_STATE].get(what, 0)) if _STATE in context.state else 0  # type: ignore[arg-type]  # as _spend wrote


def _spend(context: Context, what: str, allowed: int | None) -> None:
    """Note one more round, or personal model, in the client's own state, before it trains; or refuse to."""
    done = _count(context, what)
    if allowed is not None and done >= allowed:
        raise BudgetSpentError(f"one more {_ONE[what]} than {done} would pass max_epsilon")
    counts = {each: _count(context, each) for each in _ONE}
    context.state[_STATE] = ConfigRecord({**counts, what: done + 1})


def _personalised(recipe: ClientRecipe, message: Message, client: int) -> nn.Module:
    """The personal model. Where nobody may learn that training failed it is the global one then."""
    if recipe.tells_failures:
        return _trained(recipe, recipe.personalization, message, client)[0]
    try:
        return failing_quietly(lambda: _trained(recipe, recipe.personalization, message, client))[0]
    except TrainingFailedError:
        pass  # its name is in the client's own log
    model = recipe.build()
    load_arrays(model, message.content.array_records["arrays"])
    return model


def _trained(
    recipe: ClientRecipe, config: TrainingConfig, message: Message, client: int
) -> tuple[nn.Module, MetricRecord]:
    """Under DP-SGD the text of an exception would be a release of its own, so it stays here."""
    work = partial(_train, recipe, config, message, client)
    return failing_quietly(work) if recipe.noise else work()


def _train(
    recipe: ClientRecipe, config: TrainingConfig, message: Message, client: int
) -> tuple[nn.Module, MetricRecord]:
    """Train from the broadcast weights, and what the client says about it: under DP-SGD nothing that is private."""
    torch.set_num_threads(1)  # one thread in every engine: sums in the same order, so bit-identical weights
    (x, y), model, noise = recipe.load(client), recipe.build(), recipe.noise
    load_arrays(model, message.content.array_records["arrays"])
    purpose = TRAINING[0] if is_training(message) else message.metadata.message_type
    seed = None if noise is not None and noise.system else recipe.seed
    rng = noise_generator(seed, purpose, server_round(message), client)
    if noise is None:
        return model, MetricRecord({"loss": train(model, x, y, config, rng), WEIGHT: len(y)})
    from clients.dp_sgd import train_privately  # Opacus takes seconds to import

    train_privately(model, x, y, config, noise.config, noise.noise_multiplier, rng)
    return model, MetricRecord({WEIGHT: 1})


def _reply(message: Message, metrics: MetricRecord, arrays: ArrayRecord | None = None) -> Message:
    content = RecordDict({"metrics": metrics})
    if arrays is not None:
        content["arrays"] = arrays
    return Message(content, reply_to=message)
