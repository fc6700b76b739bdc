"""The server's half of Flower's own SecAgg+ (flwr 1.41): its four stages, and then a sum or a refusal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.common import FitIns, FitRes, Parameters, bytes_to_ndarray, parameters_to_ndarrays
from flwr.common.secure_aggregation.crypto.shamir import combine_shares
from flwr.common.secure_aggregation.secaggplus_constants import RECORD_KEY_CONFIGS, Key
from flwr.server import LegacyContext, ServerConfig
from flwr.server.workflow import SecAggPlusWorkflow
from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD
from flwr.server.workflow.constant import Key as WorkflowKey
from flwr.server.workflow.secure_aggregation.secaggplus_workflow import WorkflowState
from flwr.serverapp import Grid
from jaxtyping import Float, Int

from clients.aggregation.graph import FEWEST_IN_A_SUM
from clients.aggregation.payload import WEIGHT
from server.aggregation import Collected, RoundRefusedError
from server.received import NO_REPLY, reason

MODULUS = 2**32
STAGES = ("setup", "share_keys", "collect_masked_vectors", "unmask")


@dataclass(frozen=True, slots=True, kw_only=True)
class SecAggPlusSettings:
    """Flower's settings, with its defaults; but `max_weight` has none.

    `max_weight` must be near the largest weight: the update is rounded in steps of
    max_weight / weight * 2 clipping_range / quantization_range, so ten times too much costs a digit.
    """

    max_weight: float
    num_shares: int | float = 1.0  # share of the round's clients that get a share of each other's secrets
    reconstruction_threshold: int | float = 0.67  # share of those that must answer; at half or less, both secrets open
    clipping_range: float = 8.0  # largest entry of weight / max_weight * update; beyond it the client refuses
    quantization_range: int = 2**22
    timeout: float | None = None  # seconds for each of the four exchanges


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerView:
    """What a server that follows the protocol holds after one round, by node id: what a curious one works from."""

    masked: dict[int, Int[np.ndarray, " values"]]  # modulo 2**32: quantised weight, then the quantised update
    reported: dict[int, dict[str, float]]  # weight and metrics, which Flower sends in clear
    public_keys: dict[int, bytes]  # of the pairwise masks, PEM
    neighbours: dict[int, frozenset[int]]  # with whom a client shares a mask
    self_seeds: dict[int, bytes]  # of the masks that the last stage takes off the survivors
    settings: SecAggPlusSettings


def collect(
    grid: Grid,
    messages: list[Message],
    metrics: tuple[str, ...],
    *,
    settings: SecAggPlusSettings,
    fewest: int = FEWEST_IN_A_SUM,
    tap: Callable[[ServerView], None] | None = None,
) -> Collected:
    """One round of Flower's SecAggPlusWorkflow among the nodes that `messages` go to.

    Of the total only the update was summed under masks; weights and metrics came in clear (`FlowerSecAggPlus`) and are
    added here. A client may drop out in the last two stages, as long as `fewest` are in the sum. Flower's stages go on
    without one that drops out before, and then cannot unmask: that is refused at once. `tap` is handed what the server
    holds. Who neighbours whom is drawn by Flower from the global `random` and does not change the sum.

    Raises:
        RoundRefusedError: somebody dropped out in the first two stages, or too many later.
        ValueError: more clients than fit into Flower's integers.
    """
    if len(messages) * settings.quantization_range > MODULUS:
        most = MODULUS // settings.quantization_range
        raise ValueError(f"{len(messages)} clients in a round, Flower's integers have room for {most}; sample fewer")
    witness, state = _Witness(grid), WorkflowState()
    _run(witness, state, messages, settings, fewest)
    if tap is not None:
        tap(_view(witness, state, settings))
    results = {proxy.node_id: result for proxy, result in state.legacy_results}
    survivors = [node for node in _nodes(messages) if node in results]
    dropped = {node: why for node, why in witness.lost.items() if node not in results}
    return Collected(_total([results[node] for node in survivors], metrics), survivors, dropped)


@dataclass(slots=True)
class _Witness:
    """Stands before the grid and notes, stage by stage, what came back and who was lost: Flower does not tell."""

    grid: Grid
    replies: list[dict[int, Message]] = field(default_factory=list)
    lost: dict[int, str] = field(default_factory=dict)
    neighbours: dict[int, frozenset[int]] = field(default_factory=dict)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        sent, stage = list(messages), STAGES[len(self.replies)]
        replies = list(self.grid.send_and_receive(sent, timeout=timeout))
        by_node = {reply.metadata.src_node_id: reply for reply in replies}
        for node in _nodes(sent):
            if node not in by_node:
                self.lost[node] = f"{stage}: {NO_REPLY}"
            elif by_node[node].has_error():
                self.lost[node] = f"{stage}: {reason(by_node[node])}"
        self.replies.append({node: reply for node, reply in by_node.items() if not reply.has_error()})
        return replies


def _run(
    witness: _Witness, state: WorkflowState, messages: list[Message], settings: SecAggPlusSettings, fewest: int
) -> None:
    """Flower's stages, one after the other, and a refusal where Flower would end the round without a word."""
    workflow, context = _workflow(settings), _context(messages)
    for stage in STAGES:
        if stage == STAGES[-1] and (left := len(witness.replies[-1])) < fewest:
            raise RoundRefusedError(
                f"{left} of {len(messages)} clients are left, and a sum takes {fewest} at least", witness.lost
            )
        try:
            done = getattr(workflow, f"{stage}_stage")(cast("Grid", witness), context, state)
        except (KeyError, ValueError) as error:  # a share or a vector that does not fit the others
            raise RoundRefusedError(f"{stage} failed: {error}", witness.lost) from error
        if not done or (witness.lost and stage in STAGES[:2]):
            who = "; ".join(f"node {node} in {why}" for node, why in witness.lost.items()) or "too few clients"
            raise RoundRefusedError(f"Flower's SecAgg+ cannot go on after {stage}. Lost: {who}", witness.lost)
        if stage == "setup":
            state.nid_to_fitins = {m.metadata.dst_node_id: RecordDict(dict(m.content)) for m in messages}
            witness.neighbours = {node: frozenset(who - {node}) for node, who in state.nid_to_neighbours.items()}


def _workflow(settings: SecAggPlusSettings) -> SecAggPlusWorkflow:
    return SecAggPlusWorkflow(
        settings.num_shares,
        settings.reconstruction_threshold,
        max_weight=float(settings.max_weight),
        clipping_range=float(settings.clipping_range),  # Flower refuses an integer
        quantization_range=settings.quantization_range,
        modulus_range=MODULUS,
        timeout=settings.timeout,
    )


def _context(messages: list[Message]) -> LegacyContext:
    """As much of the older API as the stages ask for: whom to ask, and somebody who takes the results."""
    nobody = FitIns(Parameters([], "numpy.ndarray"), {})  # what they are sent is put in its place after the first stage
    strategy = SimpleNamespace(
        configure_fit=lambda *_: [(SimpleNamespace(node_id=node), nobody) for node in _nodes(messages)],
        aggregate_fit=lambda *_: (None, {}),
    )
    context = LegacyContext(
        Context(run_id=0, node_id=0, node_config={}, state=RecordDict(), run_config={}),
        ServerConfig(num_rounds=1),
        cast("Any", strategy),
        cast("Any", SimpleNamespace(num_available=lambda: len(messages))),
    )
    number = messages[0].content.config_records["config"]["server-round"]
    context.state[MAIN_CONFIGS_RECORD] = ConfigRecord(
        {WorkflowKey.CURRENT_ROUND: number, WorkflowKey.START_TIME: time.time()}
    )
    context.state[MAIN_PARAMS_RECORD] = ArrayRecord({"unused": Array(np.zeros(1))})
    return context


def _total(results: list[FitRes], metrics: tuple[str, ...]) -> Float[np.ndarray, " values"]:
    """The sum of payloads: Flower's mean update (the same in every result), and what it left in clear."""
    (mean,) = parameters_to_ndarrays(results[0].parameters)
    weight = sum(result.num_examples for result in results)
    sums = [sum(result.num_examples * float(result.metrics[name]) for result in results) for name in metrics]
    return np.concatenate([weight * mean, sums, [weight]])


def _view(witness: _Witness, state: WorkflowState, settings: SecAggPlusSettings) -> ServerView:
    keys, _, vectors, shares = [
        {node: cast("Any", reply.content.config_records[RECORD_KEY_CONFIGS]) for node, reply in stage.items()}
        for stage in witness.replies
    ]
    parts: dict[int, list[bytes]] = {}
    for found in shares.values():
        for owner, share in zip(found[Key.NODE_ID_LIST], found[Key.SHARE_LIST], strict=True):
            parts.setdefault(owner, []).append(share)
    return ServerView(
        masked={n: np.concatenate([bytes_to_ndarray(b) for b in v[Key.MASKED_PARAMETERS]]) for n, v in vectors.items()},
        reported={proxy.node_id: _reported(result) for proxy, result in state.legacy_results},
        public_keys={node: found[Key.PUBLIC_KEY_1] for node, found in keys.items()},
        neighbours=witness.neighbours,
        self_seeds={node: combine_shares(parts[node]) for node in vectors},
        settings=settings,
    )


def _reported(result: FitRes) -> dict[str, float]:
    numbers = {name: float(value) for name, value in result.metrics.items() if isinstance(value, int | float)}
    return {**numbers, WEIGHT: float(result.num_examples)}


def _nodes(messages: list[Message]) -> list[int]:
    return [message.metadata.dst_node_id for message in messages]
