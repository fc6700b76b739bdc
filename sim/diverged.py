"""Training that left the finite numbers, as a user is told of it: whose it was, and how far apart the features lie."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from attacks.observation import NotFiniteError
from clients.messages import FAILED
from clients.training import DivergedError
from server.strategy import ClientFailedError, NothingReleasedError
from sim.errors import InputError
from sim.given import federation_of
from sim.scenario import Scenario


@contextmanager
def whose(scenario: Scenario, who: str) -> Iterator[None]:
    """Turns divergence in the block into an InputError that says in whose training it was, and what to do.

    So it does with a model whose weights are finite and whose answers are not.
    """
    try:
        yield
    except (DivergedError, NotFiniteError) as error:
        raise InputError(f"{who}: {error}. {_ranges(scenario)}") from error


@contextmanager
def federating(scenario: Scenario) -> Iterator[None]:
    """Turns a federation that came to nothing for the settings' or the data's sake into an InputError.

    Anything else that a client fails with stays what it is; a protected client does not say what it failed with.
    """
    try:
        yield
    except NothingReleasedError as error:
        raise InputError(
            f"federation: {error}. Raise federation.participation or federation.rounds, or change the seed"
        ) from error
    except ClientFailedError as error:
        if not any(told in str(error) for told in (DivergedError.__name__, FAILED)):
            raise
        raise InputError(f"federation: {error}. {_ranges(scenario)}") from error


def _ranges(scenario: Scenario) -> str:
    """How far `x` runs, at the clients and at the attacker: one unscaled sensor is the usual reason."""
    federation = federation_of(scenario)
    clients = [float(np.abs(client.x).max()) for client in federation.clients]
    widest, own = federation.clients[int(np.argmax(clients))], federation.population
    largest = np.abs(own.x).reshape(len(own), -1).max(axis=1)
    device = own.names[int(own.device[largest.argmax()])]
    return (
        f"The clients' x runs to {max(clients):.3g} (largest at client {widest.client}, {widest.name}; at half of them "
        f"to {np.median(clients):.3g} or less), the attacker's to {float(largest.max()):.3g} ({device}). Scale x alike "
        "for everybody before saving, or lower the learning rate"
    )
