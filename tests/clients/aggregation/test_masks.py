"""Masks cancel in pairs, look uniform, and keys serve one purpose only."""

import pickle  # noqa: TID251  # that Ray can ship a key ring, nothing is loaded from outside

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from clients.aggregation import masks
from clients.aggregation.masks import TamperedError, about

KEY = bytes(range(32))


def test_expansion_is_chacha20_s_key_stream():
    # RFC 8439, appendix A.1, test vector 1: key, nonce and counter all zero
    expected = bytes.fromhex("76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7")
    assert masks.expand(bytes(32), 8, 32).tobytes() == expected
    assert masks.expand(bytes(32), 4, 64).tobytes() == expected


@pytest.mark.parametrize("bits", [32, 64])
def test_a_mask_is_uniform(bits):
    stream = masks.self_mask(KEY, 1, 200_000, bits)
    assert stream.dtype == np.dtype(f"<u{bits // 8}")
    assert stats.chisquare(np.bincount(stream.view(np.uint8), minlength=256)).pvalue > 1e-6


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 5), st.sampled_from([32, 64]))
def test_pair_masks_cancel(a, b, number, bits):
    if a == b:
        return
    first, second = masks.make_key(), masks.make_key()
    one = masks.pair_mask(first, masks.public_key(second), (a, b), number, 9, bits)
    other = masks.pair_mask(second, masks.public_key(first), (b, a), number, 9, bits)
    assert not (one + other).any() and one.any()
    # what the server computes for a dropped client from its key is what the survivor added
    np.testing.assert_array_equal(masks.pair_mask(first, masks.public_key(second), (b, a), number, 9, bits), other)


def test_masks_differ_between_rounds_and_kinds():
    private, public = masks.make_key(), masks.public_key(masks.make_key())
    made = [masks.pair_mask(private, public, (0, 1), number, 4, 64) for number in (1, 2)]
    made += [masks.self_mask(KEY, number, 4, 64) for number in (1, 2)] + [masks.expand(KEY, 4, 64)]
    assert len({m.tobytes() for m in made}) == 5


def test_a_sealed_message_opens_for_its_context_only():
    sealed = masks.seal(KEY, b"share", about("shares", 1, 2))
    assert masks.unseal(KEY, sealed, about("shares", 1, 2)) == b"share"
    assert len(sealed) == len(b"share") + masks.SEALING_BYTES and b"share" not in sealed
    assert sealed != masks.seal(KEY, b"share", about("shares", 1, 2))
    for wrong in (sealed[:-1] + bytes([sealed[-1] ^ 1]), sealed[:20]):
        with pytest.raises(TamperedError):
            masks.unseal(KEY, wrong, about("shares", 1, 2))
    with pytest.raises(TamperedError):
        masks.unseal(KEY, sealed, about("shares", 1, 3))


def test_signatures_and_degenerate_keys():
    rings = masks.make_keyrings(2)
    signature = masks.sign(rings[0].private, b"keys")
    masks.verify(rings[1].public[0], signature, b"keys")
    for public, message in ((rings[1].public[1], b"keys"), (rings[1].public[0], b"other")):
        with pytest.raises(TamperedError):
            masks.verify(public, signature, message)
    with pytest.raises(TamperedError, match="degenerate"):
        masks.agree(masks.make_key(), bytes(32), b"")


def test_a_key_ring_travels_and_does_not_print_its_key():
    ring = masks.make_keyrings(3)[1]
    assert pickle.loads(pickle.dumps(ring)) == ring
    assert ring.private.hex() not in repr(ring) and repr(ring.private) not in repr(ring)
