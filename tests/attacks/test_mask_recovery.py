"""Recovering an update from Flower's masks: the generator is Flower's, and the search finds the seed, or nothing."""

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.secure_aggregation.crypto.symmetric_encryption import generate_shared_key
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen
from flwr.supercore.primitives.asymmetric import generate_key_pairs
from hypothesis import given
from hypothesis import strategies as st

from attacks.mask_recovery import (
    BATCH,
    SEED_BITS,
    X25519_BITS,
    MaskedRound,
    Masking,
    first_words,
    fold,
    mersenne_mask,
    recover,
    spread,
    strip,
)
from attacks.observation import VantageLacksError
from clients.aggregation.flower import FlowerSecAggPlus, pairwise_secrets
from server.aggregation.flower import SecAggPlusSettings, collect
from sim.engines.inprocess import FIRST_NODE_ID, InProcessGrid

pytestmark = pytest.mark.usefixtures("task_identity")
SIZE = 2000
WEIGHTS = [80, 100, 60, 90]
BROADCAST = np.random.default_rng(0).normal(size=SIZE).astype(np.float32)
SETTINGS = SecAggPlusSettings(max_weight=100)
STEP = 2 * SETTINGS.clipping_range / SETTINGS.quantization_range


def delta(client):
    return (np.random.default_rng(100 + client).normal(size=SIZE) * 0.045).astype(np.float32)


def run_round(clients=3, colluders=(2,)):
    """One real round: what its server holds, with what the colluders hand over, and every client's secrets."""
    app, views = ClientApp(mods=[FlowerSecAggPlus(seed=1)]), []

    @app.train()
    def fit(message, context):
        client = int(context.node_config["partition-id"])
        after = message.content["arrays"].to_numpy_ndarrays()[0] - delta(client)
        metrics = MetricRecord({"num-examples": WEIGHTS[client]})
        return Message(RecordDict({"arrays": ArrayRecord({"w": Array(after)}), "metrics": metrics}), reply_to=message)

    grid = InProcessGrid(app, clients)
    content = RecordDict({"arrays": ArrayRecord({"w": Array(BROADCAST)}), "config": ConfigRecord({"server-round": 1})})
    messages = [Message(content, dst_node_id=node, message_type="train") for node in grid.get_node_ids()]
    collect(grid, messages, (), settings=SETTINGS, tap=views.append)
    secrets = {node: pairwise_secrets(context) for node, context in grid._contexts.items()}
    seen = MaskedRound(
        masked=views[0].masked,
        neighbours=views[0].neighbours,
        self_seeds=views[0].self_seeds,
        secrets={FIRST_NODE_ID + c: secrets[FIRST_NODE_ID + c] for c in colluders},
        levels=SETTINGS.quantization_range,
        clipping_range=SETTINGS.clipping_range,
    )
    return seen, secrets


def position(key):
    """Where a key's seed stands in the search: the seven low bits of each of its bytes."""
    return sum((fold(key) >> 8 * byte & 0x7F) << 7 * byte for byte in range(4))


@pytest.fixture(scope="module")
def round_of_three(task_identity):
    return run_round()


@given(st.binary(min_size=32, max_size=44).filter(lambda key: len(key) % 4 == 0), st.integers(1, 1500))
def test_the_mask_is_flower_s(key, length):
    first, rest = pseudo_rand_gen(key, 2**32, [(1,), (length,)])
    assert np.array_equal(mersenne_mask(key, length + 1), np.concatenate([first, rest]))
    shaped = pseudo_rand_gen(key, 2**32, [(1,), (2, 3), (), (4,)])
    assert np.array_equal(mersenne_mask(key, 12), np.concatenate([part.ravel() for part in shaped]))


def test_first_words_are_numpy_s():
    seeds = np.concatenate([[0, 1, 5489, 2**32 - 1], np.random.default_rng(0).integers(2**32, size=200)])
    theirs = [np.random.RandomState(int(seed)).randint(0, 2**32 - 1, 5, dtype=np.int64) for seed in seeds]
    assert np.array_equal(first_words(seeds.astype(np.uint32), 5), np.transpose(theirs))


def test_every_pairwise_key_folds_to_28_bits():
    keys = [generate_shared_key(generate_key_pairs()[0], generate_key_pairs()[1]) for _ in range(150)]
    seeds = [fold(key) for key in keys]
    assert np.bitwise_or.reduce(seeds) == 0x7F7F7F7F
    assert spread(np.array([position(key) for key in keys])).tolist() == seeds
    assert spread(np.array([0, 1, 2**7, 2**SEED_BITS - 1])).tolist() == [0, 1, 256, 0x7F7F7F7F]


@pytest.mark.parametrize(("victim", "other"), [(0, 1), (1, 0)])
def test_one_colluder_of_three_gives_up_an_update(round_of_three, victim, other):
    seen, secrets = round_of_three
    victim_node, other_node = FIRST_NODE_ID + victim, FIRST_NODE_ID + other
    right = position(secrets[victim_node][other_node])
    start = right & ~(2**14 - 1)
    found = recover(seen, victim_node, range(start, start + 2**14))
    assert found.update is not None
    assert np.abs(found.update - delta(victim)).max() < 3 * STEP * SETTINGS.max_weight / WEIGHTS[victim]
    assert np.corrcoef(found.update, delta(victim))[0, 1] > 0.9999
    assert found.effective_bits == 28 and 0 < found.searched <= 2**14 and found.searched % min(BATCH, 2**14) == 0
    assert found.cpu_seconds > 0 and found.seeds_per_second == pytest.approx(found.searched / found.cpu_seconds)


def test_without_the_right_seed_nothing_is_found(round_of_three):
    seen, secrets = round_of_three
    right = position(secrets[FIRST_NODE_ID][FIRST_NODE_ID + 1])
    start = (right & ~(2**14 - 1)) ^ 2**14
    found = recover(seen, FIRST_NODE_ID, range(start, start + 2**14))
    assert found.update is None and found.searched == 2**14
    assert recover(seen, FIRST_NODE_ID, range(right + 1, right + 100)).update is None
    assert recover(seen, FIRST_NODE_ID, range(right, right + 1)).update is not None


def test_where_all_neighbours_collude_there_is_nothing_to_search():
    seen, _ = run_round(clients=4, colluders=(1, 2, 3))
    found = recover(seen, FIRST_NODE_ID)
    assert found.searched == 0 and np.corrcoef(found.update, delta(0))[0, 1] > 0.9999


def test_two_unknown_masks_are_one_too_many(round_of_three):
    seen, _ = run_round(clients=4, colluders=(3,))
    with pytest.raises(VantageLacksError, match="2 masks of node 1000 are unknown"):
        recover(seen, FIRST_NODE_ID, range(10))
    with pytest.raises(VantageLacksError, match="node 7 dropped out"):
        recover(round_of_three[0], 7)


def test_what_remains_after_stripping_looks_like_noise(round_of_three):
    residue, unknown = strip(round_of_three[0], FIRST_NODE_ID)
    assert unknown == [FIRST_NODE_ID + 1]
    assert abs(residue.mean() / 2**32 - 0.5) < 6 / np.sqrt(12 * SIZE)
    assert abs(np.corrcoef(residue[1:], delta(0))[0, 1]) < 6 / np.sqrt(SIZE)


def chacha(key, length, bits):
    stream = Cipher(ChaCha20(key, bytes(16)), None).encryptor().update(bytes(length * bits // 8))
    return np.frombuffer(stream, f"<u{bits // 8}")


def masked_with(stream, bits, keys, length=200):
    """A vector as Flower quantises it, under a mask of its own, one known to the colluder, and one that is not."""
    levels = 2 ** (bits - 10)
    plain = np.random.default_rng(1).integers(levels // 2 - 9, levels // 2 + 9, length).astype(np.uint64)
    own, known, unknown = (stream(key, length).astype(np.uint64) for key in keys)
    masked = (plain + own + known - unknown) & np.uint64(2**bits - 1)
    seen = MaskedRound(
        masked={2: masked},
        neighbours={2: frozenset({1, 3})},
        self_seeds={2: keys[0]},
        secrets={1: {2: keys[1]}},
        modulus_bits=bits,
        levels=levels,
    )
    return seen, plain


@pytest.mark.parametrize("bits", [32, 64])
def test_masks_of_a_keyed_cipher_stand(bits):
    """The attacker takes off what it knows, with the protocol's own cipher, and searches the rest as it did."""
    keys = [bytes([number]) * 32 for number in (1, 2, 3)]
    masking = Masking(lambda key, length: chacha(key, length, bits), X25519_BITS)
    seen, plain = masked_with(masking.stream, bits, keys)
    found = recover(seen, 2, range(2**13), masking)
    assert found.update is None and found.searched == 2**13 and found.effective_bits == 128
    residue, unknown = strip(seen, 2, masking)
    assert unknown == [3]
    assert np.array_equal((residue + masking.stream(keys[2], 200)) & np.uint64(2**bits - 1), plain)


def test_the_same_vector_under_flower_s_masks_falls():
    keys = [b"\x01\x02\x03\x04" * 8, b"abcd" * 11, b"\x05\x07\x00\x00" + bytes(28)]
    seen, plain = masked_with(mersenne_mask, 32, keys)
    found = recover(seen, 2, range(position(keys[2]) + 1))
    assert found.update is not None and np.allclose(found.update, (plain[1:] * 16 / 2**22 - 8) * 2**22 / plain[0])


def test_a_vector_too_short_to_tell_is_refused():
    keys = [bytes([number]) * 32 for number in (1, 2, 3)]
    with pytest.raises(VantageLacksError, match="4 values are too few to tell a right seed by; it takes 5"):
        recover(masked_with(mersenne_mask, 32, keys, length=4)[0], 2, range(5))
