"""A permutation of 0 … n - 1 that is computed, not stored: a Feistel network on an a x b grid.

x = (l, r) with b = 2^k near √n and a = ⌈n / b⌉; the rounds add a keyed hash of one half to the
other, l modulo a and r modulo b, so each round is invertible; a result of n or more is sent through
again. As a·b - n < b, only about one in √n is. A power of two on one side costs no division and
keeps the grid within 1 : 2 of square; the power-of-four grids in use elsewhere walk up to four
times, and one widely used implementation of them loses a row at 4^k + 1. Six rounds by default,
eight cost a third more.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from tql.jit import device, kernel
from tql.planner.rng import (
    HALF,
    MASK,
    MUL_0,
    MUL_1,
    Int64s,
    Key,
    Uint64s,
    high_product_twin,
    philox_twin,
)

LARGEST: Final = 1 << 62
ROUNDS: Final = (6, 8)  # what is offered, the first unless told otherwise
_TABLE_BELOW: Final = 200  # so small a grid does not mix: the table is a Fisher-Yates shuffle


@dataclass(frozen=True, slots=True, eq=False)
class Permutation:
    """A keyed bijection of 0 … n - 1.

    keys   uint64 (rounds,), one key for each round
    table  int64 (n,) the permutation itself where n < 200, else None
    """

    n: int
    bits: int  # b = 2^bits
    keys: Uint64s
    table: Int64s | None

    @property
    def a(self) -> int:
        return -(-self.n >> self.bits)

    def pays(self, count: int) -> bool:
        """Whether to use the kernel for `count` positions."""
        return self.table is None and PERMUTE.pays(250.0 * count)

    def apply(self, positions: Int64s, fast: bool) -> None:
        """Replace each position, 0 ≤ p < n, by what it is mapped to."""
        if self.table is not None:
            positions[:] = self.table[positions]
        elif fast:
            PERMUTE(self.keys, self.n, self.bits, positions)
        else:
            permute_twin(self.keys, self.n, self.bits, positions)

    def __call__(self, positions: Int64s) -> Int64s:
        """What each position is mapped to; int64 (m,)."""
        out = positions.copy()
        self.apply(out, self.pays(out.size))
        return out


def permutation(n: int, key: Key, rounds: int = ROUNDS[0]) -> Permutation:
    """The permutation of 0 … n - 1 that `key` names; n ≤ 2^62."""
    assert 0 <= n <= LARGEST and rounds % 2 == 0
    if n < _TABLE_BELOW:
        return Permutation(n, 0, np.empty(0, np.uint64), _shuffled(n, key))
    # The side that is a power of two is the one nearest to the root, in ratio.
    bits = (n - 1).bit_length() // 2
    keys, _ = philox_twin(key, np.arange(rounds, dtype=np.int64))
    return Permutation(n, bits, keys, None)


def _shuffled(n: int, key: Key) -> Int64s:
    """Fisher and Yates: each place swaps with one at or before it."""
    table = np.arange(n, dtype=np.int64)
    draws, _ = philox_twin(key, table)
    chosen = high_product_twin(draws, np.arange(1, n + 1, dtype=np.uint64))
    for i in range(n - 1, 0, -1):
        j = int(chosen[i])
        table[i], table[j] = table[j], table[i]
    return table


def permute_twin(keys: Uint64s, n: int, bits: int, positions: Int64s) -> None:
    """What `PERMUTE` does."""
    a = np.uint64(-(-n >> bits))
    shift, mask = np.uint64(bits), np.uint64((1 << bits) - 1)
    narrow = np.uint64(32 - bits)
    x = positions.astype(np.uint64)
    walking = np.arange(x.size)
    while walking.size:
        y = x[walking]
        left, right = y >> shift, y & mask
        for k in range(0, keys.size, 2):
            left = left + ((hashed_twin(right, keys[k]) * a) >> HALF)
            left = np.where(left >= a, left - a, left)
            right = (right + (hashed_twin(left, keys[k + 1]) >> narrow)) & mask
        y = (left << shift) | right
        x[walking] = y
        walking = walking[y >= np.uint64(n)]
    positions[:] = x.astype(np.int64)


def hashed_twin(x: Uint64s, key: np.uint64 | Uint64s) -> Uint64s:
    """What `hashed` returns, for every x."""
    p = (x ^ (key & MASK)) * MUL_0
    p = ((p >> HALF) ^ (p & MASK) ^ (key >> HALF)) * MUL_1
    return (p >> HALF) ^ (p & MASK)


_ONE: Final = np.uint64(1)


@device
def hashed(x: Any, key: Any) -> Any:
    """32 bits from 32 bits of `x` and a 64-bit key: two multiplications, each folded onto itself."""
    p = (x ^ (key & MASK)) * MUL_0
    p = ((p >> HALF) ^ (p & MASK) ^ (key >> HALF)) * MUL_1
    return (p >> HALF) ^ (p & MASK)


@device
def two_rounds(x: Any, key: Any, next_key: Any, a: Any, bits: Any) -> Any:
    """`x` after one round on each half; below a * 2^bits again."""
    mask = (_ONE << bits) - _ONE
    left = x >> bits
    right = x & mask
    left = left + ((hashed(right, key) * a) >> HALF)
    left = left - a if left >= a else left
    right = (right + (hashed(left, next_key) >> (HALF - bits))) & mask
    return (left << bits) | right


@kernel("u64[], i64, i64, i64[]")
def PERMUTE(keys: Uint64s, n: int, bits: int, positions: Int64s) -> None:
    """Each position becomes what the permutation maps it to."""
    shift = np.uint64(bits)
    a = np.uint64((n + (1 << bits) - 1) >> bits)
    # Round by round over the block, which the cache holds, so that the inner loop is vectorised.
    for k in range(0, keys.size, 2):
        key = keys[k]
        next_key = keys[k + 1]
        for i in range(positions.size):
            x = np.uint64(positions[i])
            positions[i] = np.int64(two_rounds(x, key, next_key, a, shift))
    for i in range(positions.size):
        while positions[i] >= n:
            for k in range(0, keys.size, 2):
                x = np.uint64(positions[i])
                positions[i] = np.int64(two_rounds(x, keys[k], keys[k + 1], a, shift))
