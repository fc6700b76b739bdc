"""How long one colluding client of three needs to open another's update under Flower's SecAgg+.

Run: python benchmarks/mask_recovery.py        (one core, some minutes at most)

A real round of Flower 1.41's protocol, and a search of all 2^28 seeds until the right one is found.
"""

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from attacks.mask_recovery import SEED_BITS, MaskedRound, recover
from clients.aggregation.flower import FlowerSecAggPlus, pairwise_secrets
from server.aggregation.flower import SecAggPlusSettings, ServerView, collect
from sim.engines.inprocess import run

SIZE, CLIENTS, VICTIM, COLLUDER = 15_000, 3, 0, 2
SETTINGS = SecAggPlusSettings(max_weight=100)


def delta(client: int) -> np.ndarray:
    """The update that a client sends under its masks."""
    return (np.random.default_rng(client).normal(size=SIZE) * 0.05).astype(np.float32)


def masked_round() -> tuple[MaskedRound, int]:
    """One round: what the server holds and the colluder tells it, and the victim's node."""
    views: list[ServerView] = []
    contexts: dict[int, Context] = {}
    client, server = ClientApp(mods=[FlowerSecAggPlus(seed=1)]), ServerApp()

    @client.train()
    def fit(message: Message, context: Context) -> Message:
        number = int(context.node_config["partition-id"])
        contexts[number] = context
        metrics = MetricRecord({"num-examples": 80 + number})
        return Message(
            RecordDict({"arrays": ArrayRecord({"w": Array(-delta(number))}), "metrics": metrics}), reply_to=message
        )

    @server.main()
    def main(grid: Grid, context: Context) -> None:  # noqa: ARG001  # Flower's signature
        arrays = ArrayRecord({"w": Array(np.zeros(SIZE, np.float32))})
        content = RecordDict({"arrays": arrays, "config": ConfigRecord({"server-round": 1})})
        messages = [Message(content, dst_node_id=node, message_type="train") for node in grid.get_node_ids()]
        collect(grid, messages, (), settings=SETTINGS, tap=views.append)

    run(server, client, CLIENTS)
    seen = MaskedRound(
        masked=views[0].masked,
        neighbours=views[0].neighbours,
        self_seeds=views[0].self_seeds,
        secrets={contexts[COLLUDER].node_id: pairwise_secrets(contexts[COLLUDER])},
        levels=SETTINGS.quantization_range,
        clipping_range=SETTINGS.clipping_range,
    )
    return seen, contexts[VICTIM].node_id


def main() -> None:
    """Search, and say what came of it."""
    seen, victim = masked_round()
    found = recover(seen, victim)
    assert found.update is not None
    error = np.abs(found.update - delta(VICTIM))
    print(f"found after {found.searched:,} of 2^{SEED_BITS} seeds in {found.cpu_seconds:.0f} s of one core")
    print(f"{found.seeds_per_second:,.0f} seeds/s: all of them in {2**SEED_BITS / found.seeds_per_second / 60:.1f} min")
    print(f"correlation with the victim's update {np.corrcoef(found.update, delta(VICTIM))[0, 1]:.8f}")
    print(f"largest error {error.max():.1e}, rms {np.sqrt(np.mean(error**2)):.1e}, at an rms update of 5e-2")


if __name__ == "__main__":
    main()
