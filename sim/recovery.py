"""The demonstration `mask-recovery`: one client's update out of a masked sum, or not, compared with the truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp
from jaxtyping import Float, UInt

from attacks.mask_recovery import FLOWER, NAME, SEED_BITS, X25519_BITS, MaskedRound, Masking, Recovery, recover
from attacks.observation import VantageLacksError
from clients.aggregation import masks
from clients.app import client_app
from clients.models import parameter_count
from clients.weights import flatten, to_arrays
from server.app import find_clients
from server.received import reason
from sim.collusion import ROUND, Kept, Notebook
from sim.engines import ENGINES
from sim.federate import client_recipe
from sim.folder import RunFolder
from sim.given import federation_of, fresh_model
from sim.progress import Progress
from sim.protect import protect, update_mods
from sim.results import RecoveryResult, Refusal
from sim.scenario import Scenario

CHUNK = 2**22  # seeds between two signs of progress: about two seconds
SAME = 0.99  # correlation from which on what came out is the victim's update
_WINDOW_BITS = 25  # of 32: where the unmasked words of our fixed point are looked for, around zero

Told = dict[int, dict[int, bytes]]  # colluder -> neighbour, as the protocol names it -> key
Vector = Float[np.ndarray, " params"]
Words = UInt[np.ndarray, " values"]


def recover_updates(
    scenario: Scenario, folder: RunFolder, progress: Progress, search: range | None = None
) -> tuple[list[RecoveryResult], list[Refusal]]:
    """What came of it, or why it could not be tried; nothing if the scenario does not ask for it.

    `search` are positions among the 2**28 seeds; default: as many as the scenario allows, from the first.
    """
    if NAME not in scenario.attacks.names:
        return [], []
    search = range(scenario.attacks.mask_seeds) if search is None else search
    try:
        return [_recover(scenario, folder, progress, search)], []
    except VantageLacksError as lack:
        vantage = "server" if scenario.aggregation.protocol == "none" else "aggregator"
        refusal = Refusal(
            attack=NAME,
            vantage=vantage,
            target="global",
            precision="float32",
            output=None,
            lacks=lack.need,
            reason=str(lack),
        )
        return [], [refusal]


def _recover(scenario: Scenario, folder: RunFolder, progress: Progress, search: range) -> RecoveryResult:
    protocol = scenario.aggregation.protocol
    if protocol not in _OBSERVED:
        raise VantageLacksError(f"attack '{NAME}' needs masked updates, aggregation.protocol = \"{protocol}\" has none")
    notebook = Notebook(folder.transcript)
    told, kept = notebook.told(), notebook.kept()
    if not told:
        raise VantageLacksError(f"attack '{NAME}' needs a client in league with the server: set aggregation.colluding")
    if kept is None:
        raise VantageLacksError(f"attack '{NAME}' needs a masked round, and round {ROUND} was refused")
    victim = _victim(kept, told)
    seen, node, masking = _OBSERVED[protocol](scenario, kept, told, victim)
    found = _search(seen, node, search, masking, progress)
    same = None if found.update is None else _compare(found.update, true_update(scenario, folder, victim))
    minutes = 2**SEED_BITS / found.seeds_per_second / 60 if masking is FLOWER and found.searched else None
    return RecoveryResult(
        attack=NAME,
        protocol=protocol,
        victim=victim,
        colluders=list(told),
        searched=found.searched,
        search_bits=SEED_BITS,
        effective_bits=found.effective_bits,
        seeds_per_second=found.seeds_per_second,
        full_search_core_minutes=minutes,
        recovered=same is not None and same[0] >= SAME,
        correlation=same[0] if same else None,
        max_error=same[1] if same else None,
        cpu_seconds=round(found.cpu_seconds, 3),
    )


def _victim(kept: Kept, told: Told) -> int:
    """The first honest client that shares a mask with one honest neighbour at most."""
    honest = [client for client in sorted(kept.masked) if client not in told]
    if not honest:
        raise VantageLacksError(f"attack '{NAME}' needs an honest client, and all of round {ROUND} collude")
    unknown = {client: len(kept.neighbours[client] - told.keys()) for client in honest}
    nearest = min(honest, key=unknown.__getitem__)
    if unknown[nearest] > 1:
        raise VantageLacksError(
            f"attack '{NAME}' needs a client all of whose neighbours but one collude: client {nearest} comes nearest, "
            f"with {unknown[nearest]} of {len(kept.neighbours[nearest])} that do not. Raise aggregation.colluding by "
            f"{unknown[nearest] - 1}, or lower aggregation.neighbours"
        )
    return next(client for client in honest if unknown[client] <= 1)


def _flower(scenario: Scenario, kept: Kept, told: Told, victim: int) -> tuple[MaskedRound, int, Masking]:  # noqa: ARG001
    """Flower's vectors are what the attack is made for; it names clients by their nodes."""
    nodes = kept.nodes
    seen = MaskedRound(
        masked={nodes[client]: vector for client, vector in kept.masked.items()},
        neighbours={
            nodes[client]: frozenset(nodes[other] for other in near) for client, near in kept.neighbours.items()
        },
        self_seeds={nodes[client]: seed for client, seed in kept.seeds.items()},
        secrets={nodes[client]: keys for client, keys in told.items()},
    )
    return seen, nodes[victim], FLOWER


def _secagg(scenario: Scenario, kept: Kept, told: Told, victim: int) -> tuple[MaskedRound, int, Masking]:
    """Our vectors for the same search: their updates, the upper 32 bits of each word, moved so that zero is mid-window.

    Clients go by their negated numbers: here the lower of a pair adds the mask, and the attack lets the higher add it.
    """
    size = parameter_count(fresh_model(scenario))
    bits = next(iter(kept.masked.values())).dtype.itemsize * 8
    middle = np.uint32(2 ** (_WINDOW_BITS - 1))
    seen = MaskedRound(
        masked={-client: _upper(vector[:size]) + middle for client, vector in kept.masked.items()},
        neighbours={-client: frozenset(-other for other in near) for client, near in kept.neighbours.items()},
        self_seeds={-client: masks.self_key(seed, ROUND) for client, seed in kept.seeds.items()},
        secrets={-client: {-other: key for other, key in keys.items()} for client, keys in told.items()},
        levels=2**_WINDOW_BITS,
    )
    return seen, -victim, Masking(partial(_stream, bits=bits), X25519_BITS)


_OBSERVED: dict[str, Callable[[Scenario, Kept, Told, int], tuple[MaskedRound, int, Masking]]] = {
    "secagg-plus-flower": _flower,
    "secagg": _secagg,
}


def _stream(key: bytes, length: int, bits: int) -> Words:
    return _upper(masks.expand(key, length, bits))


def _upper(words: UInt[np.ndarray, " values"]) -> Words:
    """The upper 32 bits. Their sums miss a carry of one for each mask, which is nothing beside the window."""
    upper: Words = (words >> words.dtype.type(words.dtype.itemsize * 8 - 32)).astype(np.uint32)
    return upper


def _search(seen: MaskedRound, node: int, search: range, masking: Masking, progress: Progress) -> Recovery:
    """`recover`, chunk by chunk."""
    chunks = [search[start : start + CHUNK] for start in range(0, len(search), CHUNK)]
    searched, seconds = 0, 0.0
    with progress.stage("searching for the seed of a mask", len(chunks)):
        for chunk in chunks:
            part = recover(seen, node, chunk, masking)
            searched, seconds = searched + part.searched, seconds + part.cpu_seconds
            progress.step(f"{searched:,} seeds tried")
            if part.update is not None:
                break
    return replace(part, searched=searched, cpu_seconds=seconds, seeds_per_second=searched / seconds)


def true_update(scenario: Scenario, folder: RunFolder, client: int) -> Vector:
    """What a client sent under its masks in the first round: trained again, which gives the same, and not masked."""
    protections, arrays = protect(scenario), to_arrays(fresh_model(scenario))
    recipe = client_recipe(scenario, folder, replace(protections, mods=update_mods(scenario), register=None))
    config = ConfigRecord({**protections.settings(), "server-round": ROUND})
    clients, replies = len(federation_of(scenario).clients), list[Message]()
    server = ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> None:  # noqa: ARG001  # Flower's signature
        node = find_clients(grid, clients, 0.0)[client]
        content = RecordDict({"arrays": arrays, "config": config})
        replies.extend(grid.send_and_receive([Message(content, dst_node_id=node, message_type="train")]))

    ENGINES["inprocess"](server, client_app(recipe), clients)
    if replies[0].has_error():
        raise RuntimeError(f"client {client}, trained again, failed: {reason(replies[0])}")
    update: Vector = flatten(arrays) - flatten(next(iter(replies[0].content.array_records.values())))
    return update


def _compare(found: Vector, truth: Vector) -> tuple[float, float]:
    """Correlation and largest error."""
    return float(np.corrcoef(found, truth)[0, 1]), float(np.abs(found - truth).max())
