"""What a round of secure aggregation costs, ours against Flower's SecAgg+, and how exact the mean comes out.

Run: python benchmarks/secagg.py        (some minutes, nearly all of them Flower's)
Both run in this process on the in-process engine, with clients that train on nothing: the time is the protocol's, for
server and clients together. Updates are N(0, 0.05), weights 100 to 140. Ratio below 1: ours takes less.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.supercore.task_identity import TaskIdentity

from clients.aggregation import wire
from clients.aggregation.fixed_point import plan_fixed_point
from clients.aggregation.flower import FlowerSecAggPlus
from clients.aggregation.graph import Rules
from clients.aggregation.masks import make_keyrings
from clients.aggregation.secagg import SecAggMod
from server.aggregation import Collected, flower, secagg
from sim.engines.inprocess import FIRST_NODE_ID, InProcessGrid

SIZE = 100_000
SIZES = (5, 20, 50)
REPEATS = 2
LARGEST_WEIGHT = 140
LARGEST_UPDATE = 1.0  # N(0, 0.05) stays below this
MODEL = ArrayRecord({"w": Array(np.zeros(SIZE, np.float32))})

Collect = Callable[[InProcessGrid, list[Message], int], Collected]


def contribution(client: int) -> tuple[np.ndarray, int]:
    rng = np.random.default_rng(client)
    return rng.normal(0, 0.05, SIZE).astype(np.float32), int(rng.integers(100, LARGEST_WEIGHT + 1))


def client_app(mod: Callable[..., Message], clients: int) -> ClientApp:
    replies = {}
    for client in range(clients):
        update, weight = contribution(client)
        metrics = MetricRecord({"num-examples": weight})
        replies[client] = RecordDict({"arrays": ArrayRecord({"w": Array(-update)}), "metrics": metrics})
    app = ClientApp(mods=[mod])
    wire.register(app)

    @app.train()
    def fit(message: Message, context: Context) -> Message:
        return Message(replies[int(context.node_config["partition-id"])], reply_to=message)

    return app


def measure(mod: Callable[..., Message], collect: Collect, clients: int) -> tuple[float, float]:
    """CPU seconds of one round, the fastest of a few, and the rms error of the mean update."""
    grid = InProcessGrid(client_app(mod, clients), clients)
    seconds = []
    for number in range(1, REPEATS + 1):
        content = RecordDict({"arrays": MODEL, "config": ConfigRecord({"server-round": number})})
        messages = [Message(content, dst_node_id=node, message_type="train") for node in grid.get_node_ids()]
        start = time.process_time()
        collected = collect(grid, messages, number)
        seconds.append(time.process_time() - start)
    updates, weights = zip(*(contribution(client) for client in range(clients)), strict=True)
    truth = np.array(weights) @ np.array(updates, np.float64) / sum(weights)
    mean = collected.total[:SIZE] / collected.total[-1]
    return min(seconds), float(np.sqrt(np.mean((mean - truth) ** 2)))


def ours(clients: int, rules: Rules) -> tuple[float, float]:
    encoding = plan_fixed_point(clients, LARGEST_UPDATE, LARGEST_WEIGHT)
    mod = SecAggMod(make_keyrings(clients).__getitem__, encoding, (), seed=1, rules=rules)
    nodes = {client: FIRST_NODE_ID + client for client in range(clients)}

    def collect(grid: InProcessGrid, messages: list[Message], number: int) -> Collected:
        return secagg.collect(
            grid,
            messages,
            nodes=nodes,
            encoding=encoding,
            metrics=(),
            server_round=number,
            rules=rules,
        )

    return measure(mod, collect, clients)


def theirs(clients: int) -> tuple[float, float]:
    settings = flower.SecAggPlusSettings(max_weight=LARGEST_WEIGHT)

    def collect(grid: InProcessGrid, messages: list[Message], number: int) -> Collected:  # noqa: ARG001
        return flower.collect(grid, messages, (), settings=settings)

    return measure(FlowerSecAggPlus(seed=1), collect, clients)


def main() -> None:
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, SUPERLINK_NODE_ID
    print(f"CPU seconds of one round, {SIZE:,} values, everybody everybody's neighbour; sparse: ours as it chooses\n")
    print("clients   ours  sparse  Flower   ratio   rms ours  rms Flower")
    for clients in SIZES:
        full, rms = ours(clients, Rules(neighbours=clients - 1))
        sparse, _ = ours(clients, Rules())
        other, rms_other = theirs(clients)
        times = f"{full:5.3f}  {sparse:6.3f}  {other:6.3f}  {full / other:6.4f}"
        print(f"{clients:7d}  {times}  {rms:9.1e}  {rms_other:10.1e}")


if __name__ == "__main__":
    main()
