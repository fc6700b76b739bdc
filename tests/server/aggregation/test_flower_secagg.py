"""Flower's SecAgg+ against the plain weighted mean, with drop-outs at every stage, and refusals in place of silence."""

import pickle  # noqa: TID251  # Ray pickles mods, nothing of a user's

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.secure_aggregation.secaggplus_constants import RECORD_KEY_CONFIGS

from clients.aggregation.flower import FlowerSecAggPlus, pairwise_secrets
from clients.aggregation.payload import unpack
from server.aggregation import RoundRefusedError
from server.aggregation.flower import STAGES, SecAggPlusSettings, collect
from sim.engines.inprocess import FIRST_NODE_ID, InProcessGrid

pytestmark = pytest.mark.usefixtures("task_identity")
METRICS = ("loss",)
SIZE = 1000
WEIGHTS = [100, 110, 120, 130, 140]
BROADCAST = np.random.default_rng(0).normal(size=SIZE).astype(np.float32)
MOD = FlowerSecAggPlus(seed=1, metrics=METRICS)
DEFAULTS = SecAggPlusSettings(max_weight=1000)


def delta(client):
    return (np.random.default_rng(100 + client).normal(size=SIZE) * 0.045).astype(np.float32)


def app(size=1.0, weight=None, error=None, mods=(MOD,)):
    """Clients whose update is `size` times `delta`."""
    made = ClientApp(mods=list(mods))

    @made.query()
    def who(message, context):
        return Message(RecordDict(), reply_to=message)

    @made.train("personalize")
    @made.train()
    def fit(message, context):
        client = int(context.node_config["partition-id"])
        if client == error:
            raise RuntimeError("no power")
        after = message.content["arrays"].to_numpy_ndarrays()[0] - size * delta(client).reshape(10, 100)
        metrics = MetricRecord({"num-examples": weight or WEIGHTS[client], "loss": 0.5 + client, "held-out": 9})
        return Message(RecordDict({"arrays": ArrayRecord({"w": Array(after)}), "metrics": metrics}), reply_to=message)

    return made


class Losing(InProcessGrid):
    """Loses the replies of some nodes in some stages: {stage: clients}; keeps what else the server receives."""

    def __init__(self, client, clients, lost=None):
        super().__init__(client, clients)
        self.lost, self.received = lost or {}, []

    def send_and_receive(self, messages, *, timeout=None):
        gone = {FIRST_NODE_ID + c for c in self.lost.get(messages[0].content[RECORD_KEY_CONFIGS]["stage"], ())}
        replies = [reply for reply in super().send_and_receive(messages) if reply.metadata.src_node_id not in gone]
        self.received += replies
        return replies


def messages(clients=range(5), server_round=1):
    arrays = ArrayRecord({"w": Array(BROADCAST.reshape(10, 100))})
    content = RecordDict({"arrays": arrays, "config": ConfigRecord({"server-round": server_round})})
    return [Message(content, dst_node_id=FIRST_NODE_ID + c, message_type="train") for c in clients]


def mean(clients):
    return np.average([delta(c) for c in clients], axis=0, weights=[WEIGHTS[c] for c in clients]).astype(np.float64)


def collected(settings=DEFAULTS, clients=range(5), lost=None, **of_app):
    return collect(Losing(app(**of_app), 5, lost), messages(clients), METRICS, settings=settings)


def rms(got, clients=range(5)):
    sums = unpack(got.total, METRICS)
    return np.sqrt(np.mean((sums.update / sums.weight - mean(clients)) ** 2))


def test_the_error_is_what_flower_s_rounding_makes_it():
    """Steps of 16 / 2^22, stochastic rounding (rms 1/sqrt(6) of a step), 5 clients, weights 600 of 5000."""
    got = collected()
    assert rms(got) == pytest.approx(16 / 2**22 / np.sqrt(6) * np.sqrt(5) / 0.6, rel=0.15)
    assert got.survivors == [FIRST_NODE_ID + c for c in range(5)] and got.dropped == {}
    sums = unpack(got.total, METRICS)
    assert sums.weight == 600 and sums.metrics["loss"] == sum(w * (0.5 + c) for c, w in enumerate(WEIGHTS))


def test_a_maximum_near_the_largest_weight_is_worth_a_digit():
    assert rms(collected(SecAggPlusSettings(max_weight=140))) < 1e-6 < 4e-6 < rms(collected())


def test_only_sampled_clients_take_part():
    got = collected(clients=[0, 2, 4])
    assert got.survivors == [FIRST_NODE_ID + c for c in (0, 2, 4)] and rms(got, [0, 2, 4]) < 2e-5


def test_few_neighbours_are_enough():
    assert rms(collected(SecAggPlusSettings(max_weight=140, num_shares=3, reconstruction_threshold=2))) < 1e-6


@pytest.mark.parametrize("lost", [{1}, {0, 4}])
def test_whoever_drops_out_before_its_vector_came_is_not_in_the_sum(lost):
    got = collected(SecAggPlusSettings(max_weight=140, reconstruction_threshold=0.6), lost={STAGES[2]: lost})
    left = [c for c in range(5) if c not in lost]
    assert rms(got, left) < 2e-6 and unpack(got.total, METRICS).weight == sum(WEIGHTS[c] for c in left)
    assert got.dropped == {FIRST_NODE_ID + c: "collect_masked_vectors: no reply came" for c in lost}


def test_a_client_that_errs_in_training_drops_out():
    got = collected(error=3)
    assert rms(got, [0, 1, 2, 4]) < 2e-5
    assert got.dropped == {
        FIRST_NODE_ID + 3: "collect_masked_vectors: TrainingFailedError: training failed on this client: RuntimeError; "
        "what it says stays on the client"
    }


def test_whoever_drops_out_after_its_vector_came_is_in_the_sum():
    got = collected(lost={STAGES[3]: {2}})
    assert len(got.survivors) == 5 and got.dropped == {} and rms(got) < 1e-5
    both = collected(lost={STAGES[2]: {0}, STAGES[3]: {2}})
    assert rms(both, [1, 2, 3, 4]) < 2e-5 and list(both.dropped) == [FIRST_NODE_ID]


@pytest.mark.parametrize("stage", STAGES[:2])
def test_a_loss_in_the_first_stages_is_refused(stage):
    with pytest.raises(
        RoundRefusedError, match=rf"after {stage}\. Lost: node 1001 in {stage}: no reply came"
    ) as refused:
        collected(lost={stage: {1}})
    assert refused.value.dropped == {FIRST_NODE_ID + 1: f"{stage}: no reply came"}


@pytest.mark.parametrize("stage", STAGES[2:])
def test_too_many_losses_later_are_refused(stage):
    with pytest.raises(RoundRefusedError, match=f"after {stage}") as refused:
        collected(lost={stage: {1, 2, 3}})
    assert len(refused.value.dropped) == 3


def test_the_round_after_a_refused_one_is_right_again():
    grid = Losing(app(), 5, {STAGES[1]: {1}})
    with pytest.raises(RoundRefusedError):
        collect(grid, messages(), METRICS, settings=DEFAULTS)
    grid.lost = {}
    assert rms(collect(grid, messages(server_round=2), METRICS, settings=DEFAULTS)) < 1e-5


def test_fewer_than_three_are_refused():
    for clients in ([2], [2, 3]):
        with pytest.raises(RoundRefusedError, match=r"after setup\. Lost: "):
            collected(clients=clients)
    with pytest.raises(RoundRefusedError, match="2 of 3 clients are left, and a sum takes 3 at least"):
        collected(clients=range(3), lost={STAGES[2]: {1}})


@pytest.mark.parametrize(
    ("of_app", "message"),
    [
        ({"size": 2000.0}, "an entry of the update is beyond clipping_range = 8"),
        ({"weight": 1001}, "num-examples = 1001 is above max_weight = 1000"),
        ({"size": np.nan}, "not finite"),
    ],
)
def test_what_flower_would_saturate_is_refused_by_the_client(of_app, message):
    with pytest.raises(RoundRefusedError) as refused:
        collected(**of_app)
    assert all(message in why for why in refused.value.dropped.values()) and len(refused.value.dropped) == 5


def test_more_clients_than_its_integers_hold_are_refused():
    with pytest.raises(ValueError, match="4 clients in a round, Flower's integers have room for 2"):
        collected(SecAggPlusSettings(max_weight=1000, quantization_range=2**31), clients=range(4))


def test_the_sum_repeats_and_numpy_s_state_stays():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    assert collected().total.tobytes() == collected().total.tobytes()
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    other = collect(Losing(app(), 5), messages(server_round=2), METRICS, settings=DEFAULTS)
    assert other.total.tobytes() != collected().total.tobytes()


def test_the_mod_can_be_shipped():
    assert pickle.loads(pickle.dumps(MOD)) == MOD


def test_the_server_receives_masked_vectors_and_metrics_in_clear():
    views, grid = [], Losing(app(), 5)
    collect(grid, messages(), METRICS, settings=DEFAULTS, tap=views.append)
    (view,) = views
    for client in range(5):
        masked = view.masked[FIRST_NODE_ID + client]
        assert masked.shape == (SIZE + 1,) and masked.min() >= 0 and masked.max() < 2**32
        assert abs(masked.mean() / 2**32 - 0.5) < 6 / np.sqrt(12 * SIZE)
        assert abs(np.corrcoef(masked[1:], delta(client))[0, 1]) < 6 / np.sqrt(SIZE)
        clear = view.reported[FIRST_NODE_ID + client]
        assert clear == {"num-examples": WEIGHTS[client], "loss": 0.5 + client, "held-out": 9}
    assert all(len(record) == 0 for record in arrays(grid))
    assert view.neighbours[FIRST_NODE_ID] == {FIRST_NODE_ID + c for c in range(1, 5)}


def arrays(grid):
    return [record for reply in grid.received for record in reply.content.array_records.values()]


def test_two_clients_hold_the_same_secret():
    grid = Losing(app(), 3)
    collect(grid, messages(range(3)), METRICS, settings=DEFAULTS)
    secrets = {node: pairwise_secrets(grid._contexts[node]) for node in grid.get_node_ids()}
    assert all(secrets[a][b] == secrets[b][a] for a in secrets for b in secrets if a != b)
    assert len({secret for own in secrets.values() for secret in own.values()}) == 3
