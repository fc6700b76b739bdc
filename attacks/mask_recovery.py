"""A curious server and one colluding client against masked sums: search the seed of the one mask they do not know."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Shaped, UInt

from attacks.observation import VantageLacksError

NAME = "mask-recovery"
SEED_BITS = 28  # of 32: a pairwise key is base64 text, whose bytes all start with a zero bit
X25519_BITS = 128  # work to find a key agreed on by X25519, and then any mask of a cipher keyed with it
BATCH = 2**15  # seeds at a time: they stay in the processor's second cache
_MARGIN_BITS = 20  # a wrong seed among all of them passes for right with probability 2^-20 at most
_M = 397  # how far ahead the recurrence of MT19937 looks (Matsumoto and Nishimura 1998); its state has 624 words

Residues = UInt[np.ndarray, " values"]
Seeds = UInt[np.ndarray, " seeds"]
Integers = Shaped[np.ndarray, "*shape"]
Words = UInt[np.ndarray, "words seeds"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskedRound:
    """What the server holds after one round of SecAgg or SecAgg+, by node, and what colluding clients gave it.

    A masked vector starts with the quantised weight; the update follows, quantised to 0..levels. A client adds the mask
    it shares with a neighbour of a lower node id and subtracts that of a higher one, modulo 2**modulus_bits.
    """

    masked: Mapping[int, Shaped[np.ndarray, " values"]]  # integers
    neighbours: Mapping[int, frozenset[int]]  # with whom a client shares a mask
    self_seeds: Mapping[int, bytes]  # of survivors' own masks, which the last stage opens
    secrets: Mapping[int, Mapping[int, bytes]]  # colluding client -> node -> key of their mask
    modulus_bits: int = 32
    levels: int = 2**22  # Flower's quantization_range
    clipping_range: float = 8.0


@dataclass(frozen=True, slots=True)
class Masking:
    """How a protocol makes a mask from a key: public. `bits` is the work factor, log2, of finding a mask."""

    stream: Callable[[bytes, int], Shaped[np.ndarray, " values"]]  # key, length -> integers
    bits: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """The victim's update (broadcast minus its weights), or None; and what the search took."""

    update: Float[np.ndarray, " params"] | None
    searched: int  # seeds tried
    effective_bits: int  # log2 of the seeds, or keys, there are
    seeds_per_second: float  # on one core
    cpu_seconds: float


def mersenne_mask(key: bytes, length: int) -> Int[np.ndarray, " values"]:
    """Flower 1.41's mask: MT19937, seeded with the 32-bit words of the key XORed together; below 2**32 - 1."""
    return _mersenne(fold(key), length)


FLOWER = Masking(mersenne_mask, SEED_BITS)


def recover(seen: MaskedRound, victim: int, search: range = range(2**SEED_BITS), masking: Masking = FLOWER) -> Recovery:
    """Undo the victim's masks: its own and the colluders' are known, the seed of the remaining one is searched.

    A seed is right if what it unmasks is concentrated in 0..levels instead of spread over the modulus. `search` are
    positions among the 2**28 seeds that Flower's keys fold to; the whole range finds the update of any honest client
    all of whose neighbours but one collude. Vantage: the server and those colluders; unit: client. Issue #7522 of
    flwr reports the weakness.

    Against masks from a cipher with a 256-bit key (`masking` then says how the known ones are taken off) the same
    search goes through and finds nothing; finding the key instead takes about 2^128 steps (X25519_BITS).

    Raises:
        VantageLacksError: the victim dropped out, more than one of its masks is unknown, or its vector is too short to
            tell a right seed by.
    """
    started = time.process_time()
    residue, unknown = strip(seen, victim, masking)
    if len(unknown) > 1:
        raise VantageLacksError(
            f"{len(unknown)} masks of node {victim} are unknown (shared with {', '.join(map(str, unknown))}), and the "
            "search takes one: all of its other neighbours have to collude"
        )
    values, searched = (residue, 0) if not unknown else _search(residue, _sign(victim, unknown[0]), seen, search)
    seconds = time.process_time() - started
    return Recovery(
        update=None if values is None else _dequantised(values, seen),
        searched=searched,
        effective_bits=masking.bits,
        seeds_per_second=searched / seconds,
        cpu_seconds=seconds,
    )


def strip(seen: MaskedRound, victim: int, masking: Masking = FLOWER) -> tuple[Residues, list[int]]:
    """The victim's vector without the masks whose keys are known, as uint64, and the neighbours whose masks remain."""
    if victim not in seen.masked or victim not in seen.self_seeds:
        raise VantageLacksError(
            f"node {victim} dropped out of this round; there are: {', '.join(map(str, seen.masked))}"
        )
    residue = seen.masked[victim].astype(np.uint64)
    length, unknown = len(residue), []
    residue = _minus(residue, masking.stream(seen.self_seeds[victim], length), 1, seen)
    for other in sorted(seen.neighbours[victim]):
        if other in seen.secrets:
            mask = masking.stream(seen.secrets[other][victim], length)
            residue = _minus(residue, mask, _sign(victim, other), seen)
        else:
            unknown.append(other)
    return residue, unknown


def fold(key: bytes) -> int:
    """The 32-bit seed that Flower makes of a key whose length is a multiple of 4 bytes."""
    return int(np.bitwise_xor.reduce(np.frombuffer(key, "<u4")))


def spread(positions: Int[np.ndarray, " seeds"]) -> Seeds:
    """The seeds at these positions among the 2**28: seven bits go into each byte, and its top bit stays zero."""
    parts = [((positions >> 7 * byte) & 0x7F) << 8 * byte for byte in range(4)]
    seeds: Seeds = np.sum(parts, axis=0).astype(np.uint32)
    return seeds


def first_words(seeds: Seeds, count: int = 2) -> Words:
    """The first outputs of MT19937 for many seeds at once.

    The first two need words 0 to 2, 397 and 398 of the seeded state, so the 225 after them are never made.
    """
    kept = _seeded_state(seeds, {*range(count + 1), *range(_M, _M + count)})
    return np.stack([_tempered(_twisted(kept[k], kept[k + 1], kept[k + _M])) for k in range(count)])


def _seeded_state(seeds: Seeds, wanted: set[int]) -> dict[int, Seeds]:
    """The wanted words of the state: x[i] = 1812433253 (x[i-1] ^ (x[i-1] >> 30)) + i modulo 2**32."""
    word, shifted, kept = seeds.astype(np.uint32), np.empty(len(seeds), np.uint32), {}
    for i in range(max(wanted) + 1):
        if i > 0:
            np.right_shift(word, np.uint32(30), out=shifted)
            np.bitwise_xor(word, shifted, out=shifted)
            np.multiply(shifted, np.uint32(1812433253), out=shifted)
            np.add(shifted, np.uint32(i), out=word)
        if i in wanted:
            kept[i] = word.copy()
    return kept


def _twisted(here: Seeds, following: Seeds, ahead: Seeds) -> Seeds:
    mixed = (here & np.uint32(0x80000000)) | (following & np.uint32(0x7FFFFFFF))
    twisted: Seeds = ahead ^ (mixed >> np.uint32(1)) ^ ((mixed & np.uint32(1)) * np.uint32(0x9908B0DF))
    return twisted


def _tempered(word: Seeds) -> Seeds:
    word = word ^ (word >> np.uint32(11))
    word = word ^ ((word << np.uint32(7)) & np.uint32(0x9D2C5680))
    word = word ^ ((word << np.uint32(15)) & np.uint32(0xEFC60000))
    tempered: Seeds = word ^ (word >> np.uint32(18))
    return tempered


def _search(residue: Residues, sign: int, seen: MaskedRound, search: range) -> tuple[Residues | None, int]:
    """What the first right seed unmasks, and how many were tried.

    Two values sort out all but one seed in a million; whoever passes is tried on the whole vector. Drawing below
    2**32 - 1, Flower skips the output 2**32 - 1: with probability 2^-31 that hides the right seed.
    """
    _refuse_short(residue, seen)
    tried = 0
    for seeds in _batches(search):
        tried += len(seeds)
        heads = _minus(residue[:2, None], first_words(seeds), sign, seen)
        for seed in seeds[(heads <= seen.levels).all(axis=0)]:
            values = _minus(residue, _mersenne(int(seed), len(residue)), sign, seen)
            if (values <= seen.levels).all():
                return values, tried
    return None, tried


def _refuse_short(residue: Residues, seen: MaskedRound) -> None:
    per_value = seen.modulus_bits - math.log2(seen.levels + 1)
    needed = math.ceil((SEED_BITS + _MARGIN_BITS) / per_value)
    if len(residue) < needed:
        raise VantageLacksError(f"{len(residue)} values are too few to tell a right seed by; it takes {needed}")


def _batches(search: range) -> Iterator[Seeds]:
    for start in range(0, len(search), BATCH):
        part = search[start : start + BATCH]
        yield spread(np.arange(part.start, part.stop, part.step, dtype=np.int64))


def _mersenne(seed: int, length: int) -> Int[np.ndarray, " values"]:
    return np.random.RandomState(seed).randint(0, 2**32 - 1, length, dtype=np.int64)


def _minus(vector: Integers, mask: Integers, sign: int, seen: MaskedRound) -> Integers:
    """Vector minus sign times mask, modulo 2**modulus_bits; uint64 wraps round at a multiple of that."""
    mask = mask.astype(np.uint64)
    difference = vector - mask if sign > 0 else vector + mask
    reduced: Integers = difference & np.uint64(2**seen.modulus_bits - 1)
    return reduced


def _sign(node: int, other: int) -> int:
    return 1 if node > other else -1


def _dequantised(values: Residues, seen: MaskedRound) -> Float[np.ndarray, " params"]:
    """The update: what was quantised is weight / max_weight times it, and the weight comes first."""
    share = float(values[0]) / seen.levels
    step = 2 * seen.clipping_range / seen.levels
    update: Float[np.ndarray, " params"] = (values[1:].astype(np.float64) * step - seen.clipping_range) / share
    return update
