"""The Flower ClientApp of one device: it trains on its members, and fine-tunes a personal model it keeps to itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from jaxtyping import Float, Int
from torch import nn

from clients.randomness import generator
from clients.training import TrainingConfig, logits, train
from clients.weights import load_arrays, to_arrays

Split = tuple[Float[np.ndarray, "records ..."], Int[np.ndarray, " records"]]
PERSONALIZE = "personalize"


@dataclass(frozen=True, slots=True)
class LocalData:
    """One client's records after its coin tosses: `members` are trained on, `held_out` never are."""

    members: Split
    held_out: Split


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientRecipe:
    """What a client app is handed. All parts must be picklable: Ray ships them to its workers."""

    seed: int
    load: Callable[[int], LocalData]  # client number -> its own data
    build: Callable[[], nn.Module]
    training: TrainingConfig
    personalization: TrainingConfig
    keep: Callable[[int, nn.Module], None]  # stores the personal model on the device


def client_app(recipe: ClientRecipe) -> ClientApp:
    """A ClientApp in Flower's Message API.

    It answers `query` with its client number (the node's partition id), `train` with new weights, and
    `train.personalize` with metrics only: the personal model stays with the client.
    """
    app = ClientApp()

    @app.query()
    def who(message: Message, context: Context) -> Message:
        return _reply(message, MetricRecord({"client": _client(context)}))

    @app.train()
    def fit(message: Message, context: Context) -> Message:
        model, metrics = _train(recipe, recipe.training, message, _client(context))
        return _reply(message, metrics, to_arrays(model))

    @app.train(PERSONALIZE)
    def personalize(message: Message, context: Context) -> Message:
        model, metrics = _train(recipe, recipe.personalization, message, _client(context))
        recipe.keep(_client(context), model)
        return _reply(message, metrics)

    return app


def _client(context: Context) -> int:
    return int(context.node_config["partition-id"])


def _train(
    recipe: ClientRecipe, config: TrainingConfig, message: Message, client: int
) -> tuple[nn.Module, MetricRecord]:
    """Train from the broadcast weights; the metrics tell how those did on the client's held-out records before."""
    torch.set_num_threads(1)  # one thread in every engine: sums in the same order, so bit-identical weights
    content, data, model = message.content, recipe.load(client), recipe.build()
    load_arrays(model, content.array_records["arrays"])
    held_x, held_y = data.held_out
    correct = int((logits(model, held_x).argmax(1) == held_y).sum())
    server_round = int(content.config_records["config"]["server-round"])  # type: ignore[arg-type]  # the server sets an int
    rng = generator(recipe.seed, message.metadata.message_type, server_round, client)
    loss = train(model, *data.members, config, rng)
    metrics = {"num-examples": len(data.members[1]), "loss": loss, "correct": correct, "held-out": len(held_y)}
    return model, MetricRecord(metrics)  # type: ignore[arg-type]  # int | float values, which it takes


def _reply(message: Message, metrics: MetricRecord, arrays: ArrayRecord | None = None) -> Message:
    content = RecordDict({"metrics": metrics})
    if arrays is not None:
        content["arrays"] = arrays
    return Message(content, reply_to=message)
