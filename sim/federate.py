"""The first stages of a run: federate and personalise, with the transcript and the models written as they come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from flwr.app import ArrayRecord
from jaxtyping import Float
from torch import nn

from attacks.mask_recovery import NAME as MASK_RECOVERY
from clients.app import ROUNDS, ClientRecipe, Split, client_app
from clients.messages import errors_as_replies
from clients.training import logits
from clients.weights import load_arrays, load_vector, to_arrays
from server.app import ServerRecipe, server_app
from server.probing import Line
from server.strategy import ClientFailedError, RoundRecord
from sim import transcript
from sim.collusion import Notebook
from sim.diverged import federating
from sim.engines import Engine
from sim.errors import CannotWriteError
from sim.files import save_weights
from sim.folder import RunFolder
from sim.given import federation_of, fresh_model
from sim.noise import hidden_coins
from sim.progress import Progress
from sim.protect import Protections, protect
from sim.results import RoundResult
from sim.scenario import Scenario
from sim.tampering import members_of, scored
from sim.transcript import Ledger

GLOBAL = "global.safetensors"


def federate(
    scenario: Scenario,
    engine: Engine,
    folder: RunFolder,
    progress: Progress,
    afterwards: Callable[[Line, ArrayRecord], None] | None = None,
) -> None:
    """Run the federation and the personalisation; fills `transcript/` and `models/`.

    `afterwards` is what a server that deviates does when all is done, see `sim.probe`.
    """
    torch.set_num_threads(1)
    unmasks = MASK_RECOVERY in scenario.attacks.names
    protections, stopped = protect(scenario, Notebook(folder.transcript) if unmasks else None), ""
    came, failed = set[int](), dict[int, str]()

    def observe(record: RoundRecord) -> None:
        came.update(record.clients)
        failed.update(record.dropped)
        summary = transcript.append(folder.transcript, record, _accuracy(scenario, record.weights))
        progress.step(f"accuracy {summary.accuracy:.3f}{_trouble(summary)}")

    def stop(why: str) -> None:
        nonlocal stopped
        stopped = why
        progress.say(f"training stopped {why}")

    def finish(arrays: ArrayRecord, reports: dict[int, dict[str, float]]) -> None:
        model = fresh_model(scenario)
        load_arrays(model, arrays)
        save_weights(folder.models / GLOBAL, model.state_dict())
        rounds = {client: int(report[ROUNDS]) for client, report in reports.items()}
        transcript.close(folder.transcript, Ledger(rounds=rounds, stopped=stopped))
        progress.step("personalised")

    federation = federation_of(scenario)
    server = server_app(
        ServerRecipe(
            seed=None if hidden_coins(scenario) else scenario.seed,
            clients=len(federation.clients),
            participants=federation.participants,
            plan=scenario.federation,
            initial=to_arrays(fresh_model(scenario)),
            observe=observe,
            finish=finish,
            stopped=stop,
            release=protections.release,
            exchange=protections.exchange,
            settings=protections.settings,
            rounds_allowed=protections.rounds_of_the_server,
            hides_failures=scenario.privacy.client is not None and scenario.privacy.client.where == "central",
            afterwards=afterwards,
        )
    )
    with federating(scenario):
        try:
            engine(server, client_app(client_recipe(scenario, folder, protections)), len(federation.clients))
            if failed and not came:  # the federation went on, for nobody may learn of failures; the study does
                raise ClientFailedError("; ".join(f"client {client} failed: {why}" for client, why in failed.items()))
        except ClientFailedError as error:
            _, cannot, why = str(error).partition(f"{CannotWriteError.__name__}: ")
            raise CannotWriteError(why) if cannot else error from error


def client_recipe(scenario: Scenario, folder: RunFolder, protections: Protections) -> ClientRecipe:
    """What each client needs, in parts small enough to send to a worker."""
    return ClientRecipe(
        seed=scenario.seed,
        load=_Load(scenario),
        build=_Build(scenario),
        training=scenario.training,
        personalization=scenario.personalization,
        keep=_Keep(folder, scenario.federation.rounds + 1),
        noise=protections.noise,
        rounds_allowed=protections.rounds_of_a_client,
        personalizations_allowed=protections.personal_models_of_a_client,
        tells_failures=not scenario.noised,
        mods=(errors_as_replies, *protections.mods),
        register=protections.register,
    )


def _accuracy(scenario: Scenario, weights: Float[np.ndarray, " params"]) -> float:
    """On the held-out records of all clients that do not tamper.

    The stage measures it; no client tells, and so none gives it away.
    """
    held_out = [client.held_out for client in scored(scenario).clients]
    model = load_vector(fresh_model(scenario), weights)
    correct = logits(model, np.concatenate([x for x, _ in held_out])).argmax(1)
    return float((correct == np.concatenate([y for _, y in held_out])).mean())


def _trouble(summary: RoundResult) -> str:
    if summary.refused:
        return f", refused: {summary.refused}"
    return f", {len(summary.dropped)} dropped out" if summary.dropped else ""


@dataclass(frozen=True, slots=True)
class _Load:
    """What a client trains on: rebuilt from the scenario wherever the client runs, never sent."""

    scenario: Scenario

    def __call__(self, client: int) -> Split:
        return members_of(self.scenario, client)


@dataclass(frozen=True, slots=True)
class _Build:
    scenario: Scenario

    def __call__(self) -> nn.Module:
        return fresh_model(self.scenario)


@dataclass(frozen=True, slots=True)
class _Keep:
    folder: RunFolder
    honest: int  # the round in which the protocol has everybody personalise

    def __call__(self, client: int, server_round: int, model: nn.Module) -> None:
        """The personal models of a server that deviates lie apart from the honest ones."""
        mine = self.folder.personal_model(client)
        if server_round != self.honest:
            mine = transcript.probed_model(self.folder.transcript, server_round, client)
        save_weights(mine, model.state_dict())
