"""Random numbers that are addressed, not consumed: a key and a position give the bits.

The generator is Philox4x32-10 (Salmon et al., SC'11): a counter of 128 bits through ten rounds of
two 32-bit multiplications, tested to be indistinguishable from random by BigCrush, and vectorised
by LLVM to 2 ns for 128 bits. A 128-bit key is a blake2b hash of (seed, epoch, fingerprint,
purpose): 64 bits of it are Philox's key, 64 bits are the upper half of the counter, and the
position is the lower half. Seed and epoch are hashed, never added: seed 0 epoch 1 and seed 1
epoch 0 share nothing.
"""

import hashlib
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tql.jit import device, kernel

Uint64s: TypeAlias = NDArray[np.uint64]
Int64s: TypeAlias = NDArray[np.int64]

ORDER_VERSION: Final = "v1"  # a change in anything that a seed leads to changes this


@dataclass(frozen=True, slots=True)
class Key:
    """128 bits: `low` keys the rounds, `high` is the upper half of the counter."""

    low: int
    high: int

    def array(self) -> Uint64s:
        """What kernels take: uint64 (3,), both halves of `low`, then `high`."""
        return np.array([self.low & 0xFFFFFFFF, self.low >> 32, self.high], np.uint64)


def stream_key(seed: int, epoch: int | None, fingerprint: str, purpose: str) -> Key:
    """The key of one stream of random numbers; `epoch` None is the same in every epoch."""
    assert "\0" not in fingerprint and "\0" not in purpose
    text = "\0".join(
        [ORDER_VERSION, str(seed), "" if epoch is None else str(epoch), fingerprint, purpose]
    )
    digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
    return Key(int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little"))


def pairs(key: Key, positions: Int64s) -> tuple[Uint64s, Uint64s]:
    """Two independent uniform uint64 for each position."""
    if PAIRS.pays(150.0 * positions.size):
        a, b = np.empty(positions.size, np.uint64), np.empty(positions.size, np.uint64)
        PAIRS(key.array(), np.ascontiguousarray(positions), a, b)
        return a, b
    return philox_twin(key, positions)


def seeds(key: Key, rows: Int64s, copies: Int64s) -> Uint64s:
    """A uint64 for each (row, copy): what a transform seeds its own generator with."""
    if SEEDS.pays(150.0 * rows.size):
        out = np.empty(rows.size, np.uint64)
        SEEDS(key.array(), np.ascontiguousarray(rows), np.ascontiguousarray(copies), out)
        return out
    return philox_twin(key, copies, rows)[0]


# -- NumPy ----------------------------------------------------------------------------------------


def philox_twin(key: Key, positions: Int64s, salt: Int64s | None = None) -> tuple[Uint64s, Uint64s]:
    """What `philox` returns, for every position; `salt` (n,) is folded into the upper counter."""
    t = positions.astype(np.uint64)
    high = np.full(t.size, key.high, np.uint64)
    if salt is not None:
        high ^= salt.astype(np.uint64)
    c0, c1, c2, c3 = t & MASK, t >> HALF, high & MASK, high >> HALF
    k0, k1 = key.low & 0xFFFFFFFF, key.low >> 32
    for _ in range(10):
        a, b = MUL_0 * c0, MUL_1 * c2
        c0, c1, c2, c3 = (
            (b >> HALF) ^ c1 ^ np.uint64(k0),
            b & MASK,
            (a >> HALF) ^ c3 ^ np.uint64(k1),
            a & MASK,
        )
        k0, k1 = (k0 + int(_WEYL_0)) & 0xFFFFFFFF, (k1 + int(_WEYL_1)) & 0xFFFFFFFF
    return c0 | (c1 << HALF), c2 | (c3 << HALF)


def high_product_twin(a: Uint64s, b: Uint64s) -> Uint64s:
    """The upper 64 bits of the products of two arrays."""
    ah, al, bh, bl = a >> HALF, a & MASK, b >> HALF, b & MASK
    middle = ah * bl + ((al * bl) >> HALF)
    other = al * bh + (middle & MASK)
    high: Uint64s = ah * bh + (middle >> HALF) + (other >> HALF)
    return high


# -- kernels --------------------------------------------------------------------------------------

MASK: Final = np.uint64(0xFFFFFFFF)
HALF: Final = np.uint64(32)
MUL_0: Final = np.uint64(0xD2511F53)
MUL_1: Final = np.uint64(0xCD9E8D57)
_WEYL_0: Final = np.uint64(0x9E3779B9)
_WEYL_1: Final = np.uint64(0xBB67AE85)


@device
def philox(t: Any, high: Any, k0: Any, k1: Any) -> Any:
    """Two uint64 of position `t`; all arguments are uint64, k0 and k1 below 2^32."""
    c0 = t & MASK
    c1 = t >> HALF
    c2 = high & MASK
    c3 = high >> HALF
    for _ in range(10):
        a = MUL_0 * c0
        b = MUL_1 * c2
        c0 = (b >> HALF) ^ c1 ^ k0
        c1 = b & MASK
        c2 = (a >> HALF) ^ c3 ^ k1
        c3 = a & MASK
        k0 = (k0 + _WEYL_0) & MASK
        k1 = (k1 + _WEYL_1) & MASK
    return c0 | (c1 << HALF), c2 | (c3 << HALF)


@device
def high_product(a: Any, b: Any) -> Any:
    """The upper 64 bits of a product: `a` of 2^64 parts of [0, b) when `a` is uniform."""
    ah = a >> HALF
    al = a & MASK
    bh = b >> HALF
    bl = b & MASK
    middle = ah * bl + ((al * bl) >> HALF)
    other = al * bh + (middle & MASK)
    return ah * bh + (middle >> HALF) + (other >> HALF)


@kernel("u64[], i64[], u64[], u64[]")
def PAIRS(key: Uint64s, positions: Int64s, a: Uint64s, b: Uint64s) -> None:
    """a[i], b[i] = the two numbers of positions[i]."""
    k0 = key[0]
    k1 = key[1]
    high = key[2]
    for i in range(positions.size):
        x, y = philox(np.uint64(positions[i]), high, k0, k1)
        a[i] = x
        b[i] = y


@kernel("u64[], i64[], i64[], u64[]")
def SEEDS(key: Uint64s, rows: Int64s, copies: Int64s, out: Uint64s) -> None:
    """out[i] = the number of position copies[i] in the stream of rows[i]."""
    k0 = key[0]
    k1 = key[1]
    high = key[2]
    for i in range(rows.size):
        x, _ = philox(np.uint64(copies[i]), high ^ np.uint64(rows[i]), k0, k1)
        out[i] = x
