"""Random numbers addressed by (seed, purpose, position): no state, any order, any machine.

`random()` in a query takes its numbers here; the planner has its own keyed order.
"""

from hashlib import blake2b
from typing import Final

import numpy as np
from numpy.typing import NDArray

STEP: Final = np.uint64(0x9E3779B97F4A7C15)
FIRST: Final = np.uint64(0xBF58476D1CE4E5B9)
SECOND: Final = np.uint64(0x94D049BB133111EB)


def random_key(seed: int, site: int) -> int:
    """The key of one call of `random()` in a query, an unsigned integer of 64 bits."""
    digest = blake2b(f"tql random {seed} {site}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def random31(seed: int, site: int, positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Uniform int64 in [0, 2^31) for each position; `site` separates the calls of one query.

    SplitMix64 (Steele, Lea, Flood, OOPSLA 2014) over a key from BLAKE2b: the position is the
    counter, so the number of a row depends on nothing but seed, call and row.
    """
    key = np.uint64(random_key(seed, site))
    with np.errstate(over="ignore"):
        x = (positions.astype(np.uint64) + np.uint64(1)) * STEP + key
        x = (x ^ (x >> np.uint64(30))) * FIRST
        x = (x ^ (x >> np.uint64(27))) * SECOND
        x ^= x >> np.uint64(31)
    return (x >> np.uint64(33)).astype(np.int64)
